"""Names the log levels; light to import, so that the command line can offer them."""

from enum import StrEnum


class Level(StrEnum):
    """Names the least severe lines that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
