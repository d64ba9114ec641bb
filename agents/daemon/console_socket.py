"""Answers `tercet job` on a local socket, also while the broker is away.

The file's rights say who may connect: the agent's user, or a group that the settings name. It decides nothing else.
"""

import asyncio
import errno
import grp
import os
import pwd
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog

from tercet.agents.access.console_client import LocalAnswer, LocalRequest
from tercet.agents.access.socket_console import receive_message, send_message
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.codec import MalformedMessage
from tercet.schemas.messages.kinds import Status

MOST_REQUEST: Final = 2**20  # bytes
MOST_CONNECTIONS: Final = 64
IDLE_SECONDS: Final = 60.0  # between two questions of one console
LONGEST_PATH: Final = 102  # bytes; every system has room for 103, and it is bound under a name with one more
NOBODY: Final = "somebody of this machine"
_CREDENTIALS: Final = struct.Struct("3i")  # process, user, group


class ConsoleSocket:
    """Serves one agent's socket; `answer` handles requests. Use as an async context manager."""

    def __init__(self, settings: Settings, answer: Callable[[Any], Awaitable[LocalAnswer]]) -> None:
        self._settings, self._answer = settings, answer
        self._path, self._group = settings.socket, settings.console.group
        self._server: asyncio.Server | None = None
        self._conversations: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._log = structlog.get_logger()

    async def __aenter__(self) -> Self:
        """Listen; where the settings name no socket, an agent that cannot have one goes on without.

        Raises:
            Invalid: it cannot listen where the settings say, or there is no such group.
        """
        try:
            listening = bind_socket(self._path, self._group)
        except OSError as error:
            if self._settings.console.socket is not None:
                raise Invalid(f"[console] socket {self._path}: {error.strerror}") from None
            self._log.warning("no console but through the broker", socket=str(self._path), why=error.strerror)
            return self
        self._server = await asyncio.start_unix_server(self._accept, sock=listening)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is None:
            return
        self._path.unlink(missing_ok=True)
        self._server.close()
        for writer in self._conversations.values():
            writer.transport.abort()  # by which each conversation ends
        if self._conversations:
            await asyncio.wait(self._conversations)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        user = peer_user(writer.get_extra_info("socket"))
        if len(self._conversations) >= MOST_CONNECTIONS or not self._is_allowed(user):
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer, user))
        self._conversations[task] = writer
        task.add_done_callback(self._conversations.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user: int | None) -> None:
        try:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):  # who asked has gone, or is too slow
                await self._converse(reader, writer, account_name(user))
        finally:
            writer.close()

    def _is_allowed(self, user: int | None) -> bool:
        """Tell whether a user may ask; without a group, only the owner and root may."""
        return self._group is not None or user in {None, 0, os.geteuid()}

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, who: str) -> None:
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                try:
                    request = await receive_message(reader, MOST_REQUEST)
                except MalformedMessage as error:
                    await send_message(writer, Status(problem=f"{error}; use the release that the agent runs"))
                    return
            if not isinstance(request, LocalRequest):
                return
            answer = await self._answer(request.model_copy(update={"who": who}))
            async with asyncio.timeout(IDLE_SECONDS):
                await send_message(writer, answer)


def bind_socket(path: Path, group: str | None) -> socket.socket:
    """Bind a socket in the place of an earlier life's; nobody else may use it.

    Raises:
        OSError: there cannot be one.
        Invalid: there is no such group.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, f"a socket's path has at most {LONGEST_PATH} bytes")
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise OSError(errno.EEXIST, "something else is there")
    if path.parent.stat().st_mode & 0o022:
        raise OSError(errno.EPERM, f"others may write to {path.parent}, and put a socket of their own there")
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(temporary))
        _set_group(temporary, group)
        temporary.replace(path)
    except BaseException:
        made.close()
        temporary.unlink(missing_ok=True)
        raise
    return made


def _set_group(path: Path, group: str | None) -> None:
    if group is None:
        path.chmod(0o600)
        return
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        raise Invalid(f"[console] group: this machine has no group {group!r}; run: groupadd {group}") from None
    if path.stat().st_gid != number:
        os.chown(path, -1, number)
    path.chmod(0o660)


def peer_user(connection: Any) -> int | None:
    """Find the user at the other end, as the system tells; None where it does not."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    return int(_CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))[1])


def account_name(user: int | None) -> str:
    """Name the account; nobody is asked who they say they are."""
    if user is None:
        return NOBODY
    try:
        return pwd.getpwuid(user).pw_name[:128]
    except KeyError:
        return f"user {user}"
