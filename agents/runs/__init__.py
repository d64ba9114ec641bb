"""Runs one job at one party over all attempts: carries out what its machine decides."""
