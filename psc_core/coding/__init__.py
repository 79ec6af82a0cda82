"""Quantizers, probability laws, range coding and the stream container."""
