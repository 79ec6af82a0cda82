"""Parts of `psc bench rd`."""
