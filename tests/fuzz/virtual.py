"""An event loop whose clock a test moves, so that what waits can be checked without waiting.

Only time is made up: tasks, callbacks and their order are asyncio's own.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Clockwork(asyncio.SelectorEventLoop):
    """Stands still but for `advance`."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0

    def time(self) -> float:
        """The loop's own time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """So much later, with everything done that was due until then."""
        self._now += seconds
        self.settle()

    def settle(self) -> None:
        """Let whatever can go on go on, until nothing can."""
        for _ in range(20):
            self.run_until_complete(asyncio.sleep(0))

    def inside(self, work: Callable[[], T]) -> T:
        """The result of a call within the loop, which does not wait for time to pass."""

        async def call() -> T:
            return work()

        return self.run_until_complete(call())
