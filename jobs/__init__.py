"""What a user types: the `psc` command, one short file a verb."""
