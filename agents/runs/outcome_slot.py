"""The ends of an attempt, or of a run, as they come: which one counts, and until when.

It looks into none of them; whether a fault may pass is for its owner to say.
"""

import asyncio
from collections.abc import Callable

from tercet.agents.runs.outcomes import Anew, Ending


class Ends:
    """One run's. `may_pass` says whether an end is a fault after which the run may go on."""

    def __init__(self, may_pass: Callable[[Ending], bool]) -> None:
        self._may_pass = may_pass
        self._over = _future()

    @property
    def there(self) -> bool:
        """Whether there is one that nobody has looked at."""
        return self._over.done()

    def put(self, ending: Ending) -> None:
        """The first end counts, but a fault that may pass, or another attempt, gives way to what is final."""
        if self._over.done():
            if self._weight(ending) <= self._weight(self._over.result()):
                return
            self._over = _future()
        self._over.set_result(ending)

    def _weight(self, ending: Ending) -> tuple[int, int]:
        if isinstance(ending, Anew):
            return 1, ending.attempt
        return (0, 0) if self._may_pass(ending) else (2, 0)

    async def take(self) -> Ending:
        """The first end that there is from now on."""
        await asyncio.shield(self._over)
        over = self._over.result()  # which may have taken the place of what was waited for
        self._over = _future()
        return over

    async def take_within(self, seconds: float) -> Ending | None:
        """An end that is not just another fault of the attempt that is over, if there is one so soon."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    over = await self.take()
                    if not self._may_pass(over):
                        return over
        except TimeoutError:
            return None

    def pass_over(self, attempt: int) -> None:
        """An end of the attempt that is over has no bearing on this one, nor has being told of this one again."""
        if self._over.done():
            stale = self._over.result()
            if stale.attempt <= attempt if isinstance(stale, Anew) else self._may_pass(stale):
                self._over = _future()


def _future() -> "asyncio.Future[Ending]":
    return asyncio.get_running_loop().create_future()
