"""Reads a store: open, order, gather, hand over."""
