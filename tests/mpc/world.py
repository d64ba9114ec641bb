"""All roles of one job in one process, for tests: no messages, and every tensor that changes hands is written down.

It may look at everything; the roles inside get only what the protocol gives them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode_features
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.functions.links import LINKS
from tercet.mpc.interface.feature_source import ArrayFeatures
from tercet.mpc.interface.script import HELPER, Script
from tercet.mpc.linear.checks import Checks, Projections
from tercet.mpc.linear.data_party import LinearParty
from tercet.mpc.linear.helper import ActivationFunction, LinearHelper, activation
from tercet.mpc.linear.loss import LossHelper, LossParty
from tercet.mpc.linear.shares import Shares
from tercet.mpc.plan.plan import Plan, Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks, PairMasks
from tercet.mpc.randomness.secret_order import Order, order_key
from tercet.mpc.reference.linear import Weights
from tests.mpc.driver import Driver, Task

SHOWN = [name for name, link in LINKS.items() if link.helper_applies]  # whose scores the helper can see
MaskSource = Callable[[int, int], Masks]  # the masks of a pair of holders; the helper is HELPER


class Job(NamedTuple):
    """A small job with everybody's inputs."""

    plan: Plan
    label: int
    x: list[Floats]  # as clipped
    xs: list[Words]
    y: Floats  # or `RowLabels`, in a blind training
    order: Order
    key: bytes = b"k" * 32


def make_job(request: Request, label: int = 0, seed: int = 0, outliers: float = 0.0) -> Job:
    """Random features, some of them wild, and labels that depend on them."""
    rng = np.random.default_rng(seed)
    plan = make_plan(replace(request, label=label))
    raw = [rng.normal(size=(request.rows, columns)) for columns in request.columns]
    for part in raw:
        part[rng.random(part.shape) < outliers] *= 1000
    x, xs = inputs(plan, raw)
    truth = [rng.normal(size=(part.shape[1], request.outputs)) for part in x]
    score = sum((part @ block for part, block in zip(x, truth, strict=True)), np.full((1, 1), 0.3))
    score /= max(1.0, float(score.std()))
    y = labels_of(request, score, rng)
    contributions = {str(i): bytes([i + 1, seed % 256] * 16) for i in range(len(xs))}
    key = order_key(b"digest", contributions)
    plan.check_labels(y)
    return Job(plan, label, x, xs, LINKS[request.model].centre(y, request.outputs), Order(key, request.rows), key)


def inputs(plan: Plan, raw: list[Floats]) -> tuple[list[Floats], list[Words]]:
    """Features as clipped, and as encoded."""
    parts = list(zip(raw, plan.norms, strict=True))
    clipped = [encode_features(part, norm, 40).view(np.int64) / 2.0**40 for part, norm in parts]
    return clipped, [encode_features(part, norm, plan.fx) for part, norm in parts]


def quiet(job: Any) -> Any:
    """The same job, of any kind, under noise that is too small to matter: what is left is rounding."""
    return job._replace(plan=replace(job.plan, noise_bits=24))


def labels_of(request: Request, score: Floats, rng: np.random.Generator) -> Floats:
    """Labels, (rows,), as a label party holds them, by scores of standard deviation 1; such as a check lets pass."""
    first = score[:, 0]
    match request.model:
        case "logistic":
            y = (first > np.median(first)).astype(np.float64)
        case "softmax" | "one-vs-rest":
            y = score.argmax(axis=1).astype(np.float64)
        case "poisson":
            y = rng.poisson(np.exp(np.minimum(first, 2.5))).astype(np.float64)
        case "tweedie":
            y = rng.poisson(1.0, len(first)) * rng.gamma(2.0, np.exp(np.minimum(first, 2.5)))
            y = y / y.mean()
        case "gamma":
            y = rng.gamma(3.0, np.exp(first) / 3.0)
            y = np.minimum(y / y.mean(), 20.0) + 1e-5
        case _:
            y = np.clip(first, -16.0, 16.0)
    if LINKS[request.model].classes or request.model in {"logistic", "poisson"}:
        y[0], y[-1] = 0.0, 1.0
    return y


def keyed(attempt: int = 1, purpose: str = "training") -> MaskSource:
    """The project's own masks, from a made-up secret for each pair."""

    def masks(a: int, b: int) -> Masks:
        a, b = (b, a) if b != HELPER and b < a else (a, b)
        return PairMasks(
            bytes([a + 2, b + 2, attempt] * 11)[:32], transcript=b"t" * 32, job=b"digest", attempt=attempt,
            sender=f"party {a}", receiver=f"party {b}", purpose=purpose,
        )  # fmt: skip

    return masks


def checks(me: int, plan: Plan, key: bytes, masks: MaskSource, attempt: int = 1) -> Checks | None:
    """Of one data party, in a job in which the helper's dealing is checked."""
    if not plan.request.checks:
        return None
    return Checks(me, plan.checks, Projections(key, plan.checks, attempt), masks(me, HELPER))


