"""Checks everything that a party's jobs depend on."""
