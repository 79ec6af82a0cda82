"""A second decoder, written from docs/format.md alone: plain Python and numpy, nothing of this project."""
