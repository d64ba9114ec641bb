"""States the promises of every broker, and the errors it may raise.

tests/broker/contract.py states the promises as tests.

Nothing here does I/O, and nothing here may look into a body: it is sealed before it comes here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, TypeAlias

from tercet.schemas.core.error import TercetError

if TYPE_CHECKING:
    import asyncio

REFUSED: Final = "it was refused"
CONNECT_SECONDS: Final = 30.0  # how long the first connection is tried for
MAX_NAME_BYTES: Final = 255  # AMQP's short strings: names, routing keys and properties
_TEXTS: Final = ("exchange", "routing_key", "kind", "address", "job", "sender")  # of an envelope
ALARM_REMEDY: Final = (
    "have its operator look at `rabbitmq-diagnostics alarms`, and make room or raise the limit; then all goes on"
)


class Lane(StrEnum):
    """Names the two connections of an agent, of which a message takes one.

    On a slow line filled by bulk, an 8 KiB round trip took 440 ms on one connection and 32 ms on two.
    """

    ONLINE = "online"  # pre-activations, activations, control
    BULK = "bulk"  # what is sent ahead: masked inputs and weights, dealt material


@dataclass(frozen=True, slots=True)
class Envelope:
    """Carries a sealed body, and beside it what an operator may read.

    The management page of the broker shows that.

    An envelope that exists can be sent: its texts fit AMQP's 255 bytes and its body is bytes.

    Raises:
        ValueError: a text is too long, or the address is empty; names the field.
        TypeError: the body is not bytes.
    """

    exchange: str
    routing_key: str
    body: bytes = field(repr=False)
    kind: str  # AMQP type
    address: str  # AMQP message_id: the whole address as text, which the seal authenticates
    job: str  # AMQP correlation_id
    sender: str  # AMQP app_id
    persistent: bool = False  # survives a restart of the broker in a queue that does
    expires: float | None = None  # seconds in a queue, after which nobody wants it

    def __post_init__(self) -> None:
        if type(self.body) is not bytes:
            raise TypeError(f"the body of an envelope is bytes, not {type(self.body).__name__}")
        if not self.address:
            raise ValueError("an envelope needs an address")
        texts = self.exchange, self.routing_key, self.kind, self.address, self.job, self.sender
        # Four bytes is the most UTF-8 needs for a character: encode only what could be too long.
        if max(map(len, texts)) * 4 > MAX_NAME_BYTES:
            self._check_lengths(texts)

    def _check_lengths(self, texts: tuple[str, ...]) -> None:
        for name, text in zip(_TEXTS, texts, strict=True):
            if len(text.encode()) > MAX_NAME_BYTES:
                raise ValueError(f"{name} of an envelope is longer than {MAX_NAME_BYTES} bytes: {text[:40]!r}...")


@dataclass(frozen=True, slots=True)
class Queue:
    """Describes a queue and what flows into it.

    A binding is an exchange and a routing key with topic wildcards (`*`, `#`).
    """

    name: str
    bindings: tuple[tuple[str, str], ...]
    private: bool = False  # one agent's or console's own, gone with its connection


class BrokerError(TercetError):
    """Reports something between this party and its partners.

    `transient`: the same envelope may go through a little later.
    """

    transient: ClassVar[bool] = False


class Unroutable(BrokerError):
    """No queue takes messages for this routing key.

    The receiver has not declared it yet, or has left.
    """

    transient: ClassVar[bool] = True


class Disconnected(BrokerError):
    """The connection to the broker is down or went down meanwhile.

    Nobody knows whether the envelope arrived.
    """

    transient: ClassVar[bool] = True


class Overloaded(BrokerError):
    """The broker did not take the envelope.

    A queue is full, or the broker has trouble of its own.
    """

    transient: ClassVar[bool] = True


class Blocked(Overloaded):
    """The broker takes no message of anybody.

    It is short of memory or disk, and says so (a resource alarm).
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"the broker takes no messages at the moment: it is {why}; {ALARM_REMEDY}")


class Refused(BrokerError):
    """The broker will not do this for this user.

    A right is missing, the message is too large, or the login is wrong.
    """


