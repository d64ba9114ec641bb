"""Connects `tercet job` to its own agent by a local socket, without broker and key.

A message is its length in four bytes and its body as everywhere. Who may connect is the agent's business.
"""

import asyncio
import errno
import os
from typing import Final, Self

from tercet.agents.access.console_client import ANSWER_SECONDS, ConsoleClient, LocalRequest, Request
from tercet.agents.access.no_agent import NoAgent
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.codec import MalformedMessage, decode, encode
from tercet.schemas.messages.console import ScoreQuery, ScoreReply, Status
from tercet.schemas.messages.message import Message

MOST_ANSWER: Final = 2**26  # bytes; 200 jobs take a tenth of it
LENGTH: Final = 4


class NoSocket(Exception):
    """Says why this user cannot reach the agent's socket."""


async def send_message(writer: asyncio.StreamWriter, message: Message) -> None:
    """Send a message, and wait until the other side has room for it."""
    body = encode(message)
    writer.write(len(body).to_bytes(LENGTH, "big") + body)
    await writer.drain()


async def receive_message(reader: asyncio.StreamReader, most: int) -> Message:
    """Wait for the next message.

    Raises:
        MalformedMessage: it is none, or longer than `most` bytes.
        OSError, asyncio.IncompleteReadError: the other side has gone.
    """
    size = int.from_bytes(await reader.readexactly(LENGTH), "big")
    if size > most:
        raise MalformedMessage(f"it is longer than {most} bytes")
    return decode(await reader.readexactly(size))


class SocketConsole(ConsoleClient):
    """Holds one conversation by socket. Use as an async context manager."""

    def __init__(self, party: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._party, self._reader, self._writer = party, reader, writer

    @classmethod
    async def connect(cls, settings: Settings) -> Self:
        """Connect to the agent of this machine.

        Raises:
            NoSocket: that cannot be.
        """
        path = settings.socket
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except (OSError, ValueError) as error:  # the latter for a path that is too long
            raise NoSocket(_why(path, error)) from None
        return cls(settings.party, reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def _send_request(self, request: Request) -> Status:
        answer = await self._ask(request)
        if not isinstance(answer, Status):
            raise NoAgent(f"{self._party}'s agent answers something else; use the release that it runs")
        return answer

    async def score(self, query: ScoreQuery) -> ScoreReply:
        """Ask for scores of rows while a customer waits.

        Raises:
            NoAgent: the agent does not answer.
        """
        answer = await self._ask(query)
        if not isinstance(answer, ScoreReply):
            raise NoAgent(f"{self._party}'s agent knows no `tercet serve`; use the release that it runs")
        return answer

    async def _ask(self, request: LocalRequest) -> Message:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await send_message(self._writer, request)
                return await receive_message(self._reader, MOST_ANSWER)
        except TimeoutError:
            raise NoAgent(f"{self._party}'s agent does not answer at its socket; look at its log") from None
        except (OSError, asyncio.IncompleteReadError):
            raise NoAgent(f"{self._party}'s agent has ended the conversation; look at its log") from None
        except MalformedMessage as error:
            raise NoAgent(f"{self._party}'s agent speaks otherwise: {error}; use the release that it runs") from None


def _why(path: os.PathLike[str], error: Exception) -> str:
    match getattr(error, "errno", None):
        case errno.ENOENT | errno.ECONNREFUSED:
            return f"nobody listens at {path}"
        case errno.EACCES:
            return f"this user may not use {path}: is it in the group that [console] names"
    return f"{path}: {getattr(error, 'strerror', None) or error}"
