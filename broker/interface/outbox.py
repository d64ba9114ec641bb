"""Sends envelopes without waiting for confirms, and repeats those that did not go through.

It bounds what is out at a time.

It never looks into a body, never seals one again (the same ciphertext goes out each time), and knows no protocol.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final

import structlog

from tercet.broker.interface.base import Broker, BrokerError, Disconnected, Envelope, Lane, Unroutable
from tercet.broker.interface.clock import loop_time

MAX_BYTES: Final = 64 * 1024 * 1024  # unconfirmed, on each lane
MAX_UNCONFIRMED: Final = 1024  # envelopes, on each lane
ATTEMPT_SECONDS: Final = 10.0  # a connection that is lost at the wrong moment never says what became of an envelope
PAUSES: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between attempts; the last repeats

log = structlog.get_logger(__name__)


class Undeliverable(BrokerError):
    """An envelope did not go through: refused, or not taken until its deadline.

    Names the receiver, never the content.

    `reason` is what the broker said last: Unroutable is the receiver's fault, anything else the broker's or ours. It is
    None if the broker said nothing, neither yes nor no.
    """

    def __init__(self, envelope: Envelope, deadline: float, name: str, reason: BrokerError | None) -> None:
        why = "it was not confirmed" if reason is None else str(reason)
        super().__init__(
            f"{envelope.kind} {envelope.address} for {envelope.routing_key} could not be delivered "
            f"(deadline {name}, {deadline:g} s): {why}"
        )
        self.address = envelope.address
        self.kind = envelope.kind
        self.job = envelope.job
        self.routing_key = envelope.routing_key
        self.deadline_name = name
        self.reason = reason


@dataclass(slots=True)
class SentCount:
    """Counts confirmed envelopes of one kind, and the bytes of their sealed bodies."""

    messages: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Post:
    envelope: Envelope
    lane: Lane
    deadline: float  # seconds, from the call
    until: float  # on the outbox's clock
    name: str
    required: bool


class Outbox:
    """Sends one job's envelopes, or one agent's, over its broker.

    Made inside a running event loop; `close` it.

    Envelopes of one lane go out in the order of the calls to `post`. One that is repeated is overtaken: receivers
    go by addresses. Each lane has a window of its own, so that bulk never holds up what is online.

    `failed` is a future that the owner awaits beside its work: it raises the first `Undeliverable` of a required
    envelope. The outbox goes on sending, so that the failure can still be told to others.

    Args:
        broker: the party's access.
        max_bytes: unconfirmed bytes on a lane beyond which `post` waits. A single larger envelope goes out alone.
        max_unconfirmed: unconfirmed envelopes on a lane beyond which `post` waits.
        pauses: seconds between attempts; the last repeats.
        attempt: seconds to wait for one confirm, before the same ciphertext goes out again.
        clock: what deadlines are measured with, in seconds.
        sleep: how to wait between attempts.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        max_bytes: int = MAX_BYTES,
        max_unconfirmed: int = MAX_UNCONFIRMED,
        pauses: tuple[float, ...] = PAUSES,
        attempt: float = ATTEMPT_SECONDS,
        clock: Callable[[], float] = loop_time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._broker = broker
        self._windows = {lane: _Window(max_bytes, max_unconfirmed) for lane in Lane}
        self._pauses = pauses
        self._attempt = attempt
        self._clock = clock
        self._sleep = sleep
        self._sending: dict[asyncio.Task[None], tuple[Envelope, _Window]] = {}
        self._closed = False
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failed.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.answered = clock()  # when the broker last said yes or no
        self.sent: dict[str, SentCount] = {}  # by kind
        self.dropped: Counter[str] = Counter()  # by kind: what was not required, and nobody took

    @property
    def unconfirmed(self) -> int:
        """The number of envelopes handed over and not yet confirmed or given up."""
        return len(self._sending)

    @property
    def blocked(self) -> str:
        """The reason why the broker takes nothing; see `Broker.blocked`."""
        return self._broker.blocked

    @property
    def in_flight(self) -> dict[str, int]:
        """Bytes that are handed over and not yet confirmed or given up, by lane."""
        return {str(lane): window.bytes for lane, window in self._windows.items()}

    async def post(self, envelope: Envelope, lane: Lane, *, deadline: float, name: str, required: bool = True) -> None:
        """Hand an envelope over.

        Returns at once, unless the lane's window is full; never waits for a confirm.

        Cancelled, the envelope has not been and will not be sent.

        Args:
            envelope: what to send.
            lane: on which connection.
            deadline: seconds within which it has to be confirmed.
            name: the deadline's name, for the report.
            required: otherwise the envelope is dropped quietly when nobody takes it.

        Raises:
            Undeliverable: the window stayed full until the deadline.
            RuntimeError: the outbox is closed.
        """
        if self._closed:
            raise RuntimeError("this outbox is closed")
        post = _Post(envelope, lane, deadline, self._clock() + deadline, name, required)
        window = self._windows[lane]
        if not window.try_enter(len(envelope.body)):
            try:
                async with asyncio.timeout(deadline):
                    await window.enter(len(envelope.body))
            except TimeoutError:
                raise Undeliverable(envelope, deadline, name, None) from None
        task = asyncio.create_task(self._send(post), name=f"sending {envelope.address}")
        self._sending[task] = (envelope, window)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        # Not at the end of `_send`, which a task that is cancelled before it has begun never reaches.
        envelope, window = self._sending.pop(task)
        window.leave(len(envelope.body))

    async def _send(self, post: _Post) -> None:
        try:
            await self._until_confirmed(post)
        except Undeliverable as failure:
            self._give_up(post, failure)
        except Exception as error:  # noqa: BLE001  a bug of ours, which the owner must see
            self._fail(error)
        else:
            tally = self.sent.setdefault(post.envelope.kind, SentCount())
            tally.messages += 1
            tally.bytes += len(post.envelope.body)

    async def _until_confirmed(self, post: _Post) -> None:
        reason: BrokerError | None = None
        for pause in self._all_pauses():
            left = post.until - self._clock()
            if left <= 0:
                raise Undeliverable(post.envelope, post.deadline, post.name, reason)
            try:
                async with asyncio.timeout(min(left, self._attempt)):
                    await self._broker.publish(post.envelope, post.lane)
            except TimeoutError:
                continue
            except BrokerError as error:
                reason = error
                if not isinstance(error, Disconnected):
                    self.answered = self._clock()
                if not error.transient or (isinstance(error, Unroutable) and not post.required):
                    raise Undeliverable(post.envelope, post.deadline, post.name, reason) from error
            else:
                self.answered = self._clock()
                return
            await self._sleep(max(0.0, min(pause, post.until - self._clock())))

    def _all_pauses(self) -> Iterator[float]:
        return chain(self._pauses, repeat(self._pauses[-1]))

    def _give_up(self, post: _Post, failure: Undeliverable) -> None:
        if post.required:
            self._fail(failure)
            return
        self.dropped[post.envelope.kind] += 1
        log.debug("optional message dropped", kind=post.envelope.kind, address=post.envelope.address)

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109  a named duration of the caller's
        """Wait until all that was posted before is confirmed or given up.

        What is posted meanwhile may remain.

        Cancelled or late, it leaves the envelopes on their way.

        Raises:
            TimeoutError: some are still on their way after `timeout` seconds; names one.
        """
        waiting = set(self._sending)
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=timeout)
        for task in late:
            address = self._sending[task][0].address
            raise TimeoutError(f"{len(late)} messages are not confirmed after {timeout:g} s, {address} among them")

    async def close(self) -> None:
        """Give up what is not confirmed, and take no more.

        Idempotent; `drain` first to lose nothing.
        """
        self._closed = True
        for window in self._windows.values():
            window.close()
        for task in self._sending:
            task.cancel()
        if self._sending:
            await asyncio.wait(set(self._sending))


class _Window:
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
