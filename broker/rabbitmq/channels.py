"""Opens one connection's short-lived channels, within the broker's limit.

It asks nothing on them itself, and waits, for a named time, while all numbers are in use.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import aiormq

from tercet.broker.interface.base import Disconnected, Overloaded, Refused
from tercet.broker.rabbitmq.errors import call

NUMBER_SECONDS: Final = 30.0  # the deadline "channel": how long a free number is waited for
REST_SECONDS: Final = 0.05  # before a number is used again
MOST_CHANNELS: Final = 2047  # RabbitMQ's default; no more are needed where it allows more
LEAST_CHANNELS: Final = 8  # two for publishing and consuming, and some for questions
FEW_CHANNELS: Final = 64  # from here on the jobs of an agent need not wait for one another
RESERVED: Final = 16  # numbers at both ends of the range, left to aio-pika; fewer where there are few


def allowed_channels(connection: aiormq.Connection) -> int:
    """Return how many channels the broker allows on this connection.

    A `channel_max` of 0 means any number.
    """
    return min(connection.connection_tune.channel_max or MOST_CHANNELS, MOST_CHANNELS)


class Channels:
    """Opens a channel of one connection for each question.

    What RabbitMQ refuses closes its channel.
    """

    def __init__(self, connection: aiormq.Connection) -> None:
        """Raises Refused: the broker allows fewer channels than an agent needs."""
        self.allowed = allowed_channels(connection)
        if self.allowed < LEAST_CHANNELS:
            raise Refused(
                f"the broker allows {self.allowed} channels on a connection, and Tercet needs {LEAST_CHANNELS}: have "
                f"its operator raise `channel_max` in rabbitmq.conf, to {FEW_CHANNELS} or more"
            )
        self._connection = connection
        self._free: asyncio.Queue[int] = asyncio.Queue()
        reserved = min(RESERVED, self.allowed // 4)
        for number in range(reserved + 1, self.allowed - reserved + 1):
            self._free.put_nowait(number)

    @asynccontextmanager
    async def open(self, seconds: float, *, confirms: bool = False) -> AsyncIterator[aiormq.Channel]:
        """Open a channel, closed when the block ends.

        `seconds` that the broker may take to open it.

        Raises:
            Overloaded: none that the broker allows came free in time.
            Disconnected: the connection was lost while one was waited for.
        """
        async with self.reserve_number() as number:
            if self._connection.is_closed:
                raise Disconnected("the connection to the broker has just been lost")
            opened = await self._connection.channel(number, publisher_confirms=confirms, timeout=seconds)
            channel = cast(aiormq.Channel, opened)
            answers = _UnboundedFrames(self._connection.write_queue)
            channel.write_queue = cast("asyncio.Queue[Any]", answers)
            try:
                yield channel
            finally:
                await call(_closed(channel, answers), to_the_end=True)

    @asynccontextmanager
    async def reserve_number(self) -> AsyncIterator[int]:
        """Reserve a channel number that nobody else uses while the block lasts.

        It is the one that has rested longest. Raises Overloaded.
        """
        number = await self._take_number()
        try:
            yield number
        finally:
            self._rest_number(number)

    async def _take_number(self) -> int:
        try:
            async with asyncio.timeout(NUMBER_SECONDS):
                while (number := await self._free.get()) in self._connection.channels:  # one of the library's
                    self._rest_number(number)  # a number that rests is not looked at, so this loop waits
                return number
        except TimeoutError:
            raise Overloaded(
                f"all channels that the broker allows on a connection ({self.allowed}) were in use for "
                f"{NUMBER_SECONDS:.0f} s (deadline 'channel'); have its operator raise `channel_max`"
            ) from None

    def _rest_number(self, number: int) -> None:
        asyncio.get_running_loop().call_later(REST_SECONDS, self._free.put_nowait, number)


class _UnboundedFrames:
    """A connection's queue of frames to send, as a channel sees it.

    No answer is dropped because it is full.

    aiormq drops its answer to a channel's end then. The broker waits for that, and takes the next channel of the same
    number for an error of the whole connection ("second 'channel.open' seen").
    """

    def __init__(self, queue: "asyncio.Queue[Any]") -> None:
        self._queue, self.put = queue, queue.put
        self.pending: asyncio.Task[None] | None = None

    def put_nowait(self, frame: Any) -> None:
        """Put it there now, or as soon as there is room."""
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.pending = asyncio.create_task(self._queue.put(frame), name="answer to the end of a channel")


async def _closed(channel: aiormq.Channel, answers: _UnboundedFrames) -> None:
    try:
        await channel.close()
    finally:
        if answers.pending is not None:
            await asyncio.wait([answers.pending], timeout=NUMBER_SECONDS)
