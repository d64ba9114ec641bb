"""Keeps a run's random draws on the disk, so that each attempt repeats them.

The draws are the contribution to the secret order, and a network's first weights. With new draws each attempt would
split, order and score the rows anew, and its results would tell more each time. So nobody may bring other rows,
another contribution or another split to a later attempt: signs and noise must not meet two tables.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    held_out: dict[str, Digest] = Field(default={}, repr=False)  # which rows are, by fold; 0 without folds


class FixedRandomness:
    """Gives each attempt of a run the same draws.

    Args:
        folder: where they are kept, readable for this user only.
        source: where they come from.
    """

    def __init__(self, folder: Path, source: Callable[[], bytes]) -> None:
        self._path, self._source = folder / FILE, source

    def start_attempt(self, rows: bytes) -> "Draws | None":
        """Start an attempt with a table of this digest; None if earlier attempts had another one.

        Raises:
            OSError: the disk does not let them be read or written.
        """
        found = self._read()
        if found is not None:
            return Draws(self._path, self._source, found) if found.rows == rows else None
        draws = Draws(self._path, self._source, StoredRandomness(rows=rows))
        draws.save()
        return draws

    def _read(self) -> StoredRandomness | None:
        try:
            with self._path.open("rb") as file:
                return StoredRandomness.model_validate(msgpack.unpackb(file.read(MOST_BYTES), use_list=False))
        except (FileNotFoundError, ValidationError, ValueError, msgpack.UnpackException):
            return None


class Draws:
    """Gives one attempt contributions of 32 bytes each, in the order of the first attempt."""

    def __init__(self, path: Path, source: Callable[[], bytes], stored: StoredRandomness) -> None:
        self._path, self._source, self._stored = path, source, stored
        self._next = 0

    def __call__(self) -> bytes:
        """Give the next contribution.

        Raises:
            OSError: it cannot be kept.
        """
        if self._next == len(self._stored.draws):
            self._change(draws=(*self._stored.draws, self._source()))
        self._next += 1
        return self._stored.draws[self._next - 1]

    def matches_commitment(self, partner: str, commitment: bytes) -> bool:
        """Tell whether a partner commits to the same contribution as in earlier attempts.

        Raises:
            OSError: it cannot be kept.
        """
        partners = self._stored.partners
        if partner not in partners:
            self._change(partners={**partners, partner: commitment})
        return partners.get(partner, commitment) == commitment

    def matches_held_out(self, digest: bytes, fold: int) -> bool:
        """Tell whether the held-out rows are those of earlier attempts; `fold` is 0 without folds.

        Raises:
            OSError: it cannot be kept.
        """
        held_out = self._stored.held_out
        if str(fold) not in held_out:
            self._change(held_out={**held_out, str(fold): digest})
        return held_out.get(str(fold), digest) == digest

    def _change(self, **fields: Any) -> None:
        self._stored = self._stored.model_copy(update=fields)
        self.save()

    def save(self) -> None:
        """Write everything drawn so far to the disk.

        Raises:
            OSError: the disk does not take it.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._path, msgpack.packb(self._stored.model_dump(exclude_defaults=True)))
