"""Seals outgoing messages; opens and files incoming ones.

It knows addresses, kinds and sizes, but not the meaning of a message or when it is due. It settles a delivery on
arrival, not on use: otherwise two senders that share a queue would deadlock.

A message that does not open proves nothing about the party it names. It is refused, and the job goes on. A message that
opens and is wrong ends the job, and its sender is named.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from tercet.agents.core.problems import JobProblem
from tercet.agents.messaging.inbox import ENVELOPE_BYTES, Deadline, Inbox, Latest, M
from tercet.agents.messaging.trace import Place
from tercet.broker.interface import topology
from tercet.broker.interface.base import Delivery, Envelope
from tercet.broker.interface.dead_letters import BURST, EVERY_SECONDS, clean_text
from tercet.broker.interface.outbox import Outbox, SentCount
from tercet.broker.interface.rate_limiter import RateLimiter
from tercet.broker.sealing.identity import Forged, Identity, PublicIdentity
from tercet.broker.sealing.seal import SessionSeal, associated_data
from tercet.schemas.files.settings import Limits
from tercet.schemas.messages.address import Address, MalformedAddress, Round, parse_address
from tercet.schemas.messages.codec import Companion, MalformedMessage, decode_all, encode
from tercet.schemas.messages.kinds import Cancel, Failure, Message, Outcome, Progress
from tercet.schemas.messages.tensor import Words

Tap = Callable[[Address, Message], Message]

IDENTITY_ROUNDS = frozenset({Round.CONTROL, Round.HANDSHAKE})  # before there are session keys, or without them
CONTROL = (Progress, Failure, Cancel, Outcome)  # handed over at once instead of being waited for
CONTROL_KINDS = frozenset(model.kind for model in CONTROL)
LARGE = 2**21  # bytes: packing or reading more than this takes a millisecond, and a thread


class Unwanted(ValueError):
    """Refuses a parcel that proves nothing about the party it claims to be from."""


class Mailbox(Inbox):
    """Sends and receives all messages of one party in one attempt of a job."""

    def __init__(
        self,
        address: Address,
        *,
        run: bytes,
        identity: Identity,
        partners: Mapping[str, PublicIdentity],
        outbox: Outbox,
        limits: Limits,
        early_bytes: int,
        on_control: Callable[[Address, Message], None],
        on_problem: Callable[[JobProblem], None],
        tap: Tap | None = None,
        latest: Latest | None = None,
    ) -> None:
        """`address` gives job, attempt and, as its sender, this party.

        `early_bytes` is what each sender may have waiting here before there are keys to open it with; `latest` are
        the control messages that came last, which the attempts of a run share.
        """
        super().__init__(address.sender, partners, limits, latest)
        self.closed = False  # then it takes in control messages only
        self.first_epoch = 0  # in addresses: each training of an attempt has epochs of its own
        self._template, self._run = address, run
        self._identity, self._partners, self._outbox = identity, partners, outbox
        self._on_control, self._on_problem, self._tap = on_control, on_problem, tap
        self._log = structlog.get_logger()
        self._session: SessionSeal | None = None
        self._early: dict[Address, Envelope] = {}
        self._early_bytes = early_bytes
        self._complaints = RateLimiter(BURST, EVERY_SECONDS)
        self._sizes: dict[tuple[type[Message], tuple[int, ...]], int] = {}
        self._companions_sent: dict[tuple[str, str], SentCount] = {}  # by kind of the carrier and of the companion

    @property
    def partners(self) -> tuple[str, ...]:
        """The parties that this one speaks with."""
        return tuple(self._partners)

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
        along: Sequence[Companion] = (),
    ) -> None:
        """Hand a message over for each receiver; returns without waiting for any to arrive.

        An optional message is dropped where its receiver has no queue for it. `along` are others of the same round that
        travel in the same envelope: what a small message costs is mostly its envelope.
        """
        receivers, since = tuple(receivers), time.perf_counter()
        if not isinstance(message, CONTROL):
            epoch += self.first_epoch
            along = [one._replace(epoch=one.epoch + self.first_epoch) for one in along]
        self._note_companions(message, along, len(receivers))
        body = b"" if self._tap else await _encode(message, along)
        for receiver in receivers:
            address = self._message_address(message, epoch, step, receiver)
            if self._tap:
                body = await _encode(*self._tapped(self._tap, Companion(message, epoch, step), along, receiver))
            for envelope in self._envelopes(address, message, body):
                await self._outbox.post(
                    envelope,
                    topology.lane(message.round),
                    deadline=deadline.seconds,
                    name=deadline.name,
                    required=required,
                )
                if len(body) > LARGE:
                    await asyncio.sleep(0)  # sealing many parts in one go would hold up heartbeats
        self.trace.note_message("send", message.kind, since, Place(message.round, epoch, step), receivers)

    def _note_companions(self, message: Message, along: Sequence[Companion], times: int) -> None:
        for companion, _, _ in along:
            count = self._companions_sent.setdefault((message.kind, companion.kind), SentCount())
            count.messages += times
            count.bytes += times * self._body_size(companion)

    def _body_size(self, message: Message) -> int:
        """Measure a body; tensors are packed once per shape, as only that decides their size."""
        words: Words | None = getattr(message, "words", None)
        if words is None:
            return len(encode(message))
        key = (type(message), words.shape)
        if key not in self._sizes:
            self._sizes[key] = len(encode(message))
        return self._sizes[key]

    @property
    def dropped(self) -> Mapping[str, int]:
        """Number of optional messages that were dropped, by kind."""
        return self._outbox.dropped

    @property
    def sent(self) -> dict[str, SentCount]:
        """Messages and bytes of sealed bodies sent, by kind; companions count by themselves."""
        sent = {kind: SentCount(count.messages, count.bytes) for kind, count in self._outbox.sent.items()}
        for (carrier, kind), count in self._companions_sent.items():
            if carrier in sent:
                sent[carrier].bytes -= count.bytes
                along = sent.setdefault(kind, SentCount())  # the kind may carry others itself
                along.messages += count.messages
                along.bytes += count.bytes
        return sent

    def _message_address(self, message: Message, epoch: int, step: int, receiver: str) -> Address:
        mine = self._template
        return Address(mine.job, mine.attempt, message.round, message.item, epoch, step, mine.sender, receiver)

    def _tapped(
        self, tap: Tap, message: Companion, along: Sequence[Companion], receiver: str
    ) -> tuple[Message, list[Companion]]:
        """Let a test look at, or change, what one receiver gets."""
        first, *others = (
            one._replace(message=tap(self._message_address(*one, receiver), one.message)) for one in (message, *along)
        )
        return first.message, others

    def _envelopes(self, address: Address, message: Message, body: bytes) -> Iterable[Envelope]:
        size = self._limits.part_bytes
        if len(body) <= size:
            yield self._envelope(address, message, body)
            return
        parts = -(-len(body) // size)
        for number in range(parts):
            chunk = memoryview(body)[number * size : (number + 1) * size]
            yield self._envelope(address._replace(part=number + 1, parts=parts), message, chunk)

    def _envelope(self, address: Address, message: Message, chunk: bytes | memoryview) -> Envelope:
        text = str(address)
        return Envelope(
            exchange=topology.exchange(self._me),
            routing_key=topology.routing_key(address.job, address.round, address.receiver),
            body=self._seal(address, message.kind, text, chunk),
            kind=message.kind,
            address=text,
            job=address.job,
            sender=self._me,
            persistent=message.round == Round.CONTROL,
        )

    def _seal(self, address: Address, kind: str, text: str, chunk: bytes | memoryview) -> bytes:
        associated = associated_data(text, kind, self._run)
        if address.round in IDENTITY_ROUNDS:
            return self._identity.seal(bytes(chunk), self._partners[address.receiver], associated)
        if self._session is None:
            raise AssertionError(f"{kind} before the handshake is done")
        return self._session.seal(address.receiver, chunk, associated)

    # --- receiving

    async def receive(
        self, model: type[M], senders: Iterable[str], deadline: Deadline, *, epoch: int = 0, step: int = 0
    ) -> dict[str, M]:
        """Receive as an inbox does; epochs count from that at which the training began."""
        return await super().receive(model, senders, deadline, epoch=self.first_epoch + epoch, step=step)

    async def establish(self, session: SessionSeal) -> None:
        """Use session keys from now on, and open early messages of faster parties."""
        self._session = session
        early, self._early = self._early, {}
        for address, envelope in early.items():
            await self._try_accept(address, envelope)

    async def deliver(self, delivery: Delivery) -> None:
        """Take a delivery from the broker and settle it."""
        since = time.perf_counter()
        try:
            address = self._checked_address(delivery.envelope)
            if self._is_stale(address, delivery.envelope.kind):
                await delivery.ack()
                return
            why = await self._try_accept(address, delivery.envelope)
            place = Place(address.round, address.epoch, address.step)
            self.trace.note_message("open", delivery.envelope.kind, since, place, (address.sender,))
        except (MalformedAddress, Unwanted) as error:
            why = self._refuse(delivery.envelope, error)
        if why is None:
            await delivery.ack()
        else:
            await delivery.reject(why)

    def _checked_address(self, envelope: Envelope) -> Address:
        address = parse_address(envelope.address)
        if (address.job, address.receiver) != (self._template.job, self._me):
            raise Unwanted("an address of another job or party")
        if address.sender not in self._partners:
            raise Unwanted("a sender that is no party of the job")
        if envelope.exchange != topology.exchange(address.sender):  # which nobody else may write to
            raise Unwanted(f"it says that it is from {address.sender}, and came through another party's exchange")
        return address

    def _is_stale(self, address: Address, kind: str) -> bool:
        """Tell whether a message is of another attempt, or of this one after its end.

        Control messages are heard whatever attempt their sender is at.
        """
        return kind not in CONTROL_KINDS and (self.closed or address.attempt != self._template.attempt)

    async def _try_accept(self, address: Address, envelope: Envelope) -> str | None:
        """Take an envelope, or say why not."""
        try:
            await self._accept(address, envelope)
        except Unwanted as error:
            return self._refuse(envelope, error)
        except JobProblem as problem:
            self._on_problem(problem)
            return str(problem)
        return None

    def _refuse(self, envelope: Envelope, error: ValueError) -> str:
        self.refused[type(error).__name__] += 1
        withheld = self._complaints.admit(envelope.exchange)
        if withheld is not None:
            self._log.warning(
                "message refused",
                why=str(error),
                exchange=clean_text(envelope.exchange),
                kind=clean_text(envelope.kind, 32),
                address=clean_text(envelope.address),
                withheld=withheld,
            )
        return str(error)

    async def _accept(self, address: Address, envelope: Envelope) -> None:
        if self._session is None and address.round not in IDENTITY_ROUNDS:
            self._hold_early(address, envelope)
            return
        chunk = self._open(address, envelope)
        if address.parts > 1 and self._is_known(address, envelope.kind):
            return  # a repeat of a part: it would wait for the others forever
        body = chunk if address.parts == 1 else self._join_part(address, chunk)
        if body is not None:
            message, along = await self._decode(address, envelope.kind, body)
            companions = sum(_size_in_body(companion) for companion, _, _ in along)
            self._deliver_message(address, message, len(body) - companions)
            for companion, epoch, step in along:  # each counts until it is used, which may be long after its carrier is
                place = address._replace(item=companion.item, epoch=epoch, step=step)
                self._deliver_message(place, companion, _size_in_body(companion))

    def _hold_early(self, address: Address, envelope: Envelope) -> None:
        """Hold a message until there are keys; anybody may send it, so space is small."""
        sizes = [len(p.body) + ENVELOPE_BYTES for a, p in self._early.items() if a.sender == address.sender]
        if address not in self._early and sum(sizes) + len(envelope.body) + ENVELOPE_BYTES > self._early_bytes:
            raise Unwanted("more than a partner has to say before the handshake is done")
        self._early.setdefault(address, envelope)

    def _open(self, address: Address, envelope: Envelope) -> bytes:
        associated = associated_data(envelope.address, envelope.kind, self._run)
        try:
            if self._session is None or address.round in IDENTITY_ROUNDS:
                return self._identity.open(envelope.body, self._partners[address.sender], associated)
            return self._session.open(address.sender, envelope.body, associated)
        except Forged:
            raise Unwanted(
                f"it does not open: changed on the way, of another run, or not from {address.sender}'s pinned key"
            ) from None

    async def _decode(self, address: Address, kind: str, body: bytes) -> tuple[Message, tuple[Companion, ...]]:
        try:
            message, along = decode_all(body) if len(body) <= LARGE else await asyncio.to_thread(decode_all, body)
        except MalformedMessage as error:
            raise self._malformed(address, str(error)) from None
        if (message.kind, message.round, message.item) != (kind, address.round, address.item):
            raise self._malformed(address, "its address belongs to another kind of message")
        if any(companion.message.round != address.round for companion in along):
            raise self._malformed(address, "what travels with it belongs to another round")
        return message, along

    def _deliver_message(self, address: Address, message: Message, size: int) -> None:
        if not isinstance(message, CONTROL):
            self._store_message(address, message, size)
        elif self._is_new(address, type(message)):
            self._on_control(address, message)


def _size_in_body(message: Message) -> int:
    """Estimate a message's bytes in a body: of a tensor those of its words."""
    words: Words | None = getattr(message, "words", None)
    return len(encode(message)) if words is None else words.nbytes


async def _encode(message: Message, along: Sequence[Companion]) -> bytes:
    words: Words | None = getattr(message, "words", None)
    if words is None or words.nbytes <= LARGE:
        return encode(message, along)
    return await asyncio.to_thread(encode, message, along)
