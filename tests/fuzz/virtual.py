"""An event loop whose clock a test moves, so that what waits can be checked without waiting.

Only time is made up: tasks, callbacks and their order are asyncio's own.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

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

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of something that does not wait for time to pass."""
        return self.run_until_complete(work)
