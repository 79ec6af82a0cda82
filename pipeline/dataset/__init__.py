"""The Parquet dataset: plan, write, commit, read, ask."""
