"""Writes values as TOML, so that whatever a text holds stays a text.

It writes what settings have: texts, numbers, yes and no, and lists of them.
"""

from typing import Any

from tercet.schemas.core.visible import escape_invisible


def toml_value(value: Any) -> str:
    """Write a text, a number, a boolean or a list of them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return f'"{_escaped(value)}"' if isinstance(value, str) else repr(value)


def _escaped(text: str) -> str:
    """Escape what would end the text, and what nobody would see."""
    return "".join(
        sign if sign not in '"\\' and escape_invisible(sign) == sign else f"\\U{ord(sign):08X}" for sign in text
    )
