"""Compiled loops: numbers in, numbers out."""
