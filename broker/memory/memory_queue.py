"""Queues envelopes of the in-process broker, with the faults that a test asks for.

It never sees a party, only whoever consumes from it at the moment.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Protocol

from tercet.broker.interface.base import Envelope

PATIENCE: Final = 0.05  # seconds that an envelope to be overtaken waits for another one


@dataclass(frozen=True, slots=True)
class Drop:
    """The envelope is confirmed and lost."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The envelope arrives `times` times more, directly behind itself."""

    times: int = 1


@dataclass(frozen=True, slots=True)
class Delay:
    """The envelope arrives so many seconds later; others pass it."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reorder:
    """The envelope arrives ahead of all that wait in its queue.

    When none does, behind the next one to come.
    """


Fault = Drop | Duplicate | Delay | Reorder
Faults = Callable[[Envelope, str], Sequence[Fault]]  # (envelope, queue name) -> what befalls it on its way in


def no_faults(_envelope: Envelope, _queue: str) -> Sequence[Fault]:
    """Let nothing go wrong: a network that works."""
    return ()


@lru_cache(maxsize=4096)
def matches(pattern: str, key: str) -> bool:
    """Tell whether a topic binding takes a routing key.

    `*` is one word, `#` any number of them, none included.
    """
    return _match(tuple(pattern.split(".")), tuple(key.split(".")))


def _match(pattern: tuple[str, ...], words: tuple[str, ...]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_match(pattern[1:], words[start:]) for start in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _match(pattern[1:], words[1:])


@dataclass(slots=True)
class Entry:
    """Holds an envelope in a queue, and the loop's time at which it expires."""

    envelope: Envelope
    expires_at: float
    redelivered: bool = False


class QueueConsumer(Protocol):
    """Consumes from a queue."""

    def has_room(self) -> bool:
        """Tell whether it would take one more entry now."""

    def deliver(self, entry: Entry) -> None:
        """Hold an entry until it is settled or given back."""

    def forget(self) -> None:
        """Drop what came from the queue: it is gone."""


class MemoryQueue:
    """Holds envelopes that wait, and at most one consumer."""

    def __init__(self, name: str, owner: object | None, expired: Callable[[Envelope], None] = lambda _: None) -> None:
        self.name, self._expired = name, expired
        self.owner = owner  # the only connection that may use a private queue
        self.consumer: QueueConsumer | None = None
        self._waiting: deque[Entry] = deque()
        self._overtaken: list[Entry] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def arrive(self, envelope: Envelope, faults: Sequence[Fault]) -> None:
        """Queue an envelope as often, as late and in the place that the faults say."""
        loop = asyncio.get_running_loop()
        delay = sum(fault.seconds for fault in faults if isinstance(fault, Delay))
        if any(isinstance(fault, Drop) for fault in faults):
            return
        copies = 1 + sum(fault.times for fault in faults if isinstance(fault, Duplicate))
        ahead = any(isinstance(fault, Reorder) for fault in faults)
        if delay:
            loop.call_later(delay, self._enter, envelope, copies, ahead)
        else:
            self._enter(envelope, copies, ahead)

    def _enter(self, envelope: Envelope, copies: int, ahead: bool) -> None:  # noqa: FBT001
        expires = math.inf if envelope.expires is None else asyncio.get_running_loop().time() + envelope.expires
        plain = not envelope.persistent and envelope.expires is None
        received = envelope if plain else replace(envelope, persistent=False, expires=None)
        entries = [Entry(received, expires) for _ in range(copies)]
        if not ahead:
            overtaken, self._overtaken = self._overtaken, []
            self._waiting.extend([*entries, *overtaken])
        elif self._waiting:
            self._waiting.extendleft(reversed(entries))
        else:
            self._overtaken.extend(entries)
            asyncio.get_running_loop().call_later(PATIENCE, self._enter_overtaken)
        self.pump()

    def _enter_overtaken(self) -> None:
        overtaken, self._overtaken = self._overtaken, []
        self._waiting.extend(overtaken)
        self.pump()

    def give_back(self, entries: Iterable[Entry]) -> None:
        """Put unsettled entries, oldest first, back at the head."""
        returned = list(entries)
        for entry in returned:
            entry.redelivered = True
        self._waiting.extendleft(reversed(returned))
        self.pump()

    def pump(self) -> None:
        """Hand to the consumer what its prefetch allows."""
        now = asyncio.get_running_loop().time()
        while self._waiting and self.consumer is not None and self.consumer.has_room():
            entry = self._waiting.popleft()
            if entry.expires_at > now:
                self.consumer.deliver(entry)
            else:
                self._expired(entry.envelope)
