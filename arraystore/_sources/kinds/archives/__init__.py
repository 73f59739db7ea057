"""Archives as sources: zip and tar files, and shards of WebDataset, read in place."""
