"""Compares a simulated job's model with the plaintext oracle, to the last bit.

The simulator alone may look at every party's tables, keys and shares, which is what this takes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tercet.agents.core.states import State
from tercet.agents.models import model_part
from tercet.agents.roles.data_party import DataPartyRole
from tercet.agents.runs.run import JobRun
from tercet.agents.scoring.narrowing import NARROWING, narrowing_step
from tercet.agents.training.blind_training import chosen_bundles, public_order
from tercet.mpc.arithmetic.fixed import Floats, decode
from tercet.mpc.arithmetic.ring import total
from tercet.mpc.blind.start import to_layers
from tercet.mpc.dealing.hidden_helper import dealt_mask, mask_sums, weights_mask
from tercet.mpc.dealing.sizes import BlindLayout
from tercet.mpc.linear.shares import Shares
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import Layout
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.reference import blind, linear, network
from tercet.schemas.files.job import PredictionJob, TrainingJob
from tercet.schemas.messages.tensor import Words


@dataclass(slots=True)
class Simulation:
    """Holds a simulation's result: each party's finished run, by name."""

    description: TrainingJob | PredictionJob
    runs: dict[str, JobRun] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def label_run(self) -> JobRun:
        """The label party's, which speaks for the job."""
        return self.runs[self.description.label]

    @property
    def done(self) -> bool:
        """Tell whether the job is done at every party."""
        return self.runs.keys() == set(self.description.parties) and all(
            run.state == State.DONE for run in self.runs.values()
        )


def bit_exact(simulation: Simulation) -> bool | None:
    """Tell whether model parts add up to the oracle's words; None without a training."""
    if not isinstance(simulation.description, TrainingJob):
        return None
    if not simulation.done or not whole_exact(simulation):
        return False
    if simulation.description.network is not None:
        return same(network_words(simulation), network_oracle(simulation))
    oracle = oracle_words(simulation)
    blocks, intercept = joint_words(simulation)
    return same([*oracle.blocks, oracle.intercept], [*blocks, intercept])


def whole_exact(simulation: Simulation) -> bool:
    """Tell whether the label party's full model equals the sum of all shares on disk."""
    label, parties = simulation.description.label, simulation.description.data_parties
    parts = {party: model_part.load(_folder(simulation, party)) for party in parties}
    part, whole = parts[label]
    if not part.whole:
        return True
    plan = data_roles(simulation)[label].context.ready_plan

    def opened(name: str) -> Floats:
        bits = plan.finished_bits if name.startswith(model_part.UPPER) else plan.fw
        shares = (arrays[model_part.SHARE + name.removeprefix(model_part.WEIGHTS)] for _, arrays in parts.values())
        unscaled = name == model_part.INTERCEPT or name.startswith(model_part.BIAS)
        return (1.0 if unscaled else part.alpha) * decode(total(shares), bits)

    return all(np.array_equal(array, opened(name)) for name, array in whole.items() if array.dtype == np.float64)


def same(some: Iterable[Words], others: Iterable[Words]) -> bool:
    """Word for word."""
    return all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


def oracle_words(simulation: Simulation) -> linear.Weights:
    """Run the same training in plaintext."""
    label = data_roles(simulation)[simulation.description.label]
    assert label.labels.centred is not None
    assert label.order is not None
    assert label.shares is not None
    plan, y = label.context.ready_plan, label.labels.centred[~label.held_out]
    if plan.is_blind:
        return blind.train(blind_run(simulation, y), label.shares.step)
    return linear.train(training_words(simulation), y, plan, label.order, label.shares.step)


def blind_run(simulation: Simulation, y: Floats) -> blind.BlindRun:
    """Collect the arguments of a blind training's oracle.

    It is rounded by this run's dealt masks.
    """
    roles = list(data_roles(simulation).values())
    label = data_roles(simulation)[simulation.description.label]
    context, helper = label.context, label.context.description.helper
    plan, order, first = context.ready_plan, public_order(context), context.first_step
    masks = {i: role.context.masks(helper) for i, role in enumerate(roles)}
    layout, bundles = BlindLayout(plan), chosen_bundles(context, label.key)

    def dealt(name: str, k: int, step: Step) -> Words:
        used = bundles.used(step)
        sums = mask_sums(layout, {j: used.masks(of) for j, of in masks.items()})
        return dealt_mask(layout, name, step, k, sums)

    begin = first_weights(simulation)
    return blind.BlindRun(training_words(simulation), y, plan, order.permutation, dealt, first, begin)


def _sum_blocks(shares: Sequence[Shares | NetworkShares]) -> tuple[Words, ...]:
    return tuple(
        total([mine.own, *(other.partners[i] for other in shares if other is not mine)])
        for i, mine in enumerate(shares)
    )


def first_weights(simulation: Simulation) -> network.NetworkWeights:
    """Add up the shares that the last attempt began with, by layer."""
    starts = [role.start for role in data_roles(simulation).values()]
    return opened_shares([to_layers(start) for start in starts if start is not None])


