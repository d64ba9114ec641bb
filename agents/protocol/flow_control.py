"""Paces the loops of a role by counters, and bounds how far ahead they run.

It knows how large messages are by the plan, and nothing of what is in them.
"""

import asyncio

from tercet.mpc.dealing.sizes import BlindLayout, BlindNumbers
from tercet.mpc.plan.architecture import CARRIER, Layout, flat
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import LEAST_ROWS
from tercet.schemas.files.settings import Limits

BLIND_AHEAD = 4  # times as many steps where the helper waits for no score: it is told less often how far others are


class StepCounter:
    """Counts steps, and wakes those who wait for a count."""

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def increment(self) -> None:
        """Count one more, and wake those who wait for it."""
        self.value += 1
        due = [future for bound, future in self._waiting if bound <= self.value]
        self._waiting = [(bound, future) for bound, future in self._waiting if bound > self.value]
        for future in due:
            if not future.done():
                future.set_result(None)

    async def wait_for(self, bound: int) -> None:
        """Wait until the count is at least `bound`. It may be cancelled."""
        if self.value < bound:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((bound, future))
            await future


def largest_batch(plan: Plan) -> int:
    """Compute the most rows of a batch; a short last one joins the one before."""
    return min(plan.request.batch + LEAST_ROWS, plan.request.rows)


def look_ahead_steps(plan: Plan, limits: Limits) -> int:
    """Compute how many steps to send ahead within the memory bound."""
    most = limits.look_ahead * (BLIND_AHEAD if plan.is_blind else 1)
    return max(1, min(most, limits.in_flight_mib * 2**20 // (8 * words_ahead(plan))))


def words_ahead(plan: Plan) -> int:
    """Compute the most words that one party sends and receives ahead of one step.

    In a network that is the carrier, which gets nearly all that the helper deals: ten for each hidden element, and
    three for each upper weight whatever the batch.
    """
    rows, columns, others = largest_batch(plan), sum(plan.columns), len(plan.columns) - 1
    if plan.is_blind:
        checks, width = plan.request.checks, BlindLayout(plan).widths[0]
        return rows * (columns + checks * len(plan.columns)) + columns * (width + checks) + dealt_words(plan)
    words = rows * (columns + 3 * plan.outputs) + 2 * others * checked_words(plan)
    if plan.network is None:
        return words
    layout = Layout(plan)
    _, openings = flat(layout.openings(rows))
    return words + others * (2 * openings + columns * layout.widths[0]) + dealt_words(plan)


def checked_words(plan: Plan) -> int:
    """Compute the words by which one party lets another check a step's dealt shares."""
    if not plan.request.checks:
        return 0
    height, width = plan.checks.opened(largest_batch(plan))
    return height * width


def dealt_words(plan: Plan) -> int:
    """Compute the words that the helper deals one data party for a step, at most.

    In a network whose activations it computes that is the carrier; of other models it deals none but gradient shares.
    """
    if plan.is_blind:
        layout = BlindLayout(plan)
        rows = largest_batch(plan)
        parties, checks = range(len(plan.columns)), plan.request.checks
        row_words = max(flat(layout.row_words(i, rows, checks, trains=True))[1] for i in parties)
        # two bundles of a step are of two parties; a loss is one word more
        return row_words + 1 + flat(layout.dealt(rows, trains=True))[1]
    if plan.network is None:
        return 0
    entries = Layout(plan).dealt_to(CARRIER, largest_batch(plan), smooth=plan.smooth, checks=plan.checks)
    return flat(entries)[1]


def largest_message(plan: Plan, *, helper: bool) -> int:
    """Compute the most words of one message to the helper, or to a data party, in a step."""
    rows = largest_batch(plan)
    most = 0 if helper else max(_largest_of_rows(plan), dealt_words(plan))
    if plan.network is not None:
        most = max(most, (1 + plan.is_blind) * rows * max(plan.network.hidden))
    return max(most, rows * plan.outputs)


def _largest_of_rows(plan: Plan) -> int:
    """Compute the most words of masked rows, of their checks, or of a checked gradient share."""
    rows, columns, checks = largest_batch(plan), max(plan.columns), plan.request.checks
    if plan.is_blind:
        return rows * (columns + checks)
    dealt = (plan.checks.dealt(party)[1] for party in range(len(plan.columns)) if checks)
    return max(rows * columns, checked_words(plan), *dealt)


def words_made(forward: BlindNumbers, rows: int) -> int:
    """Compute the words of the largest mask, or of all dealt ones, of a forward pass."""
    width = forward.outputs if forward.network is None else forward.network.hidden[0]
    most = max(forward.columns) * max(rows, width)
    if forward.network is None:
        return most
    if forward.is_blind:
        return max(most, flat(BlindLayout(forward).scoring(rows))[1])
    layout = Layout(forward)
    return max(most, flat((*layout.dealt_forward(rows), *layout.weights("G")))[1])
