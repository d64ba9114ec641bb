"""Compares a simulated job's model with the plaintext oracle, to the last bit.

The simulator alone may look at every party's tables, keys and shares, which is what this takes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tercet.agents.core.states import State
from tercet.agents.models import model_part
from tercet.agents.roles.data_party import Trained
from tercet.agents.roles.own_labels import OwnLabels
from tercet.agents.runs.run import JobRun
from tercet.agents.scoring.narrowing import NARROWING, narrowing_step
from tercet.agents.simulation.counted import counted_exactly
from tercet.agents.training.blind_training import chosen_bundles, public_order
from tercet.mpc.arithmetic.fixed import Floats, decode
from tercet.mpc.arithmetic.ring import total
from tercet.mpc.blind.start import to_layers
from tercet.mpc.dealing.hidden_helper import dealt_mask, mask_sums, weights_mask
from tercet.mpc.dealing.sizes import BlindLayout
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import Layout
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.reference import blind, linear, network
from tercet.schemas.files.job import AnyJob, StatisticsJob, TrainingJob
from tercet.schemas.messages.tensor import Words


@dataclass(slots=True)
class Simulation:
    """Holds a simulation's result: each party's finished run, by name."""

    description: AnyJob
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
    """Tell whether model parts or statistics are the oracle's; None of a prediction."""
    if isinstance(simulation.description, StatisticsJob):
        return simulation.done and counted_exactly(simulation.description, simulation.runs)
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
    parts = {party: model_part.load(part_folder(simulation, party)) for party in parties}
    part, whole = parts[label]
    if not part.whole:
        return True
    plan = data_roles(simulation)[label].context.plan

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
    label, labels = label_party(simulation)
    if label.context.plan.is_blind:
        return blind.train(blind_run(simulation), label.shares.step)
    context, begin, first = label.context, None, 0
    if context.description.start is not None:
        weights, first = first_weights(simulation), context.first_step
        begin = linear.Weights(weights.blocks, weights.biases[0])
    return linear.train(
        training_words(simulation), labels.trained_on, context.plan, label.order, label.shares.step, begin, first
    )


def label_party(simulation: Simulation) -> tuple[Trained, OwnLabels]:
    """Give the label party's side of a finished training, and its labels.

    Raises:
        LookupError: the job is no training, or it has not come to its end.
    """
    match data_roles(simulation).get(simulation.description.label):
        case Trained(labels=OwnLabels() as labels) as label:
            return label, labels
    raise LookupError(f"the label party of {simulation.description.id} has finished no training")


def blind_run(simulation: Simulation) -> blind.BlindRun:
    """Collect the arguments of a blind training's oracle.

    It is rounded by this run's dealt masks.
    """
    label, labels = label_party(simulation)
    context, helper = label.context, label.context.description.helper
    plan, order, first = context.plan, public_order(context), context.first_step
    masks = {i: party.context.masks(helper) for i, party in enumerate(data_roles(simulation).values())}
    layout, bundles = BlindLayout(plan), chosen_bundles(context, label.key)

    def dealt(name: str, k: int, step: Step) -> Words:
        used = bundles.used(step)
        sums = mask_sums(layout, {j: used.masks(of) for j, of in masks.items()})
        return dealt_mask(layout, name, step, k, sums)

    begin = first_weights(simulation)
    return blind.BlindRun(training_words(simulation), labels.trained_rows, plan, order.permutation, dealt, first, begin)


def first_weights(simulation: Simulation) -> network.NetworkWeights:
    """Add up the shares that the last attempt began with, by layer."""
    return opened_shares([to_layers(party.start) for party in data_roles(simulation).values()])


def row_order(simulation: Simulation) -> Order:
    """Return the order of the rows that were trained on."""
    label, _ = label_party(simulation)
    return public_order(label.context) if label.context.plan.is_blind else label.order


def training_words(simulation: Simulation) -> list[Words]:
    """Collect each data party's encoded rows that were trained on."""
    views = [party.words for party in data_roles(simulation).values()]
    return [words.read_rows(np.arange(words.shape[0])) for words in views]


def data_roles(simulation: Simulation) -> dict[str, Trained]:
    """List what the data parties have at the end of a training, in the job's order."""
    found = {party: simulation.runs[party].reached for party in simulation.description.data_parties}
    return {party: trained for party, trained in found.items() if isinstance(trained, Trained)}


