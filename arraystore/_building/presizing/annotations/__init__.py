"""Boxes, keypoints and tables of images that become smaller. What is not understood is refused, never copied."""
