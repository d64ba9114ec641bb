"""Trains networks, by role, as scripts without any I/O."""
