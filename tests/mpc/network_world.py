"""All roles of a network's training in one process, for tests: scripts driven in any order, every tensor written down.

It may look at everything; the roles inside get only what the protocol gives them.
"""

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode_features
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.functions.links import LINKS
from tercet.mpc.interface.feature_source import ArrayFeatures
from tercet.mpc.interface.script import HELPER, Receive, Script, Send
from tercet.mpc.linear.helper import ActivationFunction, activation
from tercet.mpc.linear.loss import LossHelper, LossParty
from tercet.mpc.network.data_party import NetworkParty
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.network.helper import NetworkHelper
from tercet.mpc.network.start import first_shares
from tercet.mpc.plan.plan import Plan, Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.secret_order import Order, order_key
from tercet.mpc.reference.network import NetworkWeights
from tercet.mpc.scoring.blind_network import BlindNetworkScoringHelper
from tercet.mpc.scoring.linear import scoring_steps
from tercet.mpc.scoring.network import NetworkScorer, NetworkScoringHelper
from tercet.mpc.scoring.openings import Openings, PassMasks, WeightMasks
from tests.mpc.driver import Driver, Sent, Task
from tests.mpc.world import MaskSource, checks, keyed, labels_of

KEY = b"k" * 32


class NetworkJob(NamedTuple):
    """A small job with everybody's inputs."""

    plan: Plan
    label: int
    x: list[Floats]  # as clipped
    xs: list[Words]
    y: Floats  # centred
    order: Order
    elements: Elements
    first: list[NetworkShares]
    key: bytes = KEY


def make_network_job(
    request: Request, label: int = 0, seed: int = 0, x: list[Floats] | None = None, y: Floats | None = None
) -> NetworkJob:
    """Random features, or those given, and labels, (rows,), as a label party holds them; else made of the features."""
    rng = np.random.default_rng(seed)
    plan = make_plan(replace(request, label=label))
    raw = x or [rng.normal(size=(request.rows, columns)) for columns in request.columns]
    xs = [encode_features(part, norm, plan.fx) for part, norm in zip(raw, plan.norms, strict=True)]
    clipped = [
        encode_features(part, norm, 40).view(np.int64) / 2.0**40 for part, norm in zip(raw, plan.norms, strict=True)
    ]
    labels = made_up_labels(request, clipped, rng) if y is None else y
    plan.check_labels(labels)
    contributions = {str(i): bytes([i + 1, seed % 256] * 16) for i in range(len(xs))}
    key = order_key(b"digest", contributions)
    first = [first_shares(i, plan, bytes([i + 1, seed % 256] * 16)) for i in range(len(xs))]
    centred = LINKS[request.model].centre(labels, request.outputs)
    return NetworkJob(plan, label, clipped, xs, centred, Order(key, request.rows), Elements(key), first, key)


def made_up_labels(request: Request, x: list[Floats], rng: np.random.Generator) -> Floats:
    """No straight function of the features, (rows,)."""
    score = sum((np.tanh(part @ rng.normal(size=(part.shape[1], request.outputs))) for part in x), np.full((1, 1), 0.1))
    return labels_of(request, score / max(1.0, float(score.std())), rng)


def messages(sending: Send) -> Iterator[tuple[str, int, Words]]:
    """Every tensor that is sent: of which kind, to whom."""
    for receiver in sending.to:
        for kind, words in ((sending.kind, sending.words), *sending.along):
            yield kind, receiver, words.copy()


@dataclass
class NetworkWorld(Driver):
    """The data parties and the helper; `seed` shuffles who goes next."""

    job: NetworkJob
    masks: MaskSource = field(default_factory=keyed)
    answer: ActivationFunction = activation
    loss_masks: MaskSource | None = None
    start: list[NetworkShares] | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        job = self.job
        self.ids = range(len(job.xs))
        start = self.start or job.first
        begin = start[0].step
        super().__init__((*self.ids, HELPER), begin)
        self.losses: list[LossParty | None] = [None for _ in self.ids]
        loss_helper: LossHelper | None = None
        if self.loss_masks is not None:
            make = self.loss_masks
            self.losses = [
                LossParty(i, job.label, job.plan, job.y if i == job.label else None, order=job.order,
                          helper_masks=make(i, HELPER)) for i in self.ids
            ]  # fmt: skip
            loss_helper = LossHelper(job.plan, job.label, {i: make(i, HELPER) for i in self.ids})
        self.parties = [
            NetworkParty(
                i, job.label, job.plan, ArrayFeatures(job.xs[i]), job.y if i == job.label else None, order=job.order,
                elements=job.elements, helper_masks=self.masks(i, HELPER),
                zero_masks={j: self.masks(i, j) for j in self.ids if j != i}, shares=start[i],
                checks=checks(i, job.plan, job.key, self.masks), loss=self.losses[i],
            )
            for i in self.ids
        ]  # fmt: skip
        masks = {i: self.masks(i, HELPER) for i in self.ids}
        self.helper = NetworkHelper(job.plan, job.label, masks, self.answer, first=begin, loss=loss_helper)

    # --- driving

    def run(self, look_ahead: int = 1, first: int = 0, stop: int | None = None) -> "NetworkWorld":
        """Steps first:stop, each prepared at most `look_ahead` steps before its turn."""
        steps = list(self.job.plan.steps())[first:stop]
        tasks = [Task(HELPER, iter(steps), script) for script in (self.helper.deal_step, self.helper.run_online)]
        for i, party in enumerate(self.parties):
            tasks.append(Task(i, iter(steps), party.prepare_step, waits=True))
            tasks += [Task(i, iter(steps), script) for script in (*party.beside.values(), party.run_online)]
        self.drive(tasks, look_ahead, None if self.seed is None else random.Random(self.seed))
        assert not self.box, f"never used: {list(self.box)}"
        return self

    # --- looking at everything

    def weights(self) -> NetworkWeights:
        """What the shares add up to."""
        return opened([party.shares() for party in self.parties])

    def dealt(self, name: str, k: int, step: Step) -> Words:
        """A mask that only the helper knows whole."""
        layout = self.parties[0].layout
        shape = layout.upper(k) if name == "rw" else layout.elements(k, step.rows)
        return total(self.masks(i, HELPER)(f"{name}/{k}", i, i, step, shape) for i in self.ids)


