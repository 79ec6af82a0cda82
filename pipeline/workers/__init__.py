"""Ray: what runs on its workers, and the driver that keeps them busy."""
