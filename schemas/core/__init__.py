"""Defines the base models, and makes texts fit to be shown."""
