"""Takes messages, confirms and returns out of a connection's frames, and writes ours.

aiormq does not see these; all other frames are its own, both ways. It decides nothing about a message, and restores no
connection.

aiormq reads each frame in three steps, and hands it from one task to another, to a third one at its consumer. A message
has three frames. Here what has come from the socket is cut into frames at once, and a message is with its consumer in
the same turn of the event loop.

To hand something to the operating system costs more than all else that is done to a small message. So what is written
in one turn of the loop goes together, but for the first: somebody may wait for it.
"""

import asyncio
import ssl
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

import aiormq
import pamqp.frame
import structlog
from aiormq.channel import exception_by_code
from aiormq.connection import TransportFactory
from pamqp import commands
from pamqp.exceptions import PAMQPException
from yarl import URL

from tercet.broker.interface.base import Disconnected
from tercet.broker.rabbitmq import frames

log = structlog.get_logger(__name__)

LIVE_SECONDS: Final = 1.0  # how often aiormq, which waits for frames, hears that some have come
LIMIT: Final = 2**16  # bytes of aiormq's frames that wait; StreamReader's own
MALFORMED: Final = (frames.MalformedFrame, struct.error, IndexError, UnicodeDecodeError, PAMQPException)


class Heard(Protocol):
    """Hears what comes on one channel."""

    def on_answer(self, tag: int, *, many: bool, positive: bool) -> None:
        """Hear a confirm: of a publish, or of `many` up to it."""

    def on_message(self, method: bytes, header: bytes, body: bytes) -> None:
        """Hear a whole message that is delivered or comes back; `method` begins with which it is."""

    def on_close(self, error: BaseException) -> None:
        """Hear that the broker has closed the channel: nothing more may be sent on it."""


class _Tap:
    """Puts one channel's messages together."""

    __slots__ = ("_chunks", "_header", "_heard", "_left", "_method", "is_over")

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._method: bytes | None = None  # of the message that is coming
        self._header, self._left = b"", 0
        self._chunks: list[bytes] = []
        self.is_over = False  # the channel is closed, and another one may have its number

    def take_frame(self, kind: int, data: bytes, at: int, stop: int) -> bool:
        """Take a frame's payload; tell whether it is ours."""
        if kind == frames.METHOD:
            return self._take_method(data[at : at + 4], data, at, stop)
        if self._method is None:
            return False
        if kind == frames.HEADER:
            self._header = data[at:stop]
            self._left = frames.body_size(self._header)
        elif kind == frames.BODY:
            self._chunks.append(data[at:stop])
            self._left -= stop - at
        else:
            return False
        if self._left <= 0:
            self._finish(self._method)
        return True

    def _take_method(self, which: bytes, data: bytes, at: int, stop: int) -> bool:
        if which in (frames.DELIVER, frames.RETURN):
            self._method = data[at:stop]
            return True
        if which in (frames.ACK, frames.NACK):
            tag, many = frames.read_answer(data, at + 4)
            self._heard.on_answer(tag, many=many, positive=which == frames.ACK)
            return True
        self.is_over = which in (frames.CLOSE, frames.CLOSE_OK)
        if which == frames.CLOSE:
            self._heard.on_close(_reason(data[at - frames.HEAD.size : stop + 1]))
        return False

    def _finish(self, method: bytes) -> None:
        chunks, self._chunks, self._method = self._chunks, [], None
        self._heard.on_message(method, self._header, chunks[0] if len(chunks) == 1 else b"".join(chunks))


def _reason(frame: bytes) -> BaseException:
    close = pamqp.frame.unmarshal(frame)[2]
    assert isinstance(close, commands.Channel.Close)
    return exception_by_code(close)


