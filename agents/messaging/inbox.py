"""Buffers opened messages until a role receives them.

It sees neither seals nor the broker, and bounds the bytes that each sender may leave here.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tercet.agents.core.problems import DeadlinePassed, JobProblem
from tercet.agents.messaging.trace import Place, Trace
from tercet.schemas.files.settings import Limits
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.codec import encode
from tercet.schemas.messages.kinds import Message
from tercet.schemas.messages.message import MODELS
from tercet.schemas.messages.tensor import ShapeProblem, Words, expect

M = TypeVar("M", bound=Message)
Key = tuple[type[Message], str, int, int]
Latest = dict[tuple[type[Message], str], tuple[int, int]]

NOTHING = (-1, -1)  # before the first epoch and step
MOST_USED = 1024  # messages of a kind and sender; far more than steps that run side by side can have
ENVELOPE_BYTES = 1024  # what a message that waits is counted as beside its body: many small ones take room as well
PART_BYTES = 128  # and a part of one
SMALLEST_PART = 1024  # what [limits] part_bytes allows


@dataclass(frozen=True, slots=True)
class Deadline:
    """Bounds a wait, and names the bound for reports."""

    name: str
    seconds: float


class _Used:
    """Remembers which messages of one kind and sender were used, if not too long ago.

    A later step's may be used before an earlier one has come: large messages of steps that run side by side overtake
    each other, and what a broker has lost is sent again.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[int, int], None] = {}  # in the order of use
        self._forgotten = NOTHING

    def __contains__(self, place: tuple[int, int]) -> bool:
        return place <= self._forgotten or place in self._places

    def add(self, place: tuple[int, int]) -> None:
        """Remember one more; whatever is not after a forgotten one counts as used."""
        self._places[place] = None
        if len(self._places) > MOST_USED:
            oldest = next(iter(self._places))
            del self._places[oldest]
            self._forgotten = max(self._forgotten, oldest)


