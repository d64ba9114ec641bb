"""Lists the codes of failed jobs, with cause, remedy and who can mend it.

docs/errors.md is the one place where they are written; it comes with the package, and this module only reads it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from tercet.agents.core.shipped_files import shipped
from tercet.schemas.files.job import Invalid

_ROW: Final = re.compile(r"^\| `([a-z]+(?:\.[a-z-]+)+)` \|(.*)\|$", re.MULTILINE)
_CELL: Final = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class Code:
    """Holds one row of docs/errors.md."""

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
    """List all codes, as the document has them."""
    return {code.code: code for code in read((shipped("docs") / "errors.md").read_text(encoding="utf-8"))}


def read(text: str) -> list[Code]:
    """Read a document's rows. Without a fourth column nobody is named who can mend it."""
    rows = []
    for code, rest in _ROW.findall(text):
        cause, remedy, mender, *_ = [cell.strip() for cell in _CELL.split(rest)] + ["", ""]
        rows.append(Code(code, cause, remedy, mender))
    return rows
