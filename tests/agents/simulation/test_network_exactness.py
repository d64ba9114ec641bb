"""Whole jobs of networks: the joint model is the plaintext run's, bit for bit, and parts hold it in shares.

What is told of it is looked at in test_networks_evaluation, what it shows to whom in test_networks_disclosure, what
befalls a job in test_networks_failures.
"""

import stat

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tercet.agents.simulation.exactness import label_party
from tercet.agents.simulation.simulate import bit_exact, network_arguments, network_words
from tercet.mpc.reference import network as network_reference
from tercet.schemas.files.settings import Limits
from tests import virtual_time
from tests.agents.networks import mlp, name, parts_of
from tests.agents.oracle import heard, weights_after
from tests.agents.simulation.test_exactness import evaluations
from tests.agents.world import HELPER, Sample, contributions, exact, few_rows, run

ACTIVATIONS = ["relu", "leaky-relu", "tanh", "sigmoid", "gelu", "silu", "softplus"]
OUTPUTS = ["logistic", "linear", "softmax", "poisson"]

SAMPLES = [
    mlp((7, 6), 5),
    mlp((7, 6), 5, epochs=1, label=1, output="linear", activation="leaky-relu", rate=0.03),
    mlp((4, 5, 6), 5, 4, rows=70, label=2, output="softmax", activation="tanh", l2=0.02, schedule="inverse-time",
        decay=0.05),
    mlp((4, 5, 6), 6, epochs=1, label=1, output="poisson", activation="sigmoid", release="shared", rate=0.03),
    mlp((4, 5, 6), 3, 5, epochs=1, rows=101, batch=35, activation="gelu", release="shared", alignment="aligned"),
    mlp((7, 6), 4, 4, 3, epochs=1, activation="silu", output="softmax", l2=0.05, alignment="ecdh"),
    mlp((3, 1, 2, 1, 4), 4, 3, rows=71, batch=70, label=4, activation="softplus", schedule="exponential", decay=0.9),
    mlp((12, 1), 6, rows=20, batch=64, label=1, l2=0.3),  # one batch, smaller than the job's; alpha goes into slopes
    mlp((2, 3), 1, rows=70, batch=70),
]  # fmt: skip


