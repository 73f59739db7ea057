"""Builds of several stores at once: each image is read and decoded once for all of them."""
