"""Offers Tercet to Python programs and notebooks: parties, jobs, simulations, results."""