@dataclass(slots=True, eq=False)
class _Wait:
    stage: str
    missing: set[Key]
    arrived: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Inbox:
    """Holds messages by sender, kind, epoch and step, for one use each.

    Repeats are dropped.
    """

    def __init__(self, me: str, senders: Iterable[str], limits: Limits, latest: Latest | None = None) -> None:
        self._me, self._limits = me, limits
        self._parts: dict[Address, dict[int, bytes]] = {}
        self._messages: dict[Key, tuple[Any, int]] = {}  # each of its key's model, with the size of the body
        self._used: defaultdict[tuple[type[Message], str], _Used] = defaultdict(_Used)
        self._latest: Latest = {} if latest is None else latest  # of control messages, in all attempts
        self._held_bytes: dict[str, int] = dict.fromkeys(senders, 0)
        self._waits: list[_Wait] = []
        self._missed: DeadlinePassed | None = None  # it will end the attempt soon
        self.waited_seconds: dict[str, float] = {}  # seconds, by round
        self.refused: Counter[str] = Counter()  # messages, by the name of the error
        self.trace = Trace()

    # --- filing

    def _is_new(self, address: Address, model: type[Message]) -> bool:
        """Tell whether a control message is its sender's newest of this kind, and note it."""
        place = (address.epoch, address.step)
        if place <= self._latest.get((model, address.sender), NOTHING):
            return False
        self._latest[model, address.sender] = place
        return True

    def _count_bytes(self, address: Address, size: int) -> None:
        self._held_bytes[address.sender] += size
        limit = self._limits.message_mib * 2**20
        if self._held_bytes[address.sender] > limit or address.parts > limit // SMALLEST_PART:
            raise JobProblem(
                "message.oversized",
                address.sender,
                f"{address.sender} sent more than {self._limits.message_mib} MiB at once to {self._me} "
                f"({address.round}); {self._me} takes no more than that ([limits] message_mib)",
            )

    def _is_known(self, address: Address, kind: str) -> bool:
        """Tell whether the message at this address is here, or has been used."""
        model, place = MODELS.get((kind, address.item), Message), (address.epoch, address.step)
        return place in self._used[model, address.sender] or (model, address.sender, *place) in self._messages

    def _join_part(self, address: Address, chunk: bytes) -> bytes | None:
        parts = self._parts.setdefault(address.whole, {})
        if address.part not in parts:
            self._count_bytes(address, len(chunk) + (PART_BYTES if parts else ENVELOPE_BYTES))
            parts[address.part] = chunk
        if len(parts) < address.parts:
            return None
        del self._parts[address.whole]
        self._held_bytes[address.sender] -= (
            sum(map(len, parts.values())) + ENVELOPE_BYTES + PART_BYTES * (len(parts) - 1)
        )
        return b"".join(parts[number] for number in sorted(parts))

    def _store_message(self, address: Address, message: Message, size: int) -> None:
        place = (address.epoch, address.step)
        if place in self._used[type(message), address.sender]:
            return  # a repeat of something used already
        key = (type(message), address.sender, *place)
        if key in self._messages:
            if encode(self._messages[key][0]) != encode(message):
                raise self._malformed(address, "two different messages for one address")
            return
        size += ENVELOPE_BYTES
        self._count_bytes(address, size)
        self._messages[key] = (message, size)
        for wait in self._waits:
            wait.missing.discard(key)
            if not wait.missing and not wait.arrived.done():
                wait.arrived.set_result(None)

    def _malformed(self, address: Address, what: str) -> JobProblem:
        return JobProblem(
            "message.malformed",
            address.sender,
            f"{address.sender} sent {self._me} a message that is not valid ({address.round}): {what}; do both agents "
            f"run the same version?",
        )

    # --- waiting

    async def receive(
        self, model: type[M], senders: Iterable[str], deadline: Deadline, *, epoch: int = 0, step: int = 0
    ) -> dict[str, M]:
        """Receive one message of this model from each sender; each only once.

        Raises:
            Overdue: not all came in time; it names the parties this agent waits for.
        """
        keys: dict[str, Key] = {sender: (model, sender, epoch, step) for sender in senders}
        missing = {key for key in keys.values() if key not in self._messages}
        if missing:
            await self._await_arrival(_Wait(model.kind, missing), deadline, Place(model.round, epoch, step))
        return {sender: self._take_message(key, model) for sender, key in keys.items()}

    async def _await_arrival(self, wait: _Wait, deadline: Deadline, place: Place) -> None:
        self._waits.append(wait)
        whom = sorted({key[1] for key in wait.missing})
        since = time.perf_counter()
        try:
            async with asyncio.timeout(deadline.seconds):
                await wait.arrived
        except TimeoutError:
            overdue = DeadlinePassed(deadline.name, self.stage, self.waits_for)
            self._missed = self._missed or overdue
            raise overdue from None
        finally:
            self._waits.remove(wait)
            waited = self.waited_seconds.get(place.round, 0.0) + time.perf_counter() - since
            self.waited_seconds[place.round] = waited
            self.trace.note_message("wait", wait.stage, since, place, whom)

    def _take_message(self, key: Key, model: type[M]) -> M:
        message: M
        message, size = self._messages.pop(key)
        _, sender, epoch, step = key
        self._used[model, sender].add((epoch, step))
        self._held_bytes[sender] -= size
        return message

    def checked_words(
        self, messages: Mapping[str, Message], shape: Callable[[str], tuple[int, int]]
    ) -> dict[str, Words]:
        """Check the tensors of messages against the shapes due from their senders.

        Raises:
            JobProblem: a tensor has another shape; its sender is named.
        """
        checked = {}
        for sender, message in messages.items():
            try:
                checked[sender] = expect(message.words, *shape(sender))  # type: ignore[attr-defined]
            except ShapeProblem as error:
                raise JobProblem(
                    "message.shape", sender, f"{sender} sent {self._me} a {message.kind} of a wrong shape: {error}"
                ) from None
        return checked

    @property
    def held_bytes(self) -> dict[str, int]:
        """Bytes of each sender that are here and not yet used."""
        return dict(self._held_bytes)

    @property
    def waits_for(self) -> tuple[str, ...]:
        """The parties that this agent is waiting for right now, or was when its patience ended."""
        if self._missed is not None:
            return self._missed.waits_for
        return tuple(sorted({key[1] for wait in self._waits for key in wait.missing}))

    @property
    def stage(self) -> str:
        """Kinds of messages that it waits for."""
        if self._missed is not None:
            return self._missed.stage
        return " and ".join(sorted({wait.stage for wait in self._waits}))
