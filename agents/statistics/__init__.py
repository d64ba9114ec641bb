"""Counts the label by bin of all parties' columns, and correlates columns."""
