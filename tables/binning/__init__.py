"""Divides a party's own columns into bins, and finds the bin of each row."""