def make_losses(job: Any, masks: MaskSource | None) -> tuple[list[LossParty], LossHelper | None]:
    """What computes a job's loss at the data parties and at the helper; without masks there is none."""
    if masks is None:
        return [], None
    of_helper = {i: masks(i, HELPER) for i in range(len(job.xs))}
    losses = [
        LossParty(i, job.label, job.plan, job.y if i == job.label else None, order=job.order, helper_masks=of_helper[i])
        for i in of_helper
    ]
    return losses, LossHelper(job.plan, job.label, of_helper)


# What the record calls a tensor of each kind: the protocol's symbol, mostly.
SYMBOLS = {"masked inputs": "E", "checks": "check", "masked labels": "y~", "loss labels": "E_y", "masked weights": "f",
           "gradient share": "g", "output share": "z", "output answer": "p", "loss terms": "terms"}  # fmt: skip


@dataclass
class World(Driver):
    """The data parties and the helper, with look-ahead under the test's control."""

    job: Job
    masks: MaskSource = field(default_factory=keyed)
    answer: ActivationFunction = activation
    start: list[Shares] | None = None
    loss_masks: MaskSource | None = None  # no loss without them

    def __post_init__(self) -> None:
        job, n = self.job, len(self.job.xs)
        first = self.start[0].step if self.start else 0
        self.ids = range(n)
        super().__init__((*self.ids, HELPER), first)
        self.losses, loss_helper = make_losses(job, self.loss_masks)
        self.parties = [
            LinearParty(
                i, job.label, job.plan, ArrayFeatures(job.xs[i]), job.y if i == job.label else None, order=job.order,
                helper_masks=self.masks(i, HELPER), zero_masks={j: self.masks(i, j) for j in self.ids if j != i},
                shares=self.start[i] if self.start else None, checks=checks(i, job.plan, job.key, self.masks),
                loss=self.losses[i] if self.losses else None,
            )
            for i in self.ids
        ]  # fmt: skip
        masks = {i: self.masks(i, HELPER) for i in self.ids}
        self.helper = LinearHelper(job.plan, job.label, masks, self.answer, first=first, loss=loss_helper)

    def name(self, kind: str, turn: int) -> str:
        """The protocol's symbol."""
        return SYMBOLS[kind]

    def others(self, i: int) -> list[int]:
        """All data parties but one."""
        return [j for j in self.ids if j != i]

    def ahead(self, step: Step) -> None:
        """All of a step that needs no activation."""
        scripts: list[tuple[int, Callable[[Step], Script[None]]]] = [(HELPER, self.helper.deal_step)]
        for i, party in enumerate(self.parties):
            scripts += [(i, party.absorb_step), (i, party.prepare_step)]
        self._drive(step, scripts)

    def online(self, step: Step) -> None:
        """The two hops."""
        parties = [(i, party.run_online) for i, party in enumerate(self.parties)]
        self._drive(step, [(HELPER, self.helper.run_online), *parties])

    def _drive(self, step: Step, scripts: list[tuple[int, Callable[[Step], Script[None]]]]) -> None:
        self.drive([Task(role, iter([step]), make) for role, make in scripts], goes_on=True)

    def run(self, look_ahead: int = 0, first: int = 0, stop: int | None = None) -> "World":
        """Steps first:stop, each prepared `look_ahead` steps before its turn."""
        steps = list(self.job.plan.steps())[first:stop]
        prepared = 0
        for turn, step in enumerate(steps):
            while prepared < min(len(steps), turn + 1 + look_ahead):
                self.ahead(steps[prepared])
                prepared += 1
            self.online(step)
        return self

    def weights(self) -> Weights:
        """What the shares add up to."""
        return opened([party.shares() for party in self.parties])

    def received(self, what: str, receiver: int | None = None) -> Mapping[tuple[int, int, int], Words]:
        """Tensors of one kind by (step, sender, receiver)."""
        return {
            (sent.step, sent.sender, sent.receiver): sent.words
            for sent in self.sent
            if sent.what == what and receiver in (None, sent.receiver)
        }


def opened(shares: list[Shares]) -> Weights:
    """The weights that all parties' shares of one step add up to."""
    return Weights(opened_blocks(shares), total(share.intercept for share in shares))


def opened_blocks(shares: Sequence[Any]) -> tuple[Words, ...]:
    """The first layer of any model, of every data party."""
    return tuple(
        total([mine.own, *(other.partners[i] for j, other in enumerate(shares) if j != i)])
        for i, mine in enumerate(shares)
    )


def same(a: Weights, b: Weights) -> bool:
    """Bit for bit."""
    return all(np.array_equal(x, y) for x, y in zip((*a.blocks, a.intercept), (*b.blocks, b.intercept), strict=True))
