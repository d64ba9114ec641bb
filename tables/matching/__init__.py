"""Reads ids as text, and computes how parties find their common rows."""
