"""A clock that jumps from one call to the next."""

import heapq
from collections.abc import Callable
from itertools import count


class Clock:
    """Makes calls in the order of their times; no time passes in between."""

    def __init__(self) -> None:
        self.now = 0.0
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Make a call so many seconds from now."""
        heapq.heappush(self._calls, (self.now + seconds, next(self._numbers), call))

    def run(self, *, until: float, is_over: Callable[[], bool]) -> None:
        """Make all calls until it is over, or a time has come."""
        while self._calls and self._calls[0][0] <= until and not is_over():
            self.now, _, call = heapq.heappop(self._calls)
            call()
