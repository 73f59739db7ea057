"""Stores that are read while they are filled."""
