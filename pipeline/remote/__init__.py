"""Jobs on a cluster that this process is no part of."""
