"""Arithmetic whose result does not depend on where, in what order or in what company it ran.

Allowed here: integer arithmetic; integer-valued floating-point sums below 2^24 (float32) or 2^53 (float64); elementwise
IEEE-754 + - x / sqrt, comparison and round-half-even, one operation a kernel; look-ups in hashed tables.
"""
