"""Plays the parts of data parties and of the helper, and releases a model."""
