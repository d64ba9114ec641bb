"""Holds the outcome of an attempt that counts, until it is taken.

It looks into none of them: its owner tells which faults are recoverable.
"""

import asyncio
from collections.abc import Callable

from tercet.agents.runs.outcomes import Restart, RunOutcome


class OutcomeSlot:
    """Holds one run's outcome; `is_recoverable` tells faults after which it may go on."""

    def __init__(self, is_recoverable: Callable[[RunOutcome], bool]) -> None:
        self._is_recoverable = is_recoverable
        self._outcome = _future()

    @property
    def is_filled(self) -> bool:
        """Tell whether there is an outcome that nobody has taken."""
        return self._outcome.done()

    def put(self, outcome: RunOutcome) -> None:
        """Keep the first outcome, unless it is recoverable or a restart and this is final."""
        if self._outcome.done():
            if self._priority(outcome) <= self._priority(self._outcome.result()):
                return
            self._outcome = _future()
        self._outcome.set_result(outcome)

    def _priority(self, outcome: RunOutcome) -> tuple[int, int]:
        if isinstance(outcome, Restart):
            return 1, outcome.attempt
        return (0, 0) if self._is_recoverable(outcome) else (2, 0)

    async def take_outcome(self) -> RunOutcome:
        """Wait for the next outcome, and take it."""
        await asyncio.shield(self._outcome)
        outcome = self._outcome.result()  # a final one may have replaced it meanwhile
        self._outcome = _future()
        return outcome

    async def take_final_within(self, seconds: float) -> RunOutcome | None:
        """Take the next outcome that is no recoverable fault, if one comes soon."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    outcome = await self.take_outcome()
                    if not self._is_recoverable(outcome):
                        return outcome
        except TimeoutError:
            return None

    def drop_stale(self, attempt: int) -> None:
        """Drop an outcome of the last attempt, or a repeated restart of this one."""
        if self._outcome.done():
            stale = self._outcome.result()
            if stale.attempt <= attempt if isinstance(stale, Restart) else self._is_recoverable(stale):
                self._outcome = _future()


def _future() -> "asyncio.Future[RunOutcome]":
    return asyncio.get_running_loop().create_future()
