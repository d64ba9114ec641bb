"""Holds identities, shakes hands for an attempt, and seals bodies."""
