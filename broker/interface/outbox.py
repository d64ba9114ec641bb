"""Sends envelopes without waiting for confirms, and repeats those that did not go through.

It bounds what is out at a time. An envelope that goes through at once takes no task and no timer of its own.

It never looks into a body, never seals one again (the same ciphertext goes out each time), and knows no protocol.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final

import structlog

from tercet.broker.interface.base import Answer, Broker, BrokerError, Disconnected, Envelope, Lane, Unroutable
from tercet.broker.interface.clock import loop_time
from tercet.broker.interface.window import Window

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


@dataclass(slots=True, eq=False)
class _Post:
    envelope: Envelope
    lane: Lane
    deadline: float  # seconds, from the call
    until: float  # on the outbox's clock
    name: str
    required: bool
    answer: "Answer | None" = None  # to the first attempt, while that is out
    late_at: float = 0.0  # on the loop's clock, when the first attempt has taken too long
    repeating: asyncio.Task[None] | None = None  # all further attempts
    ended: asyncio.Future[None] | None = None  # for whoever drains


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
        self._windows = {lane: Window(max_bytes, max_unconfirmed) for lane in Lane}
        self._pauses = pauses
        self._attempt = attempt
        self._clock = clock
        self._sleep = sleep
        self._sending: dict[_Post, None] = {}  # in the order of the calls
        self._timer: asyncio.TimerHandle | None = None  # for the first attempt that is late
        self._timer_at = 0.0
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
            if self._closed:  # while this was let in
                window.leave(len(envelope.body))
                raise RuntimeError("this outbox is closed")
        self._sending[post] = None
        self._begin(post)

    def _begin(self, post: _Post) -> None:
        left = post.until - self._clock()
        if left <= 0:
            self._end(post, Undeliverable(post.envelope, post.deadline, post.name, None))
            return
        post.late_at = asyncio.get_running_loop().time() + min(left, self._attempt)
        post.answer = self._broker.send(post.envelope, post.lane)
        post.answer.add_done_callback(lambda answer: self._hear(post, answer))
        self._watch(post.late_at)

    def _hear(self, post: _Post, answer: Answer) -> None:
        """Take what has become of a first attempt."""
        post.answer = None
        if post not in self._sending:  # closed
            return
        if answer.cancelled():
            self._repeat(post, None)
            return
        error = answer.exception()
        if error is None:
            self.answered = self._clock()
            self._end(post, None)
        elif not isinstance(error, BrokerError):
            self._end(post, error)
        elif (failure := self._judge(post, error)) is not None:
            self._end(post, failure)
        else:
            self._repeat(post, error)

    def _judge(self, post: _Post, error: BrokerError) -> Undeliverable | None:
        """Note the broker's answer; return the failure if a repeat is of no use."""
        if not isinstance(error, Disconnected):
            self.answered = self._clock()
        if error.transient and (post.required or not isinstance(error, Unroutable)):
            return None
        failure = Undeliverable(post.envelope, post.deadline, post.name, error)
        failure.__cause__ = error
        return failure

    def _watch(self, late_at: float) -> None:
        """Look again by then.

        One timer is enough for all, as most attempts last as long as one another.
        """
        if self._timer is not None:
            if self._timer_at <= late_at:
                return
            self._timer.cancel()
        self._timer, self._timer_at = asyncio.get_running_loop().call_at(late_at, self._look), late_at

    def _look(self) -> None:
        """Give up first attempts that have taken too long."""
        self._timer, now = None, asyncio.get_running_loop().time()
        out = [post for post in self._sending if post.answer is not None]
        for post in out:
            if post.answer is not None and post.late_at <= now:
                post.answer.cancel()
        later = [post.late_at for post in out if post.late_at > now]
        if later:
            self._watch(min(later))

    def _repeat(self, post: _Post, reason: BrokerError | None) -> None:
        post.repeating = asyncio.create_task(
            self._until_confirmed(post, reason), name=f"sending {post.envelope.address}"
        )
        post.repeating.add_done_callback(lambda task: self._hear_last(post, task))

    def _hear_last(self, post: _Post, task: asyncio.Task[None]) -> None:
        # Not at the end of the task, which one that is cancelled before it has begun never reaches.
        if post in self._sending:
            self._end(post, asyncio.CancelledError() if task.cancelled() else task.exception())

    def _end(self, post: _Post, error: BaseException | None) -> None:
        """Forget an envelope, and count it or tell why it is lost."""
        size = len(post.envelope.body)
        del self._sending[post]
        self._windows[post.lane].leave(size)
        if post.ended is not None and not post.ended.done():
            post.ended.set_result(None)
        if error is None:
            count = self.sent.setdefault(post.envelope.kind, SentCount())
            count.messages += 1
            count.bytes += size
        elif isinstance(error, Undeliverable):
            self._give_up(post, error)
        elif isinstance(error, Exception):  # a bug of ours, which the owner must see
            self._fail(error)

    async def _until_confirmed(self, post: _Post, reason: BrokerError | None) -> None:
        """Repeat an envelope until it is confirmed.

        `reason` is what the broker has said to the first attempt.
        """
        said = reason is not None
        for pause in chain(self._pauses, repeat(self._pauses[-1])):
            if said:
                await self._sleep(max(0.0, min(pause, post.until - self._clock())))
            left = post.until - self._clock()
            if left <= 0:
                raise Undeliverable(post.envelope, post.deadline, post.name, reason)
            said = False
            try:
                async with asyncio.timeout(min(left, self._attempt)):
                    await self._broker.send(post.envelope, post.lane)
            except TimeoutError:
                continue
            except BrokerError as error:
                reason, said = error, True
                if (failure := self._judge(post, error)) is not None:
                    raise failure from error
            else:
                self.answered = self._clock()
                return

    def _give_up(self, post: _Post, failure: Undeliverable) -> None:
        if post.required:
            self._fail(failure)
            return
        self.dropped[post.envelope.kind] += 1
        log.debug("optional message dropped", kind=post.envelope.kind, address=post.envelope.address)

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    def give_up_unroutable(self) -> None:
        """Drop what was posted so far and no queue takes: its receiver has left."""
        for post in self._sending:
            post.required = False

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109  a named duration of the caller's
        """Wait until all that was posted before is confirmed or given up.

        What is posted meanwhile may remain.

        Cancelled or late, it leaves the envelopes on their way.

        Raises:
            TimeoutError: some are still on their way after `timeout` seconds; names one.
        """
        waiting = {self._end_of(post): post for post in self._sending}
        if not waiting:
            return
        _, unconfirmed = await asyncio.wait(waiting, timeout=timeout)
        for ended in unconfirmed:
            raise TimeoutError(
                f"{len(unconfirmed)} messages are not confirmed after {timeout:g} s, "
                f"{waiting[ended].envelope.address} among them"
            )

    def _end_of(self, post: _Post) -> asyncio.Future[None]:
        if post.ended is None:
            post.ended = asyncio.get_running_loop().create_future()
        return post.ended

    async def close(self) -> None:
        """Give up what is not confirmed, and take no more.

        Idempotent; `drain` first to lose nothing.
        """
        self._closed = True
        for window in self._windows.values():
            window.close()
        if self._timer is not None:
            self._timer.cancel()
        posts = tuple(self._sending)
        for post in posts:
            if post.answer is not None:
                post.answer.cancel()
            if post.repeating is not None:
                post.repeating.cancel()
            self._end(post, asyncio.CancelledError())
        out = [each for post in posts for each in (post.answer, post.repeating) if each is not None]
        if out:
            await asyncio.wait(out)
