"""Reads the codes of failed jobs for `tercet explain` and for metrics.

Each has a cause, a remedy, and who can mend it.

docs/errors.md is the one place where they are written; it comes with the package, and this module only reads it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from tercet.agents.core.shipped_files import shipped
from tercet.schemas.files.invalid import Invalid

_ENTRY: Final = re.compile(r"^### `([a-z]+(?:\.[a-z-]+)+)`$(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
_PART: Final = re.compile(r"^- \*\*(Cause|Remedy|Who can mend it):\*\* (.*?)(?=^-|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Code:
    """Holds one entry of docs/errors.md."""

    code: str
    cause: str
    remedy: str
    mender: str  # which party can mend it


def explain_code(code: str) -> Code:
    """Explain an error code.

    Raises:
        Invalid: there is no such code; names those that are like it.
    """
    found = all_codes().get(code)
    if found is not None:
        return found
    like = [one for one in all_codes() if code.partition(".")[0] in one] or sorted(all_codes())
    raise Invalid(f"there is no code {code[:64]!r}; there are {', '.join(like)}")


@cache
def all_codes() -> Mapping[str, Code]:
    """All codes, as the document has them."""
    return {code.code: code for code in read((shipped("docs") / "errors.md").read_text(encoding="utf-8"))}


def read(text: str) -> list[Code]:
    """Read a document's entries; a missing part becomes an empty text."""
    codes = []
    for code, body in _ENTRY.findall(text):
        parts = {name: " ".join(words.split()).removesuffix(".") for name, words in _PART.findall(body)}
        codes.append(Code(code, parts.get("Cause", ""), parts.get("Remedy", ""), parts.get("Who can mend it", "")))
    return codes
