"""TIFF: its header, its strips and tiles, and its colors."""
