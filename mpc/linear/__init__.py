"""Trains generalised linear models, by role, as pure functions."""
