"""Holds the state of one attempt: context, checkpoints, table snapshot, history."""
