"""Tables as sources: files, data frames, Parquet files that hold images, and data sets of Hugging Face."""
