"""Defines the error about a file that a person wrote.

What reads such files takes longer to import.
"""

from tercet.schemas.core.error import TercetError


class Invalid(TercetError, ValueError):
    """A file that a person wrote does not say what it should.

    The text says where and how to mend it.
    """
