"""Finds masked rows again that an earlier attempt has sent, or sends them once more.

That is a data party's task. U is of the run and not of an attempt, so what is sent again is the same word as before.
"""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.blind.forward import Batch, BlindForward
from tercet.mpc.blind.loss import BlindLoss
from tercet.mpc.interface.row_store import FirstUse
from tercet.mpc.interface.script import Script, Send
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.secret_order import Order


def steps_before(plan: Plan, first: int) -> Iterator[Step]:
    """Yield the steps before `first` that had rows for the first time.

    They are of the first epoch.
    """
    for step in plan.steps():
        if step.epoch or step.index >= first:
            return
        yield step


def rows_before(plan: Plan, order: Order, first: int) -> FirstUse:
    """Note which rows the steps before `first` have had."""
    used = FirstUse(plan.request.rows)
    for step in steps_before(plan, first):
        used.of(order.rows(step))
    return used


class SentRows:
    """Knows the masked rows of the steps before an attempt's first one.

    Args:
        forward: Of this party.
        label: The label party's index.
        loss: Where the job wants one, and labels go with the rows.
    """

    def __init__(self, forward: BlindForward, label: int, loss: BlindLoss | None) -> None:
        self._forward, self._inputs, self._label, self._loss = forward, forward.inputs, label, loss

    def digests(self, steps: Iterable[Step]) -> tuple[bytes, ...]:
        """Digest E of each data party as it was sent in these steps, or is kept here."""
        parties = range(len(self._forward.plan.columns))
        hashes = [hashlib.sha256() for _ in parties]
        for step in steps:
            batch = self._forward.begin_again(step)
            for i in parties:
                for words in self._words(i, step, batch):
                    hashes[i].update(np.ascontiguousarray(words, "<u8").data)
        return tuple(one.digest() for one in hashes)

    def _words(self, i: int, step: Step, batch: Batch) -> Iterator[Words]:
        mine = i == self._forward.me
        yield self._inputs.masked(step, batch.new) if mine else self._inputs.stored(i, batch.places).copied
        if self._loss is not None and i == self._label:
            yield self._loss.sent_labels(step, batch)

    def send_again(self, step: Step) -> Script[None]:
        """Send this party's rows of a step once more, and keep the others'."""
        batch, loss = self._forward.begin_again(step), self._loss
        words = self._inputs.masked(step, batch.new)
        along = () if loss is None else loss.masked_labels(step, batch)
        for i in self._forward.others:
            yield Send("masked inputs", 0, (i,), words, along)
        yield from self._inputs.receive(batch.new_places)
        if loss is not None:
            yield from loss.receive_labels(batch)
