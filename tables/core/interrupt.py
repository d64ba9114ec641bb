"""Ends from outside what a thread waits for: a query that its database takes hours over.

A thread cannot be stopped; what it waits for can, if that has said how. It sees no query and no answer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock


class Interrupt:
    """Ends what is under way when it is set, once, from any thread.

    What would begin later does not begin.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_set = False
        self._end: Callable[[], None] | None = None

    def set(self) -> None:
        """End what is under way. Whoever waits for it gets an error of its own kind."""
        with self._lock:
            self._is_set = True
            if self._end is not None:
                self._end()

    @contextmanager
    def ending_with(self, end: Callable[[], None]) -> Iterator[None]:
        """Let `set` call `end` while the block lasts, in the thread that calls `set`.

        Raises:
            InterruptedError: it was set before.
        """
        with self._lock:
            if self._is_set:
                raise InterruptedError
            self._end = end
        try:
            yield
        finally:
            with self._lock:
                self._end = None
