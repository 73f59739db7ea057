"""Every byte on disk that is not a pixel, and the check of it."""
