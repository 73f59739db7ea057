"""JPEG, the format of most images: its own decoder, with every warning heard."""
