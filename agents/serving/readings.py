"""Keeps what takes long to make, by its name.

Who comes first has it made, and all are asked to come again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from tercet.agents.core.problems import JobProblem
from tercet.broker.interface.clock import loop_time
from tercet.schemas.files.policy import DAY_SECONDS

MOST: Final = 8  # models at a time; the one that was asked for longest ago goes
FAILED_SECONDS: Final = 10.0  # after which a failed reading is tried again

T = TypeVar("T")


class Readings(Generic[T]):
    """Keeps readings by name for a day; `spawn` runs a task for as long as the agent lives."""

    def __init__(self, me: str, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._me, self._spawn = me, spawn
        self._found: OrderedDict[tuple[str, ...], tuple[T, float]] = OrderedDict()
        self._failed: dict[tuple[str, ...], tuple[JobProblem, float]] = {}
        self._busy = False  # one at a time: what is being made takes as much memory as what is held
        self._generation = 0

    def clear(self) -> None:
        """Forget all, what is being made too: settings have changed."""
        self._generation += 1
        self._found.clear()
        self._failed.clear()

    def find(self, name: tuple[str, ...], make: Callable[[], T]) -> T:
        """Return what `make`, which runs in a thread, has made.

        One that is a day old is made anew meanwhile.

        Raises:
            JobProblem: it is being made, or could not be.
        """
        found, since = self._found.get(name, (None, 0.0))
        if found is None or loop_time() - since > DAY_SECONDS:
            self._begin(name, make)
        if found is None:
            reason = f"{self._me} reads its table for {name[0]}, once for a day: ask again in some seconds"
            raise JobProblem("serving.reading", self._me, reason)
        self._found.move_to_end(name)
        return found

    def _begin(self, name: tuple[str, ...], make: Callable[[], T]) -> None:
        problem, since = self._failed.get(name, (None, 0.0))
        if problem is not None and loop_time() - since < FAILED_SECONDS:
            if name not in self._found:
                raise problem
        elif not self._busy:
            self._busy = True
            self._spawn(self._make(name, make, self._generation))

    async def _make(self, name: tuple[str, ...], make: Callable[[], T], generation: int) -> None:
        try:
            made = await asyncio.to_thread(make)
            if generation == self._generation:
                self._found[name] = made, loop_time()
                self._failed.pop(name, None)
        except JobProblem as problem:
            if generation == self._generation:
                self._failed[name] = problem, loop_time()
        finally:
            self._busy = False
        while len(self._found) > MOST:
            self._found.popitem(last=False)
        while len(self._failed) > MOST:
            del self._failed[next(iter(self._failed))]
