"""Renders the page's templates; each text is escaped, and invisible characters are seen.

Only charts come in as they are: they hold numbers and our own words.
"""

import time
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from jinja2 import Environment
from starlette.responses import HTMLResponse

from tercet.agents.core.shipped_files import shipped
from tercet.agents.core.templates import template_environment
from tercet.schemas.core.visible import escape_invisible

ASSETS: Final = {"page.css": "text/css", "page.js": "text/javascript"}
TONES: Final = {"done": "good", "failed": "bad", "cancelled": "quiet", "approval": "asks"}


@cache
def _environment() -> Environment:
    environment = template_environment("page", "templates", escape=True)
    environment.filters |= {"count": "{:,}".format, "ago": ago, "moment": moment, "unix_time": unix_time, "tone": tone}
    environment.filters |= {"figure": figure, "duration": duration}
    return environment


def render(template: str, **values: Any) -> str:
    """Render a template to HTML."""
    # At the end, so that no name can hide or reorder the text beside it.
    return escape_invisible(_environment().get_template(f"{template}.html.j2").render(values), keep="\n")


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template as an answer."""
    return HTMLResponse(render(template, **values), status)


@cache
def asset(name: str) -> bytes:
    """Read a file that pages refer to; `ASSETS` has the names and types."""
    return (shipped("agents") / "page" / "static" / name).read_bytes()


def tone(state: str) -> str:
    """Choose how a state looks: a class of the style sheet."""
    return TONES.get(state, "runs")


def ago(seconds: float | None) -> str:
    """Say how long ago something was, in words."""
    if seconds is None:
        return "never"
    return "now" if seconds < 3 else f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """Write a length of time in its largest unit."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(iso: str) -> str:
    """Write a time of ISO 8601 to the second, in UTC."""
    try:
        return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return iso


def unix_time(seconds: float) -> str:
    """Write a time in seconds since 1970, in UTC."""
    return moment(datetime.fromtimestamp(seconds, UTC).isoformat())


def figure(value: Any) -> str:
    """Write a cell of a table, or a field of the audit log."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {figure(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(figure, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def seconds_since(then: float | None) -> float | None:
    """Count the seconds since a time in seconds since 1970."""
    return None if then is None else max(0.0, time.time() - then)
