"""From pixels to the bytes of a file, with the color profile of its source."""
