"""Keeps the logs of a program that uses Tercet its own: nothing but errors is written.

It changes no logging of the program's.
"""

import logging
import sys

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback

from tercet.agents.core.library_log import TALKATIVE, LibraryLogHandler
from tercet.agents.core.logs import drop_failures


def quieten_logs() -> None:
    """Log errors alone, unless the program has set up structlog itself."""
    if structlog.is_configured():
        return
    # Others show local variables in a traceback: rows, or keys.
    renderer = ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain_traceback)
    structlog.configure(
        processors=[drop_failures, *structlog.get_config()["processors"][:-1], renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    for name in TALKATIVE - {"asyncio"}:  # whose own texts may hold an address with its login
        logger = logging.getLogger(name)
        logger.addHandler(LibraryLogHandler())
        logger.propagate = False
