"""Scores rows by a model that stays shared, and sums the loss of held-out rows."""
