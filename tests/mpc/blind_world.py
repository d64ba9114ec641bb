"""All roles of a blind training in one process, for tests: scripts driven in any order, every tensor written down.

It may look at everything; the roles inside get only what the protocol gives them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode_bounded
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.blind.data_party import BlindParty
from tercet.mpc.blind.forward import BlindForward
from tercet.mpc.blind.helper import BlindHelper
from tercet.mpc.blind.loss import BlindLoss
from tercet.mpc.blind.start import AnyShares
from tercet.mpc.dealing.bundles import Bundle, Bundles, ChosenBundles
from tercet.mpc.dealing.hidden_helper import dealt_mask, mask_sums
from tercet.mpc.dealing.row_checks import RowChecks
from tercet.mpc.dealing.sizes import layer_name
from tercet.mpc.functions.series import Terms
from tercet.mpc.interface.feature_source import ArrayFeatures
from tercet.mpc.interface.row_store import ArrayRows
from tercet.mpc.interface.script import HELPER, Script
from tercet.mpc.linear.epoch_sums import EpochSums
from tercet.mpc.linear.shares import Shares, first_shares
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.reference.blind import BlindRun
from tercet.mpc.reference.linear import Weights
from tercet.mpc.reference.network import NetworkWeights
from tests.mpc.driver import Driver, Task
from tests.mpc.network_world import NetworkJob, opened
from tests.mpc.world import Job, MaskSource, keyed
from tests.mpc.world import opened as opened_linear

WEIGHTS = "masked weights"
CosSin = tuple[Floats, Floats]  # cosines and sines of all multiples


@dataclass
class BlindWorld(Driver):
    """The data parties and the helper; `seed` shuffles who goes next."""

    job: Job | NetworkJob
    masks: MaskSource = field(default_factory=keyed)
    start: list[AnyShares] | None = None
    seed: int | None = None
    loss: bool = False
    together: int = 1  # steps whose dealt words travel together
    choice: bytes = b"c" * 32  # the key of data parties: by it bundles are opened, and checks drawn
    found: Mapping[int, Mapping[int, bytes]] = field(default_factory=dict)  # digests of an earlier attempt, by party
    by_keys: bool = True  # whether masks of an opened bundle are made from keys; else they are the source's own

    def __post_init__(self) -> None:
        job = self.job
        plan, self.ids = job.plan, range(len(job.xs))
        self.order = Order(b"p" * 32, plan.request.rows)
        first = self.start[0].step if self.start else 0
        super().__init__((*self.ids, HELPER), first)
        self.bundles = ChosenBundles(Bundles(plan, first), self.choice)
        self.parties = [self.make_party(i) for i in self.ids]
        labels = ArrayRows(plan.request.rows, plan.loss_columns) if self.loss else None
        self.helper = BlindHelper(
            plan, job.label, {i: self.masks(i, HELPER) for i in self.ids}, order=self.order,
            stores=self.stores(self.ids), labels=labels, first=first,
        )  # fmt: skip

    def name(self, kind: str, turn: int) -> str:
        """Masked weights have two kinds, which differ by how they travel only."""
        return layer_name(WEIGHTS if kind == "next weights" else kind, turn)

    @property
    def checks(self) -> int:
        """Check columns of each party."""
        return self.job.plan.request.checks

    def stores(self, parties: Iterator[int] | range | list[int]) -> dict[int, ArrayRows]:
        """Empty ones, for words of these parties."""
        return {i: ArrayRows(self.job.plan.request.rows, self.job.plan.columns[i] + self.checks) for i in parties}

    def make_party(self, i: int) -> BlindParty:
        """Data party i."""
        job, others = self.job, [j for j in self.ids if j != i]
        masks, y, plan = self.masks(i, HELPER), job.y if i == job.label else None, job.plan
        checks = RowChecks(i, plan, masks, count=self.checks, key=self.choice, digests=self.found.get(i))
        forward = BlindForward(
            i, plan, ArrayFeatures(job.xs[i]), order=self.order, helper_masks=masks, stores=self.stores(others),
            bundles=self.bundles, open_key=None if self.by_keys else lambda j, _: self.masks(j, HELPER),
            checks=checks,
        )  # fmt: skip
        loss = None
        if self.loss:
            store, sums = ArrayRows(plan.request.rows, plan.loss_columns), EpochSums(plan.steps_per_epoch)
            loss = BlindLoss(forward, job.label, plan.loss_bits, y, store=store, helper_masks=masks, sums=sums)
        zero_masks = {j: self.masks(i, j) for j in others}
        return BlindParty(forward, job.label, y, zero_masks=zero_masks, shares=self.begin(i), loss=loss)

    def begin(self, i: int) -> AnyShares:
        """The shares that party i begins with."""
        if self.start:
            return self.start[i]
        return self.job.first[i] if isinstance(self.job, NetworkJob) else first_shares(i, self.job.plan)

    def run(self, look_ahead: int = 1, first: int = 0, stop: int | None = None) -> Self:
        """Steps first:stop, each prepared at most `look_ahead` steps before its turn."""
        steps = list(self.job.plan.steps())[first:stop]
        tasks = [Task(HELPER, iter(steps[:: self.together]), self.deal)]
        for i, party in enumerate(self.parties):
            tasks.append(Task(i, iter(steps), party.prepare_step, waits=True))
            tasks += [Task(i, iter(steps), script) for script in (party.receive_dealt, online(party, steps[-1]))]
        self.drive(tasks, look_ahead, self.seed)
        return self

    def deal(self, step: Step) -> Script[None]:
        """What the helper deals for this step and those that go with it."""
        return self.helper.deal_steps(list(self.job.plan.steps(step.index))[: self.together])

    # --- what it comes to

    def shares(self) -> list[Shares]:
        """Every party's, of a linear model."""
        return [share for party in self.parties if isinstance(share := party.shares(), Shares)]

    def network_shares(self) -> list[NetworkShares]:
        """Every party's, of a network."""
        return [share for party in self.parties if isinstance(share := party.shares(), NetworkShares)]

    def network_weights(self) -> NetworkWeights:
        """The sum of all shares of a network."""
        return opened(self.network_shares())

    def weights(self) -> Weights:
        """The sum of all shares of a linear model."""
        return opened_linear(self.shares())

    def dealt(self, name: str, k: int, step: Step) -> Words:
        """A mask that a step uses as the helper has it, from all masks."""
        layout, used = self.parties[0].layout, self.bundles.used(step)
        return dealt_mask(layout, name, step, k, mask_sums(layout, self.bundle_masks(used)))

    def bundle_masks(self, bundle: Bundle) -> dict[int, Masks]:
        """Every party's masks of a bundle."""
        return {j: bundle.masks(self.masks(j, HELPER)) for j in self.ids}

    def oracle(self) -> BlindRun:
        """The same job in plaintext; asked for after the run."""
        job = self.job
        first = opened(job.first) if isinstance(job, NetworkJob) else None
        return BlindRun(job.xs, job.y, job.plan, self.order.permutation, self.dealt, begin=first)


def online(party: BlindParty, last: Step) -> Callable[[Step], Script[None]]:
    """A step, and the checks that end with it; after the last one of a run as before a checkpoint."""

    def script(step: Step) -> Script[None]:
        yield from party.run_online(step)
        yield from party.check_rows(step, asked=step == last)

    return script


# --- what the compiled loops compute, in numpy


def factors(opened_: CosSin, terms: Terms, bits: int, scale: float = 1.0) -> Words:
    """The public factors of a function times a scale, but for its constant, from cos and sin of m (z + t)."""
    cosines, sines = opened_
    shape = (-1, 1, 1)
    of_cosines, of_sines = (scale * np.reshape(numbers, shape) for numbers in (terms.cosines, terms.sines))
    with_cosines = of_sines * sines + of_cosines * cosines
    return encode_bounded(np.concatenate([with_cosines, of_cosines * sines - of_sines * cosines]), bits)


def evaluate(public: Words, dealt: Words) -> Words:
    """A share of the function, from public factors and a share of the dealt words."""
    found: Words = (public * dealt).sum(axis=0, dtype=np.uint64)
    return found
