"""Runs one job at one party over all its attempts: phases, terms, outcomes, blame, recovery."""
