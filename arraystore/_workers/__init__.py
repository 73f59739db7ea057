"""The threads and processes that work ahead of the one thread that takes what they make."""