class NoLogin(Refused):
    """The broker does not know the user, the password or the certificate."""


class NoQueue(BrokerError):
    """There is no queue of this name to consume from: declare it first."""


class Occupied(BrokerError):
    """Somebody consumes from this queue already: another agent of this name is running."""


class Delivery(Protocol):
    """Describes one arrival of an envelope.

    Settle it once, with `ack` or `reject`; until then it comes back when anything breaks.

    Settling twice does nothing, nor does settling after the connection that brought it has gone: it was or will be
    delivered again.
    """

    @property
    def envelope(self) -> Envelope:
        """The envelope as received; everything in it may be a lie until the seal is opened.

        `persistent` and `expires` are unset.
        """

    @property
    def redelivered(self) -> bool:
        """Tell whether it may have been here before."""

    async def ack(self) -> None:
        """Accept it: it is in the inbox, and the broker may forget it."""

    async def reject(self, why: str = REFUSED) -> None:
        """Refuse it for good.

        A dead letter with the reason is kept for people to read, and the delivery is forgotten.

        Of a sender's flood only a few are kept. Unlike `ack` it may wait some seconds for the broker, and where no
        letter can be kept the broker may dead-letter the envelope itself, by a policy, or drop it.
        """


Handler = Callable[[Delivery], Awaitable[None]]
Answer: TypeAlias = "asyncio.Future[None]"  # what became of an envelope


class Consumer(Protocol):
    """Takes a queue's deliveries."""

    async def cancel(self) -> None:
        """Take no more, and return when the handler that runs, if any, has ended. Idempotent.

        Deliveries that are unsettled then are delivered again. A handler may cancel its own consumer; then its own
        delivery can still be settled until it returns.
        """


class Broker(Protocol):
    """One party's access to the broker: at-least-once delivery between named queues.

    What one sender publishes on one lane arrives in the order of the calls to `publish`, as long as nothing has to
    be delivered again. Lanes and queues have no order among themselves.

    A call that is cancelled ends as cancelled, at whatever moment; no other one does.
    """

    @property
    def failed(self) -> "asyncio.Future[None]":
        """A future that ends only with an exception that a handler let out.

        That is a bug of ours, or a lost consumer.
        """

    @property
    def blocked(self) -> str:
        """The reason why the broker takes no messages ("low on memory"), or empty.

        RabbitMQ says it only to connections that publish.
        """

    async def declare(self, queue: Queue) -> None:
        """Make sure that the queue, the exchanges it names and its bindings exist.

        Idempotent, may run concurrently.

        Raises:
            Refused: a right is missing, or something of that name is of another type; names it.
            Occupied: a private queue of this name belongs to another connection.
            Disconnected: try again.
        """

    async def delete(self, queue_name: str) -> None:
        """Remove a queue and what is in it; our own consumer of it ends first.

        Idempotent; raises as `declare`.
        """

    async def publish(self, envelope: Envelope, lane: Lane) -> None:
        """Publish an envelope; return once every bound queue holds it.

        The broker confirms that.

        Cancelled, the envelope may have been sent or not. Envelopes of one address are sent one after another.

        Raises:
            Unroutable, Disconnected, Overloaded: it may go through later. While `blocked`, it is Blocked at once.
            Refused: it will not.
        """

    def send(self, envelope: Envelope, lane: Lane) -> Answer:
        """Publish an envelope without waiting.

        The answer ends as `publish` would return or raise; cancelled, the envelope may have been sent or not.
        """

    async def consume(self, queue_name: str, handler: Handler, lane: Lane) -> Consumer:
        """Call the handler for each delivery, one at a time and in order of arrival.

        Lost connections restore their consumers by themselves. A handler that raises ends its consumer: the delivery
        comes back, and the exception shows in `failed`. A private queue is consumed on the online lane.

        Raises:
            Occupied: it has a consumer already.
            Missing: there is no such queue.
            Refused, Disconnected: as for `declare`.
        """

    async def close(self) -> None:
        """Cancel all consumers, let handlers that run come to an end, then leave. Idempotent."""
