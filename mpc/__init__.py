"""Computes joint training: words, fixed point, masks, the protocol and its oracle.

Nothing in here sends, stores, waits or logs, and nothing in here imports another room of the project.
"""
