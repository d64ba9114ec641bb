"""Derives keyed masks, the secret order, signs and noise."""
