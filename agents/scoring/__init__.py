"""Scores rows by a model that stays shared, and opens the loss of held-out rows."""
