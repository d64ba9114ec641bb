"""Hands deliveries to a handler, one at a time, and stops in good order.

Both brokers share it.

It settles nothing and talks to no broker: what is left over when it stops is its owner's to give back.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from tercet.broker.interface.base import Delivery, Handler, Lane

GRACE: Final = 10.0  # seconds that a handler may take to end when its consumer stops

D = TypeVar("D", bound=Delivery)


class Dispatcher(Generic[D]):
    """A queue of deliveries and the task that hands them on.

    A handler is never cancelled because a connection is lost, only when it outlives the grace of `stop`. An exception
    that it lets out ends the dispatcher and goes to `crashed`.
    """

    def __init__(self, handler: Handler, crashed: Callable[[D, BaseException], None], name: str) -> None:
        self._handler = handler
        self._crashed = crashed
        self._waiting: deque[D] = deque()
        self._arrived = asyncio.Event()
        self._busy = False
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name=name)

    def put(self, delivery: D) -> None:
        """Queue a delivery; after `stop` it is ignored."""
        if not self._stopping:
            self._waiting.append(delivery)
            self._arrived.set()

    def drop(self, unwanted: Callable[[D], bool]) -> None:
        """Forget waiting deliveries that come again by themselves."""
        self._waiting = deque(each for each in self._waiting if not unwanted(each))

    def in_handler(self) -> bool:
        """Tell whether the caller is the handler itself."""
        return asyncio.current_task() is self._task

    async def stop(self, grace: float = GRACE) -> None:
        """Hand on nothing more; return when the running handler has ended.

        It is cancelled after `grace` seconds.

        Called from inside the handler it returns at once. Cancelled, it leaves the handler running.
        """
        self._stopping = True
        self._waiting.clear()
        if self.in_handler():
            return
        if not self._busy:
            self._task.cancel()
        _, running = await asyncio.wait([self._task], timeout=grace)
        if running:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while not self._stopping:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            delivery = self._waiting.popleft()
            self._busy = True
            try:
                await self._handler(delivery)
            except Exception as error:  # noqa: BLE001  whatever it is, its owner decides
                self._stopping = True
                self._crashed(delivery, error)
            finally:
                self._busy = False


def check_lane(queue_name: str, lane: Lane, *, private: bool) -> None:
    """Check that a private queue is consumed on the one connection that may touch it."""
    if private and lane is not Lane.ONLINE:
        raise ValueError(f"the private queue {queue_name} is consumed on the online lane")
