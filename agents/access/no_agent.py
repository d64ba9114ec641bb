"""Defines the error of an agent that does not answer; imports nothing else."""


class NoAgent(Exception):
    """Says that the party's agent does not answer, and what to do."""
