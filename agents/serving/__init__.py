"""Scores single rows while a customer waits, together with partners."""
