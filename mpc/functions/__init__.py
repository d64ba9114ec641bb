"""Defines links, hidden activations, labels, and the elementary functions beneath."""
