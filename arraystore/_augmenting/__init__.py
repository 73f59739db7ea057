"""From a slot to an image of a batch."""
