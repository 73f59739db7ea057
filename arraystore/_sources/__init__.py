"""From what the caller passes to a manifest: the list of images and their targets."""
