"""The media: where slots lie, under construction or open."""
