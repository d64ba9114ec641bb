"""A party's own tables: reading them, turning them into numbers, and a digest of their ids.

Nothing here talks to another party or knows the protocol; it imports `schemas` and nothing else of ours.
"""
