"""Serves every step: drives scripts, bounds the flow, saves checkpoints, opens weights."""
