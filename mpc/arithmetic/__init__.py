"""Computes with words modulo 2^64: products, fixed point, truncation."""
