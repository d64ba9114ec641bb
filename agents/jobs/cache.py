"""Caches the last status and run of known jobs; older ones are read from their records.

It decides nothing about a job, and forgets none of which there is a record.
"""

from collections.abc import Callable, Iterator, MutableMapping
from typing import TypeVar

V = TypeVar("V")

MOST_CACHED = 200  # as many as one answer lists; each takes some 20 KiB


class JobCache(MutableMapping[str, V]):
    """Caches the values set last, by job; looks up others. Iterating sees the cached ones."""

    def __init__(self, find: Callable[[str], V | None], most: int = MOST_CACHED) -> None:
        """`find` gives what the disk has of a job, or None."""
        self._find, self._most = find, most
        self._cached: dict[str, V] = {}

    def __getitem__(self, job: str) -> V:
        value = self._cached.get(job)
        found = self._find(job) if value is None else value
        if found is None:
            raise KeyError(job)
        return found

    def __setitem__(self, job: str, value: V) -> None:
        self._cached.pop(job, None)
        self._cached[job] = value
        while len(self._cached) > self._most:
            del self._cached[next(iter(self._cached))]

    def __delitem__(self, job: str) -> None:
        self._cached.pop(job, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._cached)

    def __len__(self) -> int:
        return len(self._cached)
