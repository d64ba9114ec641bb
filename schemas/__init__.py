"""Describes jobs, settings, one model for each message kind, and the wire format.

Nothing here knows how a message travels, what it is for in the mathematics, or who decides on it.
"""
