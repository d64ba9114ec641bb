"""Defines the error of an agent that does not answer; imports nothing else."""

from tercet.schemas.core.error import TercetError


class NoAgent(TercetError):
    """Says that the party's agent does not answer, and what to do."""
