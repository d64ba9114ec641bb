"""Lists what the helper deals for the sums of a statistics job.

It sees masks alone.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from tercet.mpc.arithmetic.ring import Words, expect, transposed_product
from tercet.mpc.interface.script import HELPER, Receive, Script, received_words
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.statistics.packing import split_words, unpack_words
from tercet.mpc.statistics.plan import StatisticsPlan

Part = tuple[str, int]
"""Of what the helper deals a data party: "bins" or "pairs", and the other party."""


def dealt_parts(plan: StatisticsPlan, me: int) -> dict[Part, tuple[int, int]]:
    """List what the helper deals a data party at the end of the pass, in order, with its shape."""
    bins = {("bins", j): (plan.cells(j), plan.targets) for j in plan.partners if me == plan.label}
    return bins | {("pairs", i): (plan.correlated[i], plan.correlated[j]) for i, j in plan.pairs() if j == me}


def receive_dealt(plan: StatisticsPlan, me: int) -> Script[dict[Part, Words]]:
    """Receive what the helper deals this party at the end of the pass."""
    parts = dealt_parts(plan, me)
    words = np.zeros((1, 0), np.uint64)
    if due := sum(rows * columns for rows, columns in parts.values()):
        received = received_words((yield Receive("dealt sums", 0, {HELPER: (1, due)})))
        words = expect(received[HELPER], (1, due), "what the helper dealt")
    return dict(zip(parts, split_words(words, parts.values()), strict=True))


def mask_products(plan: StatisticsPlan, masks: Mapping[int, Masks], step: Step) -> Iterator[tuple[int, Part, Words]]:
    """Yield the products of a batch's masks, as the helper: for whom, which part, and the words."""
    label, bits = plan.label, plan.word_bits
    v = masks[label]("V", label, label, step, (step.rows, plan.targets))
    for j in plan.partners:
        u = masks[j]("U", j, j, step, (step.rows, plan.masked_words(j)))
        yield label, ("bins", j), transposed_product(unpack_words(u, plan.cells(j), bits), v)
    a = {i: masks[i]("A", i, i, step, (step.rows, count)) for i, count in enumerate(plan.correlated) if count}
    for i, j in plan.pairs():
        yield j, ("pairs", i), transposed_product(a[i], a[j])


def dealt_covers(plan: StatisticsPlan, masks: Mapping[int, Masks], step: Step) -> Iterator[tuple[int, Part, Words]]:
    """Yield what covers the sums of these products, W_j and G_ij, at the last step."""
    for j in plan.partners:
        yield plan.label, ("bins", j), masks[j]("W", j, j, step, (plan.cells(j), plan.targets))
    for i, j in plan.pairs():
        yield j, ("pairs", i), masks[i]("G", i, j, step, (plan.correlated[i], plan.correlated[j]))
