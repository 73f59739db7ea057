"""Builds in progress: their folder with its lock, key and ledger."""
