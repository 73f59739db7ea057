"""Shows a store to people."""
