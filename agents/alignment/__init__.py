"""Finds the rows that all data parties have, counts and encodes them."""