class Wire(asyncio.StreamReader):
    """Reads one connection for aiormq, without the frames that somebody has asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=LIMIT, loop=loop)
        self._loop_out, self._clock = loop, loop.time
        self._transport_out: asyncio.WriteTransport | None = None
        self._leaving: list[bytes] = []  # what is written in this turn
        self._turn: asyncio.Handle | None = None  # the end of one in which something was written
        self._rider: Callable[[], bytes] = bytes
        self._taps: dict[int, _Tap] = {}  # by channel
        self._pieces: list[bytes] = []  # of a frame that is not whole yet
        self._held, self._needed = 0, frames.OVERHEAD
        self._passing = False  # all that comes goes to aiormq
        self._shown_at = 0.0

    def connect(self, transport: asyncio.WriteTransport) -> None:
        """Write to this transport from now on."""
        self._transport_out = transport

    def listen(self, channel: int, heard: Heard) -> None:
        """Let `heard` have what comes on a channel from now on, in place of whoever had it."""
        self._taps[channel] = _Tap(heard)

    @property
    def is_closing(self) -> bool:
        """Tell whether nothing more can be written."""
        return self._transport_out is None or self._transport_out.is_closing()

    def let_ride(self, rider: Callable[[], bytes]) -> None:
        """Ask `rider` for frames that are in no haste, whenever something is written.

        It takes the place of who was asked before.
        """
        self._rider = rider

    def write(self, data: bytes) -> None:
        """Write whole frames, without waiting.

        Raises:
            Disconnected: the connection is lost.
        """
        if self.is_closing:
            raise Disconnected("the connection to the broker has just been lost")
        self._leaving.append(data)
        if self._turn is None:
            self._turn = self._loop_out.call_soon(self._end_turn)
            self.flush()

    def _end_turn(self) -> None:
        self._turn = None
        if self._leaving:
            self.flush()

    def flush(self) -> None:
        """Hand all to the operating system, the rider's last.

        On a lost connection there is nobody to hear it.
        """
        leaving, self._leaving = self._leaving, []
        if rides := self._rider():
            leaving.append(rides)
        if self._transport_out is None or self._transport_out.is_closing():
            return
        if len(leaving) == 1:
            self._transport_out.write(leaving[0])
        elif leaving:
            self._transport_out.writelines(leaving)

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # a transport gives bytes
        """Take what has come from the socket."""
        if self._passing:
            super().feed_data(data)
            return
        self._pieces.append(data)
        self._held += len(data)
        if self._held < self._needed:
            return
        whole = data if len(self._pieces) == 1 else b"".join(self._pieces)
        try:
            rest = self._cut(whole)
        except MALFORMED as error:
            self._give_up(error)
            return
        self._pieces = [rest] if rest else []
        self._held = len(rest)

    def _cut(self, data: bytes) -> bytes:
        """Hand on all frames that are whole; return the rest."""
        at, end, took_some = 0, len(data), False
        while end - at >= frames.OVERHEAD:
            kind, channel, size = frames.HEAD.unpack_from(data, at)
            stop = at + frames.OVERHEAD + size
            if kind not in frames.TYPES or (stop <= end and data[stop - 1] != frames.END):
                return self._pass_all(data[at:])  # another version's greeting, or no AMQP at all: aiormq says so
            if size > frames.MOST_BYTES:
                raise frames.MalformedFrame
            if stop > end:
                self._needed = stop - at
                break
            tap = self._taps.get(channel)
            if tap is not None and tap.take_frame(kind, data, at + frames.HEAD.size, stop - 1):
                took_some = True
            else:
                self._hand_on(channel, data[at:stop])
            at = stop
        else:
            self._needed = frames.OVERHEAD
        if took_some:
            self._tell_alive()
        return data[at:]

    def _hand_on(self, channel: int, frame: bytes) -> None:
        tap = self._taps.get(channel)
        if tap is not None and tap.is_over:
            del self._taps[channel]
        super().feed_data(frame)

    def _pass_all(self, data: bytes) -> bytes:
        self._passing = True
        super().feed_data(data)
        return b""

    def _give_up(self, error: Exception) -> None:
        """End the connection, as if it were lost."""
        log.warning("the broker has sent frames that cannot be read: connecting anew", error=type(error).__name__)
        self._pieces, self._passing = [], True
        if self._transport_out is not None:
            self._transport_out.abort()

    def _tell_alive(self) -> None:
        """Let aiormq know that the connection lives.

        RabbitMQ sends no heartbeat while it sends messages.
        """
        if self._clock() - self._shown_at > LIVE_SECONDS:
            self._shown_at = self._clock()
            super().feed_data(frames.HEARTBEAT)


class WireFactory(TransportFactory):
    """Opens connections for aiormq, and knows the newest."""

    def __init__(self) -> None:
        self.newest: Wire | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection as aiormq does by itself."""
        provider = kwargs.pop("ssl_context_provider", None)
        context: ssl.SSLContext | None = await provider.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        wire = Wire(loop)
        protocol = asyncio.StreamReaderProtocol(wire, loop=loop)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, str(url.host), int(url.port or 0), ssl=context, **kwargs
            )
        except OSError as error:
            raise aiormq.AMQPConnectionError(*error.args) from error
        wire.connect(transport)
        self.newest = wire
        return wire, asyncio.StreamWriter(transport, protocol, wire, loop)
