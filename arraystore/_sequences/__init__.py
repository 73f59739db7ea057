"""Sequences whose items are computed when they are read: steps over any sequence, and ways to read ahead."""
