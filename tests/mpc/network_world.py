"""All roles of a network's training in one process, for tests: scripts driven in any order, every tensor written down.

It may look at everything; the roles inside get only what the protocol gives them.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.functions.links import LINKS
from tercet.mpc.interface.feature_source import ArrayFeatures
from tercet.mpc.interface.script import HELPER
from tercet.mpc.linear.helper import ActivationFunction, activation
from tercet.mpc.network.data_party import NetworkParty
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.network.helper import NetworkHelper
from tercet.mpc.network.start import first_shares
from tercet.mpc.plan.plan import Plan, Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.secret_order import Order, order_key
from tercet.mpc.reference.network import NetworkWeights, TrainingRun
from tests.mpc.driver import Driver, Task
from tests.mpc.world import MaskSource, checks, inputs, keyed, labels_of, make_losses, opened_blocks

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
    clipped, xs = inputs(plan, raw)
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
        self.losses, loss_helper = make_losses(job, self.loss_masks)
        self.parties = [
            NetworkParty(
                i, job.label, job.plan, ArrayFeatures(job.xs[i]), job.y if i == job.label else None, order=job.order,
                elements=job.elements, helper_masks=self.masks(i, HELPER),
                zero_masks={j: self.masks(i, j) for j in self.ids if j != i}, shares=start[i],
                checks=checks(i, job.plan, job.key, self.masks), loss=self.losses[i] if self.losses else None,
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
        self.drive(tasks, look_ahead, self.seed)
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

    def oracle(self) -> TrainingRun:
        """What the oracle is told of a joint run."""
        job = self.job
        return TrainingRun(job.xs, job.y, job.plan, job.order, job.elements, opened(job.first), self.dealt)


def opened(shares: list[NetworkShares]) -> NetworkWeights:
    """The weights that all parties' shares of one step add up to."""
    upper = tuple(total(layers) for layers in zip(*(share.upper for share in shares), strict=True))
    biases = tuple(total(layers) for layers in zip(*(share.biases for share in shares), strict=True))
    return NetworkWeights(opened_blocks(shares), upper, biases)


def same(a: NetworkWeights, b: NetworkWeights) -> bool:
    """Bit for bit."""
    pairs = zip((*a.blocks, *a.upper, *a.biases), (*b.blocks, *b.upper, *b.biases), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)
