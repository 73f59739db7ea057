"""Checks, repairs and updates a finished store."""
