"""Keeps the broker's promises in one process, for simulation and tests."""