@st.composite
def samples(draw) -> Sample:
    """Small jobs of every kind of network."""
    parties = draw(st.sampled_from([2, 3]))
    label = draw(st.integers(0, parties - 1))  # which may have no columns
    return mlp(
        tuple(draw(st.integers(int(party != label), 6)) for party in range(parties)),
        *draw(st.lists(st.integers(1, 6), min_size=1, max_size=2)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        output=draw(st.sampled_from(OUTPUTS)),
        rows=draw(st.integers(60, 160)),
        label=label,
        batch=draw(st.integers(32, 70)),
        epochs=draw(st.integers(1, 3)),
        rate=draw(st.floats(0.01, 0.05)),
        l2=draw(st.sampled_from([0.0, 0.05])),
        release=draw(st.sampled_from(["owners", "shared"])),
        alignment=draw(st.sampled_from(["helper", "aligned"])),
        evaluation=draw(evaluations()),
        seed=draw(st.integers(0, 1000)),
    )


# --- equality


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_the_network_is_the_oracles_bit_for_bit(sample):
    """Two to five data parties, label anywhere, all activations, outputs and releases, batches that do not divide."""
    simulation, same = exact(sample)
    assert simulation.done, simulation.label_run.failure
    assert same


@settings(max_examples=3, deadline=None, derandomize=True)
@given(samples())
def test_any_job_of_a_network_that_ends_has_the_oracles(sample):
    """A job ends with that model or, where columns are wild and errors unbounded, with a clear refusal."""
    simulation, same = exact(sample)
    failure = simulation.label_run.failure
    if failure is not None:
        assert failure.code in {"job.plan", "training.diverged", "scoring.range"}
        assert failure.code == "job.plan" or sample.link in {"linear", "poisson"}
    assume(failure is None)
    assert same


def test_how_far_ahead_is_sent_changes_nothing(tmp_path):
    """Nor does it matter that parties do not agree on it, or that messages come in parts."""
    sample = mlp((5, 4, 3), 4, 3, rows=120, batch=40)
    settings = sample.settings(tmp_path, limits=Limits(min_rows=1, look_ahead=1, part_bytes=1024))
    settings["card"] = settings["card"].model_copy(update={"limits": few_rows(Limits(min_rows=1, look_ahead=2))})
    simulation = virtual_time.run(run(sample, tmp_path, settings=settings))
    assert simulation.done, simulation.label_run.failure
    assert bit_exact(simulation)
    for one in simulation.runs.values():
        assert not one.context.mailbox._parts
        assert not any(one.context.mailbox._held_bytes.values())


def test_first_weights_differ_from_run_to_run_and_are_known_to_nobody(tmp_path):
    """With the same order of rows: each party draws its own shares, and no share of another comes near the sum."""
    found = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        simulation = virtual_time.run(run(mlp((5, 4), 6, epochs=1), folder, contribute=contributions(seed)))
        assert bit_exact(simulation)
        found.append(network_words(simulation))
    assert not any(np.array_equal(one, other) for one, other in zip(*found, strict=True))


# --- parts


@pytest.mark.parametrize(("label", "release"), [(2, "owners"), (0, "shared")])
def test_parts_hold_shares_and_where_the_job_says_so_each_partys_own_block(label, release, tmp_path):
    """With `owners` the label party has what is above the first layer, too; the shares stay with all of them."""
    sample = mlp((4, 5, 4), 6, 3, epochs=1, label=label, l2=0.05, activation="tanh", output="softmax", release=release)
    simulation = virtual_time.run(run(sample, tmp_path), threads=True)  # as in life
    assert bit_exact(simulation)
    parts = parts_of(tmp_path, sample)
    plan = label_party(simulation)[0].context.plan
    joint = network_words(simulation)
    shares = {f"shares/{party}" for party in sample.parties} | {"shares/upper.0", "shares/upper.1"}
    shares |= {f"shares/bias.{k}" for k in range(3)}
    upper = {
        f"{kind}{words}" for kind in ("upper.0", "upper.1", "bias.0", "bias.1", "bias.2") for words in ("", "_words")
    }
    for number, (party, (part, arrays)) in enumerate(parts.items()):
        folder = simulation.runs[party].model_part
        assert folder is not None
        own = {"weights", "weight_words"} if release == "owners" else set()
        more = upper if own and number == label else set()
        once = {f"opened/{other}" for other in sample.parties if other != party} | {"opened.upper", "weight_mask_seed"}
        assert set(arrays) == shares | own | more | once
        assert (part.model, part.network, part.link) == ("mlp", sample.network, "softmax")
        assert (part.classes is not None) == (number == label)
        assert not any(np.array_equal(arrays[name], words) for name in shares for words in joint)
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
        if own:
            assert np.array_equal(arrays["weight_words"], joint[number])
            assert np.array_equal(arrays["weights"], plan.weights(joint[number]))
        if more:
            opened = [arrays[f"upper.{k}_words"] for k in range(2)] + [arrays[f"bias.{k}_words"] for k in range(3)]
            assert all(np.array_equal(a, b) for a, b in zip(opened, joint[3:], strict=True))
            assert np.array_equal(arrays["upper.1"], plan.weights(joint[4]))
            assert np.array_equal(arrays["bias.2"], plan.intercept(joint[7]))
    assert simulation.runs[HELPER].model_part is None


def test_the_oracle_rounds_as_the_joint_run_does_and_not_otherwise():
    """Handed other masks of truncations, it ends elsewhere in the last bits: so equality says that it was these."""
    found = heard(mlp((5, 4), 6))
    same = network_arguments(found.simulation)
    other = network_reference.train(same._replace(dealt=lambda *address: ~same.dealt(*address)))
    ours = weights_after(found, found.plan.steps_total)
    assert not np.array_equal(other.blocks[0], ours.blocks[0])
    gap = (other.blocks[0] - ours.blocks[0]).view(np.int64) / 2.0**found.plan.fw
    assert np.abs(gap).max() < 1e-4
