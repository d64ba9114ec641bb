"""Runs all parties of a job in one process, and compares with the plaintext oracle."""
