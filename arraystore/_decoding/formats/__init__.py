"""All other formats: for each its header, and its pixels by the decoder that has them right."""
