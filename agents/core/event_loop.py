"""Runs coroutines on an event loop of its own, also where the caller has one that runs.

It knows nothing of what they do.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

E_ = TypeVar("E_", bound=BaseException)
T = TypeVar("T")


class RunCoroutine(Protocol):
    """Runs a coroutine to its end, and returns what it does."""

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it; an error of a group of tasks comes alone."""
        ...


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the fastest loop that there is; None for Python's own."""
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


def first_error(group: BaseExceptionGroup[E_]) -> E_:
    """Return the first error of a group that is no group itself."""
    inner = group.exceptions[0]
    return first_error(inner) if isinstance(inner, BaseExceptionGroup) else inner


@contextmanager
def background_loop() -> Iterator[RunCoroutine]:
    """Run a loop in a thread while the block lasts; then cancel the tasks that are left.

    In a notebook a loop runs in the main thread, in which no other can be run.
    """
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=_serve, args=(started,), name="tercet", daemon=True)
    thread.start()
    loop, stop = started.result()

    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        except (KeyboardInterrupt, CancelledError):
            future.cancel()
            raise

    try:
        yield run
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _serve(started: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]") -> None:
    async def wait() -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(wait())
