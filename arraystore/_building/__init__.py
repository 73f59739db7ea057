"""Builds a store: plan, decode, claim, publish."""
