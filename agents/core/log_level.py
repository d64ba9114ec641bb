"""Names the log levels; light to import, so that the command line can offer them."""

from enum import StrEnum


class Level(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
