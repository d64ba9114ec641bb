"""Hears of RabbitMQ's alarms: while memory or disk is low, it takes no messages.

It hears that on one connection after another, and decides nothing.
"""

from collections.abc import Callable
from typing import Any

import aiormq
from pamqp.commands import Connection

from tercet.schemas.core.visible import escape_invisible

MOST_WORDS = 100  # characters of RabbitMQ's reason, which has about 15


class Alarm:
    """Tracks the alarm of a link whose connections come and go.

    `changed` is given the reason, or nothing when all is well again.
    """

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._connection: aiormq.Connection | None = None
        self._reason = ""

    @property
    def reason(self) -> str:
        """The reason why RabbitMQ takes nothing on the connection; empty while it takes all."""
        lost = self._connection is None or self._connection.is_closed
        return "" if lost else self._reason

    def listen(self, connection: aiormq.Connection) -> None:
        """Listen on this connection from now on.

        Call it before the connection publishes: nothing is said earlier.
        """
        if connection is self._connection:
            return
        self._connection, self._reason = connection, ""
        _listen(connection, "blocked", self._raise)
        _listen(connection, "unblocked", lambda _: self._tell(""))

    def _raise(self, frame: Connection.Blocked) -> None:
        self._tell(escape_invisible(frame.reason[:MOST_WORDS]) or "short of something")

    def _tell(self, reason: str) -> None:
        self._reason = reason
        self._changed(reason)


def _listen(connection: aiormq.Connection, what: str, heard: Callable[[Any], None]) -> None:
    """Have aiormq's own handler of a frame tell us too: there is no other way to hear of it."""
    name = f"_Connection__handle_connection_{what}"
    own = getattr(connection, name)

    async def handle(frame: Any) -> None:
        await own(frame)
        heard(frame)

    setattr(connection, name, handle)
