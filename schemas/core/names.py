"""Defines what names look like, for all who check one without a model."""

from typing import Final

NAME_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,31}"
JOB_ID_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,47}"

RESERVED: Final = frozenset({"broker", "from", "intercept"})  # words that stand beside parties' names somewhere
