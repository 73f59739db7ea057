"""From the bytes of one image to its slot."""
