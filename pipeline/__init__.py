"""Archives at scale: sources, shards, Ray actors, Parquet datasets."""
