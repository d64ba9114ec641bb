"""Keeps a run's random draws on the disk, so that each attempt repeats them.

The draws are the contribution to the secret order, and a network's first weights. With new draws each attempt would
split, order and score the rows anew, and its results would tell more each time. So nobody may bring other rows or
another contribution to a later attempt: signs and noise must not meet two tables.
"""

from collections.abc import Callable
from pathlib import Path

import msgpack
from pydantic import Field, ValidationError

from tercet.schemas.core.strict import Name, Strict
from tercet.schemas.messages.message import Digest
from tercet.tables.core.durable import write_durably

FILE = "drawn"
MOST_BYTES = 2**16


class StoredRandomness(Strict):
    """Holds the draws as the disk has them."""

    rows: Digest
    draws: tuple[Digest, ...] = Field(default=(), repr=False)
    partners: dict[Name, Digest] = {}  # what each of them has committed to


class FixedRandomness:
    """Gives contributions of 32 bytes each, the same ones in each attempt.

    Args:
        folder: where they are kept, readable for this user only.
        source: where they come from.
    """

    def __init__(self, folder: Path, source: Callable[[], bytes]) -> None:
        self._path, self._source = folder / FILE, source
        self._stored: StoredRandomness | None = None
        self._next = 0

    def start_attempt(self, rows: bytes) -> bool:
        """Start an attempt; tell whether the table's digest is that of earlier attempts.

        Raises:
            OSError: the disk does not let them be read or written.
        """
        self._next, found = 0, self._read()
        self._stored = found or StoredRandomness(rows=rows)
        if found is None:
            self._write(self._stored)
        return self._stored.rows == rows

    def __call__(self) -> bytes:
        """Give the next contribution.

        Raises:
            OSError: it cannot be kept.
        """
        stored = self._current
        if self._next == len(stored.draws):
            stored = self._write(stored.model_copy(update={"draws": (*stored.draws, self._source())}))
        self._next += 1
        return stored.draws[self._next - 1]

    def matches_commitment(self, partner: str, commitment: bytes) -> bool:
        """Tell whether a partner commits to the same contribution as in earlier attempts.

        Raises:
            OSError: it cannot be kept.
        """
        stored = self._current
        if partner not in stored.partners:
            self._write(stored.model_copy(update={"partners": {**stored.partners, partner: commitment}}))
        return stored.partners.get(partner, commitment) == commitment

    @property
    def _current(self) -> StoredRandomness:
        assert self._stored is not None
        return self._stored

    def _write(self, stored: StoredRandomness) -> StoredRandomness:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._path, msgpack.packb(stored.model_dump()))
        self._stored = stored
        return stored

    def _read(self) -> StoredRandomness | None:
        try:
            with self._path.open("rb") as file:
                return StoredRandomness.model_validate(msgpack.unpackb(file.read(MOST_BYTES), use_list=False))
        except (FileNotFoundError, ValidationError, ValueError, msgpack.UnpackException):
            return None
