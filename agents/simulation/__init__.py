"""Runs all parties of a job in one process and compares them with the plaintext oracle."""
