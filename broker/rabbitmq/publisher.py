"""Publishes on one channel after another, and tells of each envelope what became of it.

It starts no task for an envelope, opens no channel and repeats nothing: broker/interface/outbox.py does.
"""

import asyncio
from collections import deque
from typing import cast

import aiormq

from tercet.broker.interface.base import Answer, Disconnected, Envelope, Overloaded, Unroutable
from tercet.broker.rabbitmq import frames
from tercet.broker.rabbitmq.errors import publish_error
from tercet.broker.rabbitmq.wire import Wire


class _Sent:
    """Waits for its confirm; `answer` may have been cancelled meanwhile."""

    __slots__ = ("answer", "envelope", "returned")

    def __init__(self, envelope: Envelope, answer: Answer) -> None:
        self.envelope, self.answer, self.returned = envelope, answer, False

    @property
    def doing(self) -> str:
        """The attempt, in words of an error."""
        return f"{self.envelope.address} to {self.envelope.routing_key}"

    def settle(self, error: BaseException | None) -> None:
        """Answer, unless nobody waits any more."""
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(None)
        else:
            self.answer.set_exception(error)


class Publisher:
    """Writes envelopes to the channel that it was given last."""

    def __init__(self) -> None:
        self._channel: aiormq.Channel | None = None
        self._wire: Wire | None = None
        self._ended: aiormq.Channel | None = None  # the broker has closed it; aiormq may not know yet
        self._most_bytes = 0  # of a frame
        self._tag = 0
        self._unconfirmed: dict[int, _Sent] = {}  # by tag, in the order of sending
        self._out: dict[str, _Sent] = {}  # by address
        self._behind: dict[str, deque[_Sent]] = {}  # of an address that is out

    @property
    def is_open(self) -> bool:
        """Tell whether envelopes can be sent now."""
        return (
            self._channel is not None
            and self._wire is not None
            and not self._wire.is_closing
            and not self._channel.is_closed
        )

    def attach(self, channel: aiormq.Channel, wire: Wire) -> None:
        """Publish on this channel, which has confirms and was not published on before.

        Raises:
            Disconnected: it is closed.
        """
        if channel is self._ended or channel.is_closed or channel.connection.is_closed or wire.is_closing:
            raise Disconnected("the connection to the broker has just been lost")
        self.close(Disconnected("the connection to the broker went down"))
        self._channel, self._wire, self._tag = channel, wire, 0
        self._most_bytes = channel.connection.connection_tune.frame_max or 0
        wire.listen(channel.number, self)
        channel.closing.add_done_callback(lambda ended: self._on_end(channel, ended))

    def send(self, envelope: Envelope) -> Answer:
        """Send an envelope, or put it behind the one of its address that is out.

        RabbitMQ tells what no queue takes by its address alone, so two of one address would be mixed up.
        """
        sent = _Sent(envelope, asyncio.get_running_loop().create_future())
        if envelope.address in self._out:
            self._behind.setdefault(envelope.address, deque()).append(sent)
        else:
            self._write(sent)
        return sent.answer

    def _write(self, sent: _Sent) -> None:
        channel, wire, envelope = self._channel, self._wire, sent.envelope
        if channel is None or wire is None or wire.is_closing or channel.is_closed:
            sent.settle(Disconnected(f"{envelope.address}: the connection to the broker is down"))
            return
        wire.write(frames.publish_frames(channel.number, envelope, self._most_bytes))
        self._tag += 1
        self._unconfirmed[self._tag] = self._out[envelope.address] = sent

    def on_answer(self, tag: int, *, many: bool, positive: bool) -> None:
        """See `Heard.on_answer`."""
        if many:
            for earlier in [one for one in self._unconfirmed if one < tag]:
                self._settle(self._unconfirmed.pop(earlier), positive=positive)
        sent = self._unconfirmed.pop(tag, None)
        if sent is not None:
            self._settle(sent, positive=positive)

    def _settle(self, sent: _Sent, *, positive: bool) -> None:
        error: Overloaded | Unroutable | None = None
        if not positive:
            error = Overloaded(f"{sent.doing}: the broker did not take it")
        elif sent.returned:
            error = Unroutable(f"{sent.doing}: no queue takes it")
        sent.settle(error)
        address = sent.envelope.address
        del self._out[address]
        for behind in self._behind.get(address, ()):
            if behind.envelope is sent.envelope:  # a repeat, by somebody who no longer waits for this answer
                behind.settle(error)
        if address in self._behind:
            self._send_next(address)

    def _send_next(self, address: str) -> None:
        line = self._behind[address]
        while line and address not in self._out:
            following = line.popleft()
            if not following.answer.done():  # else it was cancelled: nobody wants it sent any more
                self._write(following)
        if not line:
            del self._behind[address]

    def on_message(self, method: bytes, header: bytes, body: bytes) -> None:  # noqa: ARG002 - it comes back as it was
        """Note that a message has come back; its confirm follows."""
        if method.startswith(frames.RETURN):
            sent = self._out.get(frames.read_properties(header).address)
            if sent is not None:
                sent.returned = True

    def on_close(self, error: BaseException) -> None:
        """Tell all who wait as soon as the broker says it.

        aiormq needs some turns of the loop to do so.
        """
        self._ended = self._channel
        self.close(error)

    def _on_end(self, channel: aiormq.Channel, ended: "asyncio.Future[None]") -> None:
        if channel is self._channel:
            self.close(Disconnected("lost") if ended.cancelled() else cast(BaseException, ended.exception()))

    def close(self, error: BaseException | None) -> None:
        """Send nothing more, and tell all who wait."""
        self._channel = self._wire = None
        waiting = [*self._unconfirmed.values(), *(sent for line in self._behind.values() for sent in line)]
        self._unconfirmed, self._out, self._behind = {}, {}, {}
        for sent in waiting:
            sent.settle(_reason(sent, error))


def _reason(sent: _Sent, error: BaseException | None) -> BaseException:
    lost = Disconnected(f"{sent.doing}: the connection to the broker went down")
    if not isinstance(error, aiormq.ChannelClosed):
        return lost
    envelope = sent.envelope
    reason = publish_error(error, sent.doing, envelope.exchange, envelope.routing_key, len(envelope.body)) or lost
    reason.__cause__ = error
    return reason
