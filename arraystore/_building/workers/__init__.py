"""The threads and processes that fill slots."""
