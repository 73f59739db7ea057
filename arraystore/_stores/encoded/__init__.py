"""The medium of JPEGs: a folder of plain NumPy files, in which slots are JPEGs one after the other."""
