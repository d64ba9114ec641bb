"""How agents log: one JSON object a line, on standard error, with party, job, attempt and step.

Only names, numbers and sentences are logged; never a payload, a key or a row.
"""

import logging
import sys

import structlog


def configure(level: str = "info") -> None:
    """Set the process's logging up; called once, by the command line."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
