"""Faces of the loader for frameworks: each is an extra, and none is imported before it is asked for."""
