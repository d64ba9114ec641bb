"""Counts the label by bin of all columns, correlates columns, and keeps the result."""
