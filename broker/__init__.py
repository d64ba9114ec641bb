"""How messages travel: the promises, two brokers that keep them, the topology, identities and seals, and the outbox.

Nothing in this room knows what a message means; it may import `schemas` and no other room of ours.
"""
