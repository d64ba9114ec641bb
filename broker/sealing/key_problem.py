"""Defines the error of a key that cannot be used; imports nothing else."""

from tercet.schemas.core.error import TercetError


class KeyProblem(TercetError, ValueError):
    """A key that cannot be used: its file, its mode or its text.

    The message holds no part of it.
    """
