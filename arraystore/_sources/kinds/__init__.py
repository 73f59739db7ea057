"""Sources of other kinds than folders, lists and arrays: one file a kind, and one line each in `kinds.table`."""
