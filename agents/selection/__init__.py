"""Selects columns by filters, and by the held-out losses of a sequence of jobs."""
