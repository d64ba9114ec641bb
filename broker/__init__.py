"""Moves messages: promises, two brokers that keep them, topology, seals and outbox.

Nothing in this room knows what a message means; it may import `schemas` and no other room of ours.
"""
