"""One party's letters of one job: seals what leaves, opens what comes, drops repeats, and lets the roles wait by name.

It knows addresses, kinds and sizes; what a message means and when it is due is decided elsewhere. A delivery is settled
as soon as it is in here, never when it is used: holding deliveries until use deadlocks once two senders share a queue.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from agents.problems import JobProblem, Overdue
from broker import topology
from broker.base import Delivery, Parcel
from broker.identity import Forged, Identity, PublicIdentity
from broker.outbox import Outbox
from broker.seal import SessionSeal, associated_data
from schemas.address import Address, MalformedAddress, Round, parse_address
from schemas.codec import MODELS, MalformedMessage, decode, encode
from schemas.messages import Cancel, Failure, Message, Progress
from schemas.settings import Limits
from schemas.tensor import ShapeProblem, Words, expect

M = TypeVar("M", bound=Message)
Tap = Callable[[Address, Message], Message]
Key = tuple[type[Message], str, int, int]

IDENTITY_ROUNDS = frozenset({Round.CONTROL, Round.HANDSHAKE})  # before there are session keys, or without them
NOTHING = (-1, -1)  # before the first epoch and step
SMALLEST_PART = 1024  # what [limits] part_bytes allows
CONTROL = (Progress, Failure, Cancel)  # handed over at once instead of being waited for


@dataclass(frozen=True, slots=True)
class Deadline:
    """How long a wait may last, and what a report calls it."""

    name: str
    seconds: float


@dataclass(slots=True, eq=False)
class _Wait:
    stage: str
    missing: set[Key]
    arrived: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Mailbox:
    """Everything that one party says and hears in one attempt of one job."""

    def __init__(
        self,
        address: Address,
        identity: Identity,
        partners: Mapping[str, PublicIdentity],
        outbox: Outbox,
        limits: Limits,
        on_control: Callable[[str, Message], None],
        on_problem: Callable[[JobProblem], None],
        tap: Tap | None = None,
    ) -> None:
        """`address` gives job, attempt and, as its sender, this party."""
        self._template, self._me = address, address.sender
        self._identity, self._partners, self._outbox, self._limits = identity, partners, outbox, limits
        self._on_control, self._on_problem, self._tap = on_control, on_problem, tap
        self._log = structlog.get_logger()
        self._session: SessionSeal | None = None
        self._unopened: list[tuple[Address, Parcel]] = []
        self._parts: dict[Address, dict[int, bytes]] = {}
        self._letters: dict[Key, tuple[Message, int]] = {}  # with the size of the body
        self._consumed: dict[tuple[type[Message], str], tuple[int, int]] = {}
        self._held: dict[str, int] = dict.fromkeys(partners, 0)
        self._waits: list[_Wait] = []

    # --- sending

    async def send(
        self,
        message: Message,
        receivers: Iterable[str],
        deadline: Deadline,
        *,
        epoch: int = 0,
        step: int = 0,
        required: bool = True,
    ) -> None:
        """Hand a message over for each receiver; returns without waiting for any to arrive.

        An optional message is dropped where its receiver has no queue for it.
        """
        body = None if self._tap else encode(message)
        for receiver in receivers:
            address = self._template._replace(
                round=message.round, item=message.item, epoch=epoch, step=step, receiver=receiver
            )
            sent = body if body is not None else encode(self._tap(address, message)) if self._tap else b""
            for parcel in self._parcels(address, message, sent):
                await self._outbox.post(
                    parcel,
                    topology.lane(message.round),
                    deadline=deadline.seconds,
                    name=deadline.name,
                    required=required,
                )

    def _parcels(self, address: Address, message: Message, body: bytes) -> Iterable[Parcel]:
        size = self._limits.part_bytes
        parts = max(1, -(-len(body) // size))
        for number in range(parts):
            part = address._replace(part=number + 1, parts=parts)
            chunk = memoryview(body)[number * size : (number + 1) * size]
            yield Parcel(
                exchange=topology.exchange(self._me),
                routing_key=topology.routing_key(address.job, address.round, address.receiver),
                body=self._seal(part, message.kind, chunk),
                kind=message.kind,
                address=str(part),
                job=address.job,
                sender=self._me,
                persistent=message.round == Round.CONTROL,
            )

    def _seal(self, address: Address, kind: str, chunk: memoryview) -> bytes:
        associated = associated_data(str(address), kind)
        if address.round in IDENTITY_ROUNDS:
            return self._identity.seal(bytes(chunk), self._partners[address.receiver], associated)
        if self._session is None:
            raise AssertionError(f"{kind} before the handshake is done")
        return self._session.seal(address.receiver, chunk, associated)

    # --- receiving

    def establish(self, session: SessionSeal) -> None:
        """The handshake is done: open what other parties, who were faster, have sent already."""
        self._session = session
        unopened, self._unopened = self._unopened, []
        for address, parcel in unopened:
            self._held[address.sender] -= len(parcel.body)
            self._guarded(address, parcel)

    async def deliver(self, delivery: Delivery) -> None:
        """Take a delivery from the broker and settle it."""
        try:
            address = self._addressed(delivery.parcel)
        except (MalformedAddress, ValueError) as error:
            self._log.warning("message refused", why=str(error), kind=delivery.parcel.kind[:32])
            await delivery.reject()
            return
        if self._guarded(address, delivery.parcel):
            await delivery.ack()
        else:
            await delivery.reject()

    def _addressed(self, parcel: Parcel) -> Address:
        address = parse_address(parcel.address)
        mine = self._template._replace(receiver=self._me)
        if (address.job, address.attempt, address.receiver) != (mine.job, mine.attempt, mine.receiver):
            raise ValueError("an address of another job, attempt or party")
        if address.sender not in self._partners:
            raise ValueError("a sender that is no party of the job")
        return address

    def _guarded(self, address: Address, parcel: Parcel) -> bool:
        """Take a parcel in; what is wrong with it ends the job with its sender named."""
        try:
            self._take(address, parcel)
        except JobProblem as problem:
            self._on_problem(problem)
            return False
        return True

    def _take(self, address: Address, parcel: Parcel) -> None:
        if self._session is None and address.round not in IDENTITY_ROUNDS:
            self._hold(address, len(parcel.body))
            self._unopened.append((address, parcel))
            return
        chunk = self._open(address, parcel)
        if address.parts > 1 and self._has(address, parcel.kind):
            return  # a repeat of a part: it would wait for the others forever
        body = chunk if address.parts == 1 else self._join(address, chunk)
        if body is None:
            return
        message = self._decode(address, parcel.kind, body)
        if isinstance(message, CONTROL):
            self._on_control(address.sender, message)
        else:
            self._file(address, message, len(body))

    def _hold(self, address: Address, size: int) -> None:
        self._held[address.sender] += size
        limit = self._limits.message_mib * 2**20
        if self._held[address.sender] > limit or address.parts > limit // SMALLEST_PART:
            raise JobProblem(
                "message.oversized",
                address.sender,
                f"{address.sender} sent more than {self._limits.message_mib} MiB at once to {self._me} "
                f"({address.round}); {self._me} takes no more than that ([limits] message_mib)",
            )

    def _open(self, address: Address, parcel: Parcel) -> bytes:
        associated = associated_data(parcel.address, parcel.kind)
        try:
            if self._session is None or address.round in IDENTITY_ROUNDS:
                return self._identity.open(parcel.body, self._partners[address.sender], associated)
            return self._session.open(address.sender, parcel.body, associated)
        except Forged:
            raise JobProblem(
                "message.forged",
                address.sender,
                f"a message in {address.sender}'s name ({parcel.kind[:32]}) does not open at {self._me}: it was changed "
                f"on the way, or {address.sender} has another key than the one in {self._me}'s settings; compare the "
                f"keys that `tercet keygen` printed",
            ) from None

    def _has(self, address: Address, kind: str) -> bool:
        """Whether the message at this address is here, or was and has been used."""
        model, place = MODELS.get((kind, address.item), Message), (address.epoch, address.step)
        used = self._consumed.get((model, address.sender), NOTHING)
        return place <= used or (model, address.sender, *place) in self._letters

    def _join(self, address: Address, chunk: bytes) -> bytes | None:
        parts = self._parts.setdefault(address.whole, {})
        if address.part not in parts:
            self._hold(address, len(chunk))
            parts[address.part] = chunk
        if len(parts) < address.parts:
            return None
        del self._parts[address.whole]
        self._held[address.sender] -= sum(map(len, parts.values()))
        return b"".join(parts[number] for number in sorted(parts))

    def _decode(self, address: Address, kind: str, body: bytes) -> Message:
        try:
            message = decode(body)
        except MalformedMessage as error:
            raise self._malformed(address, str(error)) from None
        if (message.kind, message.round, message.item) != (kind, address.round, address.item):
            raise self._malformed(address, "its address belongs to another kind of message")
        return message

    def _malformed(self, address: Address, what: str) -> JobProblem:
        return JobProblem(
            "message.malformed",
            address.sender,
            f"{address.sender} sent {self._me} a message that is not valid ({address.round}): {what}; do both agents "
            f"run the same version?",
        )

    def _file(self, address: Address, message: Message, size: int) -> None:
        place = (address.epoch, address.step)
        if place <= self._consumed.get((type(message), address.sender), NOTHING):
            return  # a repeat of something used already
        key = (type(message), address.sender, *place)
        if key in self._letters:
            if encode(self._letters[key][0]) != encode(message):
                raise self._malformed(address, "two different messages for one address")
            return
        self._hold(address, size)
        self._letters[key] = (message, size)
        for wait in self._waits:
            wait.missing.discard(key)
            if not wait.missing and not wait.arrived.done():
                wait.arrived.set_result(None)

    # --- waiting

    async def receive(
        self, model: type[M], senders: Iterable[str], deadline: Deadline, *, epoch: int = 0, step: int = 0
    ) -> dict[str, M]:
        """One message of this model from each sender, by sender. Each can be received once, in the order of steps.

        Raises:
            Overdue: not all came in time; it names the parties this agent waits for.
        """
        keys: dict[str, Key] = {sender: (model, sender, epoch, step) for sender in senders}
        missing = {key for key in keys.values() if key not in self._letters}
        if missing:
            await self._arrival(_Wait(model.kind, missing), deadline)
        return {sender: self._pop(key, model) for sender, key in keys.items()}

    async def _arrival(self, wait: _Wait, deadline: Deadline) -> None:
        self._waits.append(wait)
        try:
            async with asyncio.timeout(deadline.seconds):
                await wait.arrived
        except TimeoutError:
            raise Overdue(deadline.name, deadline.seconds, self.stage, self.waits_for) from None
        finally:
            self._waits.remove(wait)

    def _pop(self, key: Key, model: type[M]) -> M:
        message, size = self._letters.pop(key)
        assert isinstance(message, model)
        _, sender, epoch, step = key
        self._consumed[model, sender] = (epoch, step)
        self._held[sender] -= size
        return message

    def words(self, messages: Mapping[str, Message], shape: Callable[[str], tuple[int, int]]) -> dict[str, Words]:
        """The tensors of some messages, each checked against the shape due from its sender.

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
    def partners(self) -> tuple[str, ...]:
        """The parties that this one speaks with."""
        return tuple(self._partners)

    @property
    def waits_for(self) -> tuple[str, ...]:
        """The parties that this agent is waiting for right now."""
        return tuple(sorted({key[1] for wait in self._waits for key in wait.missing}))

    @property
    def stage(self) -> str:
        """What it is waiting for."""
        return " and ".join(sorted({wait.stage for wait in self._waits}))
