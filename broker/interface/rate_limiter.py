"""Limits how often each of many senders is mentioned.

A burst is allowed, then one in so many seconds.

It keeps counts and no message; whoever sends a flood gets no flood of records or log lines for it.
"""

import time
from collections.abc import Callable
from typing import Final

MAX_SENDERS: Final = 64  # beyond them senders share what is left: names may be made up without end
OTHERS: Final = ""


class RateLimiter:
    """Keeps a bucket of tokens for each sender.

    Args:
        burst: how many come through at once.
        seconds: after how many another one does.
        clock: in seconds.
    """

    def __init__(self, burst: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._seconds, self._clock = burst, seconds, clock
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when there were so many
        self._withheld: dict[str, int] = {}

    def admit(self, sender: str) -> int | None:
        """Return how many of this sender were withheld before this one.

        None if this one is withheld too.
        """
        if sender not in self._buckets and len(self._buckets) >= MAX_SENDERS:
            sender = OTHERS
        now = self._clock()
        tokens, since = self._buckets.get(sender, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - since) / self._seconds)
        if tokens < 1:
            self._buckets[sender] = (tokens, now)
            self._withheld[sender] = self._withheld.get(sender, 0) + 1
            return None
        self._buckets[sender] = (tokens - 1, now)
        return self._withheld.pop(sender, 0)
