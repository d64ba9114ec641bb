"""Runs one attempt of a job at one party: policy, acceptance, terms and phases."""
