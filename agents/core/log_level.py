"""How much is logged; it stands alone so that the command line offers the choice without loading what logs."""

from enum import StrEnum


class Level(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
