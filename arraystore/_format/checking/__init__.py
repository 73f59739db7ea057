"""The check of a store: every pixel, target and table against its digest."""
