"""Tells a service manager (systemd) that the agent is ready, alive or leaving.

It sends short fixed words to the socket that the manager names in the environment, and reads nothing.
"""

import asyncio
import os
import socket
from collections.abc import Callable, MutableMapping
from typing import Final, Self

import structlog

SLOWEST_PULSE: Final = 10.0  # seconds between two reports of the state where no watchdog asks for more
MICROSECONDS: Final = 1_000_000


class Notifier:
    """Speaks to the service manager, if there is one.

    Args:
        address: a path, or `@` and a name in the abstract namespace; empty for nobody.
        watchdog: seconds within which the manager wants to hear that the agent is alive; None if it does not.
    """

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self._address, self._watchdog = address, watchdog
        self._complained = False
        self._log = structlog.get_logger()

    @classmethod
    def of_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """Read the manager's variables, and remove them, so that no child speaks for us."""
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        watchdog_process = environment.pop("WATCHDOG_PID", "")
        ours = watchdog_process in {"", str(os.getpid())} and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address, int(microseconds) / MICROSECONDS if ours else None)

    @property
    def pause(self) -> float:
        """Seconds between two words: half of what the manager would bear."""
        return SLOWEST_PULSE if self._watchdog is None else min(SLOWEST_PULSE, self._watchdog / 2)

    def ready(self) -> None:
        """Say that the agent takes jobs."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the agent is leaving, and lets its jobs end."""
        self._send("STOPPING=1", "STATUS=leaving when the running jobs are over")

    async def watch(self, ailments: Callable[[], list[str]], state: Callable[[], str]) -> None:
        """Tell the state for ever, and that the agent is alive for as long as nothing ails it."""
        while self._address:
            problems = ailments()
            alive = self._watchdog is not None and not problems
            status = f"STATUS={problems[0] if problems else state()}"
            self._send(status, *(["WATCHDOG=1"] if alive else []))
            await asyncio.sleep(self.pause)

    def _send(self, *words: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | _CLOSED_ON_EXEC) as speaking:
                speaking.settimeout(0)
                speaking.sendto("\n".join(words).encode(), address)
        except OSError as error:
            if not self._complained:
                self._log.warning("the service manager cannot be told anything", why=error.strerror)
            self._complained = True


_CLOSED_ON_EXEC = getattr(socket, "SOCK_CLOEXEC", 0)
