"""Reads a room's own text templates, in which every name must be known."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def template_environment(part: str, folder: str, *, escape: bool) -> Environment:
    """Read templates from a folder; lines that hold a tag alone leave no blank ones.

    Args:
        part: of agents, such as "page".
        folder: in it; empty for itself.
        escape: whether what is filled in is text among HTML.
    """
    return Environment(
        loader=PackageLoader(f"tercet.agents.{part}", folder),
        autoescape=escape,  # noqa: S701 - what is no HTML says so
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not escape,
    )
