"""Structured PSC, the default profile: many coefficients of a lapped basis measured at once, where samples disagree."""
