"""Parses what a person wrote in TOML, in a time that grows with its length and no faster.

It opens no file, and its errors name no value.
"""

import re
import tomllib
from typing import Any, Final

MOST_BYTES: Final = 2**20  # settings of a thousand partners take a fifth of it
MOST_PARTS: Final = 16  # of one dotted key; the parser takes the square of their number

# A quote that opens a part is never behind a backslash, so no search passes over one that another has begun at.
_PART: Final = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_LONG_KEY: Final = re.compile(rf"(?:\A|(?<=[\n \t{{,\[]))(?:{_PART}[ \t]*+\.[ \t]*+){{{MOST_PARTS}}}")


def parse_toml(content: bytes) -> dict[str, Any]:
    """Parse a file's content.

    Raises:
        ValueError: it is not TOML, or none that a person would write. The text of tomllib's own errors may quote it.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"longer than {MOST_BYTES} bytes; give the right file")
    text = content.decode()
    if _LONG_KEY.search(text):
        raise ValueError(f"a dotted key of more than {MOST_PARTS} parts, which nobody writes")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply, as nobody writes") from None
