"""Stores an agent's spendings as JSON lines, each with a hash.

A line holds names, a run and numbers, never a row. `budget` knows what the numbers mean.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from tercet.schemas.files.invalid import Invalid
from tercet.tables.core.durable import append_whole, write_durably

FILE: Final = "exposure.jsonl"  # in the state folder
FORMAT: Final = 1
START: Final = "0" * 64
_DOMAIN: Final = b"tercet exposure line"
_FIELDS: Final = frozenset({"job", "run", "table", "label", "counts", "hash"})


class Spending(NamedTuple):
    """Counts what one run told a label party about one table; the greater of two counts holds."""

    job: str
    run: str  # in hexadecimal
    table: str
    label: str
    counts: dict[str, float]


class DamagedBudget(ValueError):
    """Names the line of the budget file that was changed."""


class BudgetFile:
    """Writes the file of one agent, as its only writer."""

    def __init__(self, path: Path) -> None:
        self.path, self._last = path, START

    def open(self) -> list[Spending] | None:
        """Read the file, or return None if there is none; remove a last line that a crash has torn.

        Raises:
            Invalid: another line is damaged.
            OSError: the file cannot be read or mended.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        found, self._last, whole = _parse_file(self.path, content)
        if whole < len(content):
            with self.path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
        return found

    def start_with(self, spendings: Iterable[Spending]) -> None:
        """Create the file with these spendings.

        Raises:
            OSError: the disk cannot be written; there is no file.
        """
        first, last = _line({"format": FORMAT}, START)
        lines = [first]
        for one in spendings:
            line, last = _line(one._asdict(), last)
            lines.append(line)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self.path, b"".join(lines))
        self._last = last

    def append(self, spending: Spending) -> None:
        """Add a line; it is on the disk when this returns.

        Raises:
            OSError: the disk cannot be written, or the file is missing; the file has not changed.
        """
        line, last = _line(spending._asdict(), self._last)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            append_whole(descriptor, line)
        finally:
            os.close(descriptor)
        self._last = last


def read(path: Path) -> list[Spending] | None:
    """Read a budget file, even while its agent writes it; return None if there is none.

    Raises:
        Invalid: it is damaged.
        OSError: it cannot be read.
    """
    try:
        return _parse_file(path, path.read_bytes())[0]
    except FileNotFoundError:
        return None


def _parse_file(path: Path, content: bytes) -> tuple[list[Spending], str, int]:
    """Parse a file into its spendings, its last hash, and the bytes of its whole lines."""
    lines = content.split(b"\n")
    torn = lines.pop()
    if not torn and lines and b"\0" in lines[-1]:  # a crash may leave a hole before the line's end
        torn = lines.pop() + b"\n"
    try:
        found, last = _parse_lines(lines)
    except DamagedBudget as damaged:
        raise Invalid(
            f"{path}: {damaged}: restore it from a copy of today, or move it away and start the agent again, which "
            f"then counts anew what the audit log beside it tells; without an audit log it counts from nothing"
        ) from None
    return found, last, len(content) - len(torn)


def _parse_lines(lines: list[bytes]) -> tuple[list[Spending], str]:
    last, found = START, []
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            again, last = _line({name: fields[name] for name in fields if name != "hash"}, last)
            if again != line + b"\n" or (number == 1) != (fields.get("format") == FORMAT):
                raise DamagedBudget(f"line {number} is not what was written there")
            found += [_parse_spending(fields)] if number > 1 else []
        except (ValueError, TypeError, AttributeError, RecursionError):  # DamagedBudget is a ValueError
            raise DamagedBudget(f"line {number} is not what was written there, or of another release") from None
    if not lines:
        raise DamagedBudget("it is empty, which an agent never leaves it")
    return found, last


def _parse_spending(fields: dict[str, Any]) -> Spending:
    counts = fields.get("counts")
    texts = all(isinstance(fields.get(name), str) for name in ("job", "run", "table", "label"))
    if fields.keys() != _FIELDS or not texts or not isinstance(counts, dict):
        raise DamagedBudget("other fields")
    if not all(type(amount) in {int, float} and amount >= 0 for amount in counts.values()):
        raise DamagedBudget("counts that are none")
    return Spending(fields["job"], fields["run"], fields["table"], fields["label"], counts)


def _line(content: dict[str, Any], previous: str) -> tuple[bytes, str]:
    """Format a line, with a hash over it and the line before."""
    digest = hashlib.sha256(_DOMAIN + previous.encode() + _canonical(content)).hexdigest()
    return _canonical(content | {"hash": digest}) + b"\n", digest


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
