"""Frames of augmented samples, which are kept for some epochs and then made anew."""
