"""Keeps who is logged in, and bounds how often anybody may try to log in.

A session is known by 256 random bits that the browser alone has: here is their hash. Nothing of it is on the disk.
"""

import hashlib
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

IDLE_SECONDS: Final = 1800.0
LONGEST_SECONDS: Final = 36_000.0
MOST_SESSIONS: Final = 64
TRIES_SECONDS: Final = 300.0
TRIES_OF_NAME: Final = 5  # in TRIES_SECONDS
TRIES_OF_ALL: Final = 30

Clock = Callable[[], float]


@dataclass(slots=True)
class Session:
    """Holds one person's session.

    Attributes:
        name: of the person.
        stamp: of role and password when the session began; another one ends it.
        csrf: the secret that each of the session's forms sends back.
        since, seen: when it began and when it was used last, in the clock's seconds.
    """

    name: str
    stamp: str
    csrf: str
    since: float
    seen: float


class Sessions:
    """Keeps all sessions of one page."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}  # by the hash of their ids, the oldest first

    def begin(self, name: str, stamp: str) -> str:
        """Begin a session; gives its id, which nobody can have known before."""
        token, now = secrets.token_urlsafe(32), self._clock()
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[_hash(token)] = Session(name, stamp, secrets.token_urlsafe(32), now, now)
        return token

    def find(self, token: str, *, used: bool = True) -> Session | None:
        """Find a session that is not over; `used` where the person asks for something."""
        session, now = self._sessions.get(_hash(token)), self._clock()
        if session is None:
            return None
        if now - session.since > LONGEST_SECONDS or now - session.seen > IDLE_SECONDS:
            self.end(token)
            return None
        if used:
            session.seen = now
        return session

    def end(self, token: str) -> None:
        """End a session, if it is there."""
        self._sessions.pop(_hash(token), None)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class LoginLimiter:
    """Counts tries to log in, by name and in all; a try that succeeds is forgotten."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._tries: deque[tuple[float, str]] = deque()

    def admit(self, name: str) -> float:
        """Count a try, and return 0; or return the seconds to wait, and count nothing."""
        now = self._clock()
        while self._tries and now - self._tries[0][0] >= TRIES_SECONDS:
            self._tries.popleft()
        own = [at for at, other in self._tries if other == name]
        for tries, most in ((own, TRIES_OF_NAME), ([at for at, _ in self._tries], TRIES_OF_ALL)):
            if len(tries) >= most:
                return tries[-most] + TRIES_SECONDS - now
        self._tries.append((now, name))
        return 0.0

    def forget(self, name: str) -> None:
        """Forget a name's tries, as its person has come in."""
        self._tries = deque(one for one in self._tries if one[1] != name)
