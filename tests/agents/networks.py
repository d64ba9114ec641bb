"""What tests of networks' jobs compare with: the oracle's losses and scores of a run, and an opened network in float64.

Everything may be looked at here, and nothing here decides what any party may see.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tercet.agents.models import model_part
from tercet.agents.models.model_part import BIAS, SHARE, UPPER, ModelPart
from tercet.agents.simulation.simulate import Simulation
from tercet.mpc.arithmetic.fixed import Floats, decode, encode, encode_features
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.functions.hidden import HIDDEN
from tercet.mpc.plan.blind import narrow_bits
from tercet.mpc.scoring.linear import Numbers
from tercet.schemas.files.job import Network
from tests.agents.recording import Tables
from tests.agents.roles.test_prediction import encoded
from tests.agents.world import PERSON, Sample

Parts = Mapping[str, tuple[ModelPart, Mapping[str, Any]]]


def mlp(
    columns: tuple[int, ...], *hidden: int, activation: str = "relu", output: str = "logistic", **more: Any
) -> Sample:
    """A small job of a network."""
    network = Network.model_validate({"hidden": hidden, "activation": activation, "output": output})
    return Sample(columns, model="mlp", network=network, **more)


def name(sample: Sample) -> str:
    """What a test of it is called."""
    assert sample.network is not None
    widths = "-".join(map(str, sample.network.hidden))
    return f"{len(sample.columns)} parties {widths} {sample.network.activation} {sample.link} {sample.release}"


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
    z: Floats = biases[0] + np.sum([xs[party] @ weights(party) for party in parts], axis=0)
    for k, bias in enumerate(biases[1:]):
        z = decode(encode(link.phi(z) + link.centre, fx), fx) @ weights(f"{UPPER}{k}") + bias
    return z


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
