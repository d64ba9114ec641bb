"""Reads a party's own tables, turns them into numbers, and hashes their ids.

Nothing here talks to another party or knows the protocol; it imports `schemas` and nothing else of ours.
"""