def row_order(simulation: Simulation) -> Order | None:
    """Return the order of the rows that were trained on."""
    role = data_roles(simulation)[simulation.description.label]
    return public_order(role.context) if role.context.ready_plan.is_blind else role.order


def training_words(simulation: Simulation) -> list[Words]:
    """Collect each data party's encoded rows that were trained on."""
    words = []
    for role in data_roles(simulation).values():
        assert role.words is not None
        words.append(role.words.read_rows(np.arange(role.words.shape[0])))
    return words


def data_roles(simulation: Simulation) -> dict[str, DataPartyRole]:
    """List the data parties' roles, in the job's order."""
    roles = {party: simulation.runs[party].role for party in simulation.description.data_parties}
    return {party: role for party, role in roles.items() if isinstance(role, DataPartyRole)}


def joint_words(simulation: Simulation) -> tuple[list[Words], Words]:
    """Add up each block of weights and the intercept, in words, from the parts on disk."""
    parties, label = simulation.description.data_parties, simulation.description.label
    arrays = {party: model_part.load(_folder(simulation, party))[1] for party in parties}
    assert isinstance(simulation.description, TrainingJob)
    if simulation.description.release == "owners":
        return [arrays[party]["weight_words"] for party in parties], arrays[label]["intercept_words"]
    blocks = [total(arrays[j][f"shares/{i}"] for j in parties) for i in parties]
    return blocks, total(arrays[j]["shares/intercept"] for j in parties)


def network_words(simulation: Simulation) -> list[Words]:
    """Add up a network's blocks, upper weights and biases, from the shares on disk."""
    parties = simulation.description.data_parties
    arrays = {party: model_part.load(_folder(simulation, party))[1] for party in parties}
    names = [f"{model_part.SHARE}{party}" for party in parties]
    names += sorted(name for name in arrays[parties[0]] if name.startswith(model_part.SHARE + model_part.UPPER))
    names += sorted(name for name in arrays[parties[0]] if name.startswith(model_part.SHARE + model_part.BIAS))
    return [total(arrays[party][name] for party in parties) for name in names]


def network_oracle(simulation: Simulation) -> list[Words]:
    """Run the same network training in plaintext, rounded by this run's dealt masks."""
    label = data_roles(simulation)[simulation.description.label]
    assert label.shares is not None
    assert label.labels.centred is not None
    if label.context.ready_plan.is_blind:
        run = blind_run(simulation, label.labels.centred[~label.held_out])
        weights = _narrowed(simulation, blind.train_network(run, label.shares.step))
    else:
        weights = network.train(network_arguments(simulation), label.shares.step)
    return [*weights.blocks, *weights.upper, *weights.biases]


def _narrowed(simulation: Simulation, weights: network.NetworkWeights) -> network.NetworkWeights:
    """Truncate a blind network's upper weights as those of the kept model were."""
    roles, description = data_roles(simulation), simulation.description
    assert isinstance(description, TrainingJob)
    plan = roles[description.label].context.ready_plan
    step, layout = narrowing_step(description.training.epochs), BlindLayout(plan)
    masks = {j: role.context.masks(description.helper, NARROWING) for j, role in enumerate(roles.values())}
    upper = []
    for k, layer in enumerate(weights.upper):
        mask = weights_mask(layout, step, k, mask_sums(layout, masks))
        upper.append(network.round_by(layer, mask, plan.upper_bits - plan.finished_bits))
    return network.NetworkWeights(weights.blocks, tuple(upper), weights.biases)


def network_arguments(simulation: Simulation) -> network.TrainingRun:
    """Collect the network oracle's arguments, but for the number of steps."""
    roles = list(data_roles(simulation).values())
    label = data_roles(simulation)[simulation.description.label]
    assert label.labels.centred is not None
    assert label.order is not None
    plan, y = label.context.ready_plan, label.labels.centred[~label.held_out]
    layout, masks = Layout(plan), [role.context.masks(simulation.description.helper) for role in roles]

    def dealt(name: str, k: int, step: Step) -> Words:
        shape = layout.upper(k) if name == "rw" else layout.elements(k, step.rows)
        return total(mask(f"{name}/{k}", i, i, step, shape) for i, mask in enumerate(masks))

    first = first_weights(simulation)
    elements = Elements(label.key, attempt=label.context.noise_attempt)
    begin = label.context.first_step  # of the last attempt; how earlier ones have rounded is in its first shares
    return network.TrainingRun(training_words(simulation), y, plan, label.order, elements, first, dealt, begin)


def opened_shares(shares: Sequence[NetworkShares]) -> network.NetworkWeights:
    """Add up all parties' shares of one step."""
    upper = tuple(total(layers) for layers in zip(*(share.upper for share in shares), strict=True))
    biases = tuple(total(layers) for layers in zip(*(share.biases for share in shares), strict=True))
    return network.NetworkWeights(_sum_blocks(shares), upper, biases)


def _folder(simulation: Simulation, party: str) -> Path:
    folder = simulation.runs[party].model_part
    assert folder is not None
    return folder
