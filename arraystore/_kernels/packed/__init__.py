"""Packed bytes become samples."""
