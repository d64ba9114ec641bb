"""Bounds what is out at a time, for the outbox.

It counts envelopes and bytes, and never sees one.
"""

import asyncio
from collections import deque
from contextlib import suppress


class Window:
    """Limits envelopes and bytes that are out, first come first served.

    One that is larger than all room goes in alone.
    """

    def __init__(self, max_bytes: int, max_envelopes: int) -> None:
        self._max_bytes = max_bytes
        self._max_envelopes = max_envelopes
        self._bytes = 0
        self._envelopes = 0
        self._queue: deque[tuple[asyncio.Future[None], int]] = deque()
        self._waking = False  # somebody has been let in and has not run yet; nobody may pass them

    @property
    def bytes(self) -> int:
        """The number of bytes that are in."""
        return self._bytes

    def try_enter(self, size: int) -> bool:
        """Enter if there is room and nobody waits; tell whether that was so."""
        if self._queue or self._waking or not self._fits(size):
            return False
        self._count(size, 1)
        return True

    async def enter(self, size: int) -> None:
        """Wait for room. Cancelled, nothing has been taken."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (place, size)
        self._queue.append(entry)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                with suppress(ValueError):  # `close` may have emptied the queue
                    self._queue.remove(entry)
                self._admit()
            elif place.exception() is None:
                self._waking = False
                self.leave(size)
            raise
        self._waking = False
        self._admit()

    def leave(self, size: int) -> None:
        """Give room back."""
        self._count(size, -1)
        self._admit()

    def close(self) -> None:
        """Turn away all who wait."""
        while self._queue:
            place, _ = self._queue.popleft()
            if not place.done():
                place.set_exception(RuntimeError("this outbox is closed"))

    def _admit(self) -> None:
        if self._waking or not self._queue:
            return
        place, size = self._queue[0]
        if not place.done() and self._fits(size):
            self._queue.popleft()
            self._count(size, 1)
            self._waking = True
            place.set_result(None)

    def _fits(self, size: int) -> bool:
        return self._envelopes == 0 or (self._envelopes < self._max_envelopes and self._bytes + size <= self._max_bytes)

    def _count(self, size: int, sign: int) -> None:
        self._bytes += sign * size
        self._envelopes += sign
