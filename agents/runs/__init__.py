"""Runs one job at one party over all attempts: phases, terms, outcomes, blame, recovery."""
