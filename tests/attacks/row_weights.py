"""Attacks on the weights of rows: a partner reads them, and the label party reads scores of rows that it trains on.

The partner takes what the label party sends with its score openings for the weights, or for the labels of a Tweedie
model. The label party adds up what partners send it to be weighed, and solves the errors for scores.
"""

import functools
from dataclasses import replace
from typing import Any

import numpy as np

from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.blind import data_party
from tercet.mpc.blind.weighted import WeightedErrors
from tercet.mpc.functions.row_labels import RowLabels
from tercet.mpc.interface.script import Script
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import Request
from tercet.mpc.reference.blind import _walk
from tests.mpc.blind_world import BlindWorld
from tests.mpc.linear.test_disclosure import without
from tests.mpc.world import Job, keyed, make_job

LABEL, NEAR = 0, 0.05  # of a score
REQUEST = Request("logistic", rows=400, columns=(3, 4), batch=100, epochs=2, rate=1.0, blind=Blind(32, 16),
                  weighted=True)  # fmt: skip
TWEEDIE = replace(REQUEST, model="tweedie", rate=0.05, blind=Blind(5, 16, power=1.5), weighted=False)


@functools.cache
def scene() -> Job:
    """A job in which three rows of ten count five times as much as the others."""
    job, rng = make_job(REQUEST, LABEL), np.random.default_rng(1)
    weights = np.where(rng.random(REQUEST.rows) < 0.3, 5.0, 1.0)
    rows: Any = RowLabels(job.plan.link, job.y).weighed(weights, np.ones(REQUEST.rows, np.bool_))
    return job._replace(y=rows)


def labels() -> RowLabels:
    """The label party's."""
    return RowLabels.of(scene().plan.link, scene().y)


def recovered_weights(protected: bool) -> float:
    """Rows whose weight is the nearer one of two to what a partner was sent."""
    job, weights = scene(), labels().weights
    assert weights is not None
    world, right = BlindWorld(job, keyed() if protected else without({"row weight#"}, keyed())).run(), []
    heavy, light = weights.max(), weights.min()
    steps = list(job.plan.steps())
    for sent in world.sent:
        if sent.what == "row weights":
            read = decode(sent.words, job.plan.factor_bits)
            truth = weights[world.order.rows(steps[sent.step])]
            right.append((read > (heavy + light) / 2) == (truth > (heavy + light) / 2))
    return float(np.mean(right))


def recovered_amounts(protected: bool) -> float:
    """Rows of a Tweedie model whose label a partner reads to a hundredth of the mean from what it is sent."""
    job, right = make_job(TWEEDIE, LABEL), []
    world = BlindWorld(job, keyed() if protected else without({"row weight#"}, keyed())).run()
    steps = list(job.plan.steps())
    for sent in world.sent:
        if sent.what == "row weights":
            truth = job.y[world.order.rows(steps[sent.step])]
            right.append(np.abs(decode(sent.words, job.plan.factor_bits) + truth) < 0.01)
    return float(np.mean(right))


def guessed_amounts() -> float:
    """The share of rows whose amount is 0."""
    return float((make_job(TWEEDIE, LABEL).y < 0.01).mean())


def guessed_weights() -> float:
    """A coin's, of a partner that knows that there are two weights."""
    return 0.5


def recovered_scores(protected: bool) -> float:
    """Rows whose score, before its own step, the label party reads to 0.05 from the errors that it weighs."""
    job = scene()
    sums: list[Words] = []

    class Adding(WeightedErrors):
        """The label party's own agent, which notes the errors that it weighs."""

        def weigh(self, step: Any, batch: Any, share: Words) -> Script[Words]:
            """Weigh as ever."""
            script = super().weigh(step, batch, share)
            answer: Any = None
            while True:
                try:
                    event = script.send(answer)
                except StopIteration as stop:
                    found: Words = stop.value
                    return found
                answer = yield event
                if self._rows is not None and isinstance(answer, dict):
                    sums.append(total([share, *answer.values()]))

    plain, data_party.WeightedErrors = data_party.WeightedErrors, Adding  # type: ignore[attr-defined]
    try:
        world = BlindWorld(job, keyed() if protected else without({"unweighted#"}, keyed())).run()
    finally:
        data_party.WeightedErrors = plain  # type: ignore[attr-defined]
    right = []
    for record, words in zip(_walk(world.oracle(), None), sums, strict=True):
        errors = decode(words, job.plan.f - job.plan.factor_bits) / record.step.scale  # sigmoid - 1/2
        shares = np.clip(0.5 + errors, 1e-9, 1 - 1e-9)
        truth = record.step.alpha * decode(record.z, job.plan.fz)
        right.append(np.abs(np.log(shares / (1 - shares)) - truth) < NEAR)
    return float(np.mean(right))


def guessed_scores() -> float:
    """Scores spread over more than a unit."""
    return 0.05
