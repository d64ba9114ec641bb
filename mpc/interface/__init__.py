"""Defines what roles ask of whoever drives them: scripts, and rows batch by batch."""
