"""What tests of networks' jobs compare with: the oracle's losses and scores of a run, and an opened network in float64.

Everything may be looked at here, and nothing here decides what any party may see.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tercet.agents.models import model_part
from tercet.agents.models.model_part import BIAS, SHARE, UPPER, ModelPart
from tercet.agents.simulation.simulate import Simulation, bit_exact, network_arguments
from tercet.mpc.arithmetic.fixed import Floats, decode, encode, encode_features
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.functions.hidden import HIDDEN
from tercet.mpc.plan.blind import narrow_bits
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.reference import network as network_reference
from tercet.mpc.reference.network import NetworkWeights, PassSetting
from tercet.mpc.scoring.linear import Numbers, scoring_steps
from tercet.schemas.files.job import Network
from tests.agents.recording import SCORING_BATCH, Heard, Tables, hear
from tests.agents.roles.test_prediction import encoded
from tests.agents.world import PERSON, Sample

Parts = Mapping[str, tuple[ModelPart, Mapping[str, Any]]]


def mlp(
    columns: tuple[int, ...], *hidden: int, activation: str = "relu", output: str = "logistic", **more: Any
) -> Sample:
    """A small job of a network."""
    network = Network.model_validate({"hidden": hidden, "activation": activation, "output": output})
    return Sample(columns, model="mlp", network=network, **more)


def heard(sample: Sample) -> Heard:
    """A run in a folder that is gone afterwards, whose network is the oracle's."""
    with tempfile.TemporaryDirectory() as folder:
        found = hear(sample, Path(folder))
        assert bit_exact(found.simulation)
        return found


def name(sample: Sample) -> str:
    """What a test of it is called."""
    assert sample.network is not None
    widths = "-".join(map(str, sample.network.hidden))
    return f"{len(sample.columns)} parties {widths} {sample.network.activation} {sample.link} {sample.release}"


# --- the oracle


def weights_after(run: Heard, steps: int) -> NetworkWeights:
    """The oracle's network after so many steps."""
    return network_reference.train(network_arguments(run.simulation), steps)


def oracle_losses(run: Heard) -> list[Words]:
    """The summed loss of each epoch."""
    return network_reference.losses(network_arguments(run.simulation))


def oracle_scores(run: Heard, steps: int, epoch: int) -> Floats:
    """What the oracle's network after so many steps says of the held-out rows, (rows, outputs)."""
    xs, setting = run.held_out_xs, PassSetting(run.plan, run.scoring_order, Elements(run.label.key, "scoring"))
    passed = scoring_steps(len(xs[0]), SCORING_BATCH, epoch, run.plan.alpha_after(steps))
    return network_reference.scores(xs, weights_after(run, steps), setting, passed)


def held_out_loss_after(run: Heard, epoch: int) -> float:
    """The oracle's, in the mean."""
    plan, rows = run.plan, len(run.held_out_y)
    steps = (epoch + 1) * plan.steps_per_epoch
    setting = PassSetting(plan, run.held_out_order, Elements(run.label.key, "held-out loss"))
    words = network_reference.held_out_loss(
        run.held_out_xs, run.held_out_y, weights_after(run, steps), plan=plan, setting=setting,
        steps=scoring_steps(rows, SCORING_BATCH, epoch, plan.alpha_after(steps)),
    )  # fmt: skip
    return float(decode(words, plan.loss_bits_of(rows).total)[0, 0]) / rows


# --- an opened network


def parts_of(folder: Path, sample: Sample) -> Parts:
    """Every party's part, from its disk."""
    return {party: model_part.load(folder / party / "models" / sample.description().id) for party in sample.parties}


def opened(parts: Parts, name: str) -> Words:
    """What all parties' shares of something add up to."""
    return total(arrays[SHARE + name] for _, arrays in parts.values())


def opened_right(simulation: Simulation) -> bool:
    """Whether what each party was given of a network is what all shares of it add up to."""
    folders = {party: run.model_part for party, run in simulation.runs.items() if run.model_part is not None}
    parts = {party: model_part.load(folder) for party, folder in folders.items()}

    def right(party: str, name: str) -> bool:
        share = party if name == "weight_words" else name.removesuffix("_words")
        return np.array_equal(parts[party][1][name], opened(parts, share))

    return all(right(party, name) for party, (_, arrays) in parts.items() for name in arrays if name.endswith("_words"))


def forward(parts: Parts, xs: Mapping[str, Floats]) -> Floats:
    """Scores, (rows, outputs), of everybody's encoded rows, by the network that all shares together are.

    In float64, but that activations have as many fractional bits as features: that alone moves a score by 1e-4 or so.
    """
    part = next(iter(parts.values()))[0]
    assert part.network is not None
    link, numbers = HIDDEN[part.network.activation], Numbers.from_canonical(part.plan)
    bits, fx = numbers.fx + numbers.f, numbers.hidden_bits if numbers.is_blind else numbers.fx

    def weights(name: str) -> Floats:
        narrow = numbers.is_blind and name.startswith(UPPER)
        return part.alpha * decode(opened(parts, name), narrow_bits(numbers.fx, numbers.f) if narrow else bits)

    biases = [decode(opened(parts, f"{BIAS}{k}"), bits) for k in range(len(part.network.hidden) + 1)]
    z: Floats = biases[0] + total_floats([xs[party] @ weights(party) for party in parts])
    for k, bias in enumerate(biases[1:]):
        z = decode(encode(link.phi(z) + link.centre, fx), fx) @ weights(f"{UPPER}{k}") + bias
    return z


def total_floats(parts: list[Floats]) -> Floats:
    """Their sum."""
    return np.asarray(np.sum(parts, axis=0))


def plain_scores(folder: Path, sample: Sample, tables: Tables) -> dict[str, Floats]:
    """By id of all common rows, (outputs,): the opened network on the parties' own tables, in the label's own terms."""
    parts = parts_of(folder, sample)
    common = sorted(set.intersection(*(set(table[PERSON]) for table in tables.values())))
    xs = {}
    for party, (part, _) in parts.items():
        bits, place = int(str(part.plan["fx"])), {one: row for row, one in enumerate(tables[party][PERSON])}
        words = encode_features(encoded(part, tables[party])[[place[one] for one in common]], part.norm, bits)
        xs[party] = decode(words, bits)
    scaling = parts[sample.parties[sample.label]][0].label_scaling
    scores = forward(parts, xs)
    scores = scores if scaling is None else scaling.restore(scores)
    return dict(zip(common, scores, strict=True))
