"""Turns columns and labels into numbers, and back."""
