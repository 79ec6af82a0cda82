"""Files anywhere that fsspec reaches: list, read, and create once."""
