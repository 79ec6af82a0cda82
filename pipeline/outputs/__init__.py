"""Pictures out of a dataset: decoded, and put where they replace nothing."""
