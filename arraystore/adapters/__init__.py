"""Adapters of the loader for frameworks. Each is an extra, and loads its framework when it is imported or used."""
