"""Measures a model, and trains plaintext models to compare it with."""
