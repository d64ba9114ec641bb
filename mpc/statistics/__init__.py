"""Counts labels by bins of all parties, and correlates columns, without any I/O."""
