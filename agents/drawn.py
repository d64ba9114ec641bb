"""What a party has drawn at random for one run of a job, kept so that each attempt says the same and nothing new.

The contribution to the secret order, and the first weights of a network: with others, each attempt would split, order
and score the rows anew, and those to whom results are told would learn more with each. It belongs to the rows as they
were read: for others everything is drawn anew, since signs and noise must not meet two tables.
"""

from collections.abc import Callable
from pathlib import Path

import msgpack

from agents.checkpoints import write_durably

FILE = "drawn"
MOST_BYTES = 2**16


class Drawn:
    """A source of contributions, 32 bytes each, that repeats itself in each attempt.

    Args:
        path: where they are kept; readable for this user only.
        source: where they come from.
    """

    def __init__(self, folder: Path, source: Callable[[], bytes]) -> None:
        self._path, self._source = folder / FILE, source
        self._rows = b""
        self._draws: list[bytes] = []
        self._next = 0

    def begin(self, rows: bytes) -> bool:
        """An attempt begins with the rows of this digest; whether there are draws that belong to other rows.

        Raises:
            OSError: the disk does not let them be read.
        """
        kept_rows, draws = self._kept()
        self._rows, self._next = rows, 0
        self._draws = draws if kept_rows == rows else []
        return bool(draws) and kept_rows != rows

    def __call__(self) -> bytes:
        """The next one.

        Raises:
            OSError: it cannot be kept.
        """
        if self._next == len(self._draws):
            self._draws.append(self._source())
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(self._path, msgpack.packb([self._rows, self._draws]))
        self._next += 1
        return self._draws[self._next - 1]

    def _kept(self) -> tuple[bytes, list[bytes]]:
        try:
            with self._path.open("rb") as file:
                rows, draws = msgpack.unpackb(file.read(MOST_BYTES))
        except (FileNotFoundError, ValueError, TypeError, msgpack.UnpackException):
            return b"", []
        if isinstance(rows, bytes) and isinstance(draws, list) and all(isinstance(one, bytes) for one in draws):
            return rows, draws
        return b"", []
