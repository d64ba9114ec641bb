"""How the two loops of a role keep step: a count that one loop raises and the other waits for.

It knows nothing of what is counted.
"""

import asyncio

from mpc.plan import Plan
from mpc.schedule import LEAST_ROWS
from schemas.settings import Limits

DEALT = 12  # words that are sent ahead for each element of a hidden layer, all parties together


class Count:
    """A number that only grows."""

    def __init__(self) -> None:
        self.value = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def rise(self) -> None:
        """One more; wakes who waited for it."""
        self.value += 1
        due = [future for bound, future in self._waiting if bound <= self.value]
        self._waiting = [(bound, future) for bound, future in self._waiting if bound > self.value]
        for future in due:
            if not future.done():
                future.set_result(None)

    async def reaches(self, bound: int) -> None:
        """Return once the number is at least `bound`. Cancelling leaves nothing behind that matters."""
        if self.value < bound:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((bound, future))
            await future


def largest_batch(plan: Plan) -> int:
    """At most so many rows are in a batch: a short last one joins the one before."""
    return min(plan.request.batch + LEAST_ROWS, plan.request.rows)


def look_ahead(plan: Plan, limits: Limits) -> int:
    """How many steps to send ahead, so that what is under way and in the inbox stays within the memory bound."""
    units = 0 if plan.network is None else sum(plan.network.hidden)
    step_bytes = 8 * largest_batch(plan) * (sum(plan.request.columns) + 3 * plan.outputs + DEALT * units)
    return max(1, min(limits.look_ahead, limits.in_flight_mib * 2**20 // step_bytes))
