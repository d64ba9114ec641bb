"""An event loop whose clock runs ahead while nothing happens, so that a test waits for no deadline and misses none.

While everybody sleeps, the clock jumps to the next timer. Each turn of the loop in which something happens counts
`TURN_SECONDS`, and while only a thread works, a `SLOWNESS`-th of the real time: however busy the machine is, a deadline
passes only where nobody does anything. Not for sockets and processes: what these do is not seen coming.

What is meant for a thread runs in a turn of the loop, unless a test asks for `threads`. So no thread waits
for another one's lock, which took an eighth of a job's processor time, and a job takes the same turns and the same time
on every machine.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

TURN_SECONDS = 0.001
SLOWNESS = 20.0


class _Selector(selectors.DefaultSelector):
    """Asks for events as ever, and moves the clock in the place of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.threads = 0.0, 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; without anything, the clock is moved by `timeout` seconds at most."""
        self.now += TURN_SECONDS
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            return super().select()
        if not self.threads:
            self.now += timeout
            return []
        since = time.monotonic()
        events = super().select(timeout * SLOWNESS)
        self.now += min((time.monotonic() - since) / SLOWNESS, timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs tasks in virtual time; `time()` begins at 0. With `threads`, executors have threads as ever."""

    def __init__(self, *, threads: bool = False) -> None:
        self._clock, self._has_threads = _Selector(), threads
        super().__init__(self._clock)
        self._threads = ThreadPoolExecutor()
        self.set_default_executor(self._threads)

    def time(self) -> float:
        """Return seconds since the loop began, by its own clock."""
        return self._clock.now

    def run_in_executor(
        self, executor: Executor | None, func: "Callable[[Unpack[Arguments]], Result]", *args: *Arguments
    ) -> "asyncio.Future[Result]":
        """Run a function in a turn of the loop; or in a thread, and let the clock know of it."""
        if not self._has_threads:
            done: asyncio.Future[Result] = self.create_future()
            self.call_soon(self._compute, done, partial(func, *args))
            return done
        self._clock.threads += 1
        future = (executor or self._threads).submit(func, *args)
        reported = asyncio.wrap_future(future, loop=self)
        future.add_done_callback(self._thread_is_done)  # after the loop has been told
        return reported

    def _compute(self, future: "asyncio.Future[Result]", function: Callable[[], Result]) -> None:
        """Give a future what a function returns or raises, unless nobody waits any more."""
        if future.cancelled():
            return
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - not ours
        """Wait for the threads: from Python 3.12 on a Runner would give them 300 seconds, which pass at once here."""
        await super().shutdown_default_executor()

    def _thread_is_done(self, _: "Future[Any]") -> None:
        with suppress(RuntimeError):  # the loop is closed
            self.call_soon_threadsafe(self._forget_thread)

    def _forget_thread(self) -> None:
        self._clock.threads -= 1


def run(main: Coroutine[Any, Any, Result], *, threads: bool = False) -> Result:
    """Run a coroutine as `asyncio.run` does, in virtual time."""
    with asyncio.Runner(loop_factory=partial(VirtualLoop, threads=threads)) as runner:
        return runner.run(main)