def joint_words(simulation: Simulation) -> tuple[list[Words], Words]:
    """Add up each block of weights and the intercept, in words, from the parts on disk."""
    parties, label = simulation.description.data_parties, simulation.description.label
    arrays = {party: model_part.load(part_folder(simulation, party))[1] for party in parties}
    if label_party(simulation)[0].context.description.release == "owners":
        return [arrays[party]["weight_words"] for party in parties], arrays[label]["intercept_words"]
    blocks = [total(arrays[j][f"shares/{i}"] for j in parties) for i in parties]
    return blocks, total(arrays[j]["shares/intercept"] for j in parties)


def network_words(simulation: Simulation) -> list[Words]:
    """Add up a network's blocks, upper weights and biases, from the shares on disk."""
    parties = simulation.description.data_parties
    arrays = {party: model_part.load(part_folder(simulation, party))[1] for party in parties}
    names = [f"{model_part.SHARE}{party}" for party in parties]
    names += sorted(name for name in arrays[parties[0]] if name.startswith(model_part.SHARE + model_part.UPPER))
    names += sorted(name for name in arrays[parties[0]] if name.startswith(model_part.SHARE + model_part.BIAS))
    return [total(arrays[party][name] for party in parties) for name in names]


def network_oracle(simulation: Simulation) -> list[Words]:
    """Run the same network training in plaintext, rounded by this run's dealt masks."""
    label, _ = label_party(simulation)
    if label.context.plan.is_blind:
        weights = _narrowed(simulation, blind.train_network(blind_run(simulation), label.shares.step))
    else:
        weights = network.train(network_arguments(simulation), label.shares.step)
    return [*weights.blocks, *weights.upper, *weights.biases]


def _narrowed(simulation: Simulation, weights: network.NetworkWeights) -> network.NetworkWeights:
    """Truncate a blind network's upper weights as those of the kept model were."""
    parties, context = data_roles(simulation), label_party(simulation)[0].context
    plan, job = context.plan, context.description
    step, layout = narrowing_step(job.training.epochs), BlindLayout(plan)
    masks = {j: party.context.masks(job.helper, NARROWING) for j, party in enumerate(parties.values())}
    upper = []
    for k, layer in enumerate(weights.upper):
        mask = weights_mask(layout, step, k, mask_sums(layout, masks))
        upper.append(network.round_by(layer, mask, plan.upper_bits - plan.finished_bits))
    return network.NetworkWeights(weights.blocks, tuple(upper), weights.biases)


def network_arguments(simulation: Simulation) -> network.TrainingRun:
    """Collect the network oracle's arguments, but for the number of steps."""
    parties, (label, labels) = data_roles(simulation).values(), label_party(simulation)
    plan, begin = label.context.plan, label.context.first_step  # of the last attempt; the shares say of earlier ones
    layout, masks = Layout(plan), [party.context.masks(simulation.description.helper) for party in parties]

    def dealt(name: str, k: int, step: Step) -> Words:
        shape = layout.upper(k) if name == "rw" else layout.elements(k, step.rows)
        return total(mask(f"{name}/{k}", i, i, step, shape) for i, mask in enumerate(masks))

    first = first_weights(simulation)
    elements = Elements(label.key, attempt=label.context.noise_attempt)
    return network.TrainingRun(
        training_words(simulation), labels.trained_on, plan, label.order, elements, first, dealt, begin
    )


def opened_shares(shares: Sequence[NetworkShares]) -> network.NetworkWeights:
    """Add up all parties' shares of one step."""
    blocks = tuple(
        total([mine.own, *(other.partners[i] for other in shares if other is not mine)])
        for i, mine in enumerate(shares)
    )
    upper = tuple(total(layers) for layers in zip(*(share.upper for share in shares), strict=True))
    biases = tuple(total(layers) for layers in zip(*(share.biases for share in shares), strict=True))
    return network.NetworkWeights(blocks, upper, biases)


def part_folder(simulation: Simulation, party: str) -> Path:
    """Name the folder of a party's model part."""
    run = simulation.runs[party]
    return run.context.settings.state / "models" / run.job.id