def opened(shares: list[NetworkShares]) -> NetworkWeights:
    """The weights that all parties' shares of one step add up to."""
    blocks = tuple(
        total([mine.own, *(other.partners[i] for j, other in enumerate(shares) if j != i)])
        for i, mine in enumerate(shares)
    )
    upper = tuple(total(layers) for layers in zip(*(share.upper for share in shares), strict=True))
    biases = tuple(total(layers) for layers in zip(*(share.biases for share in shares), strict=True))
    return NetworkWeights(blocks, upper, biases)


def same(a: NetworkWeights, b: NetworkWeights) -> bool:
    """Bit for bit."""
    pairs = zip((*a.blocks, *a.upper, *a.biases), (*b.blocks, *b.upper, *b.biases), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def both(helper: NetworkScoringHelper | BlindNetworkScoringHelper, step: Step) -> Script[None]:
    """A scoring helper's scripts of a batch, one after the other."""
    yield from helper.deal_step(step)
    yield from helper.run_online(step)


class NetworkPass:
    """The data parties and the helper in one pass of scoring."""

    def __init__(
        self,
        world: NetworkWorld,
        shares: list[NetworkShares],
        xs: list[Words],
        *,
        batch: int = 64,
        epoch: int = 0,
        masks: MaskSource | None = None,
        weights: dict[int, WeightMasks] | None = None,
        limit: float = math.inf,
    ) -> None:
        job, masks = world.job, masks or keyed(purpose="validation")
        self.ids, self.label, self.sent = world.ids, job.label, list[Sent]()
        alpha, rows = job.plan.alpha_after(shares[0].step), len(xs[0])
        self.order, self.elements = Order(KEY, rows, "scoring"), Elements(KEY, "scoring")
        self.steps, self.outputs = list(scoring_steps(rows, batch, epoch, alpha)), job.plan.outputs
        weights = weights or {i: PassMasks(masks(i, HELPER), self.steps[0]) for i in self.ids}
        self.scorers = [
            NetworkScorer(
                i, job.label, job.plan, ArrayFeatures(xs[i]), shares=shares[i], alpha=alpha, order=self.order,
                elements=self.elements, helper_masks=masks(i, HELPER),
                zero_masks={j: masks(i, j) for j in self.ids if j != i}, weight_masks=weights[i],
            )
            for i in self.ids
        ]  # fmt: skip
        helped = {i: masks(i, HELPER) for i in self.ids}
        self.helper = NetworkScoringHelper(job.plan, job.label, helped, weights, limit)
        self.opened: dict[int, Openings] = {}

    def open(self) -> None:
        """Weights are opened, before the first step."""
        blocks = [scorer.opened_blocks() for scorer in self.scorers]
        upper = [scorer.opened_upper() for scorer in self.scorers]
        for i, scorer in enumerate(self.scorers):
            for j in scorer.others:
                self.sent.append(Sent("masked weights 0", 0, j, i, blocks[j][i]))
                self.sent.append(Sent("weight opening 0", 0, j, i, upper[j]))
            theirs = {j: blocks[j][i] for j in scorer.others}
            self.opened[i] = Openings(scorer._weight_masks, theirs, total(upper))

    def run(self) -> Floats:
        """The scores in the order of the rows."""
        scores = np.empty((sum(step.rows for step in self.steps), self.outputs))
        for step in self.steps:
            self._batch(step)
            reported = next(sent.words for sent in reversed(self.sent) if sent.what == "scores 0")
            scores[self.order.rows(step)] = self.scorers[self.label].open_scores(step, reported)
        return scores

    def _batch(self, step: Step) -> None:
        """Drive all scripts, each as far as it goes, until all are over."""
        if not self.opened:
            self.open()
        scripts: dict[int, Script[None]] = {i: one.run_step(step, self.opened[i]) for i, one in enumerate(self.scorers)}
        scripts[HELPER] = both(self.helper, step)
        events: dict[int, Any] = {role: next(script) for role, script in scripts.items()}
        box: dict[tuple[str, int, int, int], Words] = {}
        while events:
            for role in list(events):
                answer: Mapping[int, Words] | None = None
                match events[role]:
                    case Send(turn=turn) as event:
                        for kind, receiver, words in messages(event):
                            box[kind, turn, role, receiver] = words
                            self.sent.append(Sent(f"{kind} {turn}", step.index, role, receiver, words))
                    case Receive(kind, turn, shapes):
                        keys = {i: (kind, turn, i, role) for i in shapes}
                        if not all(key in box for key in keys.values()):
                            continue
                        answer = {i: box.pop(key) for i, key in keys.items()}
                try:
                    events[role] = scripts[role].send(answer)
                except StopIteration:
                    del events[role]
        assert list(box) == [("scores", 0, HELPER, self.label)]
