"""Writes the page about a finished job."""
