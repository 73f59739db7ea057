"""From a tree of images to the same tree of smaller images: what is written, where, and what is done already."""
