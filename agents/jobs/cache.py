"""What an agent knows of jobs that it has known: the latest in memory, any other from its record on the disk.

It decides nothing about a job, and forgets none of which there is a record.
"""

from collections.abc import Callable, Iterator, MutableMapping
from typing import TypeVar

V = TypeVar("V")

KEPT = 200  # as many as one answer lists; each takes some 20 KiB


class Remembered(MutableMapping[str, V]):
    """Values by job. Those set last are here; one that is not is looked up, and iterating passes over those here."""

    def __init__(self, find: Callable[[str], V | None], most: int = KEPT) -> None:
        """`find` gives what the disk has of a job, or None."""
        self._find, self._most = find, most
        self._here: dict[str, V] = {}

    def __getitem__(self, job: str) -> V:
        value = self._here.get(job)
        found = self._find(job) if value is None else value
        if found is None:
            raise KeyError(job)
        return found

    def __setitem__(self, job: str, value: V) -> None:
        self._here.pop(job, None)
        self._here[job] = value
        while len(self._here) > self._most:
            del self._here[next(iter(self._here))]

    def __delitem__(self, job: str) -> None:
        self._here.pop(job, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._here)

    def __len__(self) -> int:
        return len(self._here)
