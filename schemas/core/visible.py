"""Makes a stranger's text fit to be shown: what would move, hide or reorder the words around it is seen instead.

It changes no other character, knows no markup, and is for terminals, pages and logs alike.
"""

import re
import unicodedata
from typing import Final

# Printable by Unicode's tables, and yet nothing is seen: fillers, joiners, selectors, an empty Braille cell.
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def escape_invisible(text: str, keep: str = "") -> str:
    r"""The text with an escape (\n, \x1b, \u202e) for each control, format or other character that shows nothing.

    Spaces of any width stay, and so do the characters in `keep`.
    """
    if keep:
        return re.sub(f"[^{re.escape(keep)}]+", lambda part: escape_invisible(part[0]), text)
    if text.isprintable() and not _UNSEEN.search(text):
        return text
    return "".join(sign if _is_seen(sign) else _escaped(sign) for sign in text)


def _is_seen(sign: str) -> bool:
    if sign.isprintable():
        return not _UNSEEN.match(sign)
    return sign.isspace() and unicodedata.category(sign) == "Zs"


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
