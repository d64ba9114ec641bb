"""The agents' joint model is the plaintext run's, bit for bit, whoever takes part and whatever the network does.

What else a run leaves behind, and what it shows to whom, is not looked at here.
"""

import stat
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tercet.agents.messaging.inbox import ENVELOPE_BYTES
from tercet.agents.models import model_part
from tercet.agents.simulation import exactness
from tercet.agents.simulation.simulate import bit_exact, data_roles, joint_words, oracle_words
from tercet.broker.interface.base import Envelope
from tercet.broker.memory.broker import MemoryBroker
from tercet.broker.memory.memory_queue import Delay, Duplicate, Fault, Reorder
from tercet.mpc.reference import linear as reference
from tercet.schemas.files.job import Evaluation
from tercet.schemas.files.settings import Limits
from tercet.schemas.messages.codec import encode
from tercet.schemas.messages.kinds import Released
from tests import virtual_time
from tests.agents.networks import parts_of
from tests.agents.world import HELPER, Sample, contributions, exact, run

# Whoever hears that another is done, which nobody is before all have released, does not wait for the rest to say so.
LAST_WORD = len(encode(Released())) + ENVELOPE_BYTES

SAMPLES = [
    Sample((4, 5, 6), rows=128, batch=32, label=2, l2=0.02, schedule="inverse-time", decay=0.05),
    Sample((4, 5, 6), label=1, model="linear", release="shared", schedule="exponential", decay=0.97),
    Sample((4, 5, 6), rows=101, batch=35, label=0, release="shared", outliers=0.03),  # the last 31 rows join
    Sample((3, 1, 4, 1, 5), label=4, l2=0.3),
    Sample((0, 3, 2), rows=70, batch=70, release="shared"),  # labels alone
    Sample((12, 1), rows=20, batch=64, label=1),  # one batch, smaller than the job's
    Sample((4, 5, 6), rows=101, batch=35, model="softmax", label=2, release="shared", l2=0.02, outliers=0.02),
    Sample((4, 5, 6), model="poisson", label=1, rate=0.03, l2=0.05, release="shared"),
    Sample((7, 0), model="gamma", label=1, rate=0.03, l2=0.05),
]
MODELS, RELEASES = ("logistic", "linear", "softmax", "poisson", "gamma"), ("owners", "shared")


def evaluations() -> st.SearchStrategy[Evaluation]:
    """Everything that may be asked for beside the model, none of which may change a bit of it."""
    return st.builds(
        Evaluation,
        holdout=st.sampled_from([0.0, 0.3]),
        metrics=st.sampled_from(["end", "epoch"]),
        loss=st.booleans(),
        loss_to=st.sampled_from(["label", "all"]),
    )


@st.composite
def samples(
    draw: st.DrawFn, /, most: int = 5, models: Sequence[str] = MODELS, releases: Sequence[str] = RELEASES, **more: Any
) -> Sample:
    """Small jobs of every kind, of `most` data parties at most."""
    parties = draw(st.sampled_from([number for number in (2, 3, 5) if number <= most]))
    label = draw(st.integers(0, parties - 1))  # which may have no columns
    schedule = draw(st.sampled_from(["constant", "inverse-time", "exponential"]))
    return Sample(
        columns=tuple(draw(st.integers(int(party != label), 6)) for party in range(parties)),
        rows=draw(st.integers(20, 200)),
        label=label,
        model=draw(st.sampled_from(models)),
        batch=draw(st.integers(16, 90)),
        epochs=draw(st.integers(1, 3)),
        rate=draw(st.floats(0.01, 0.15)),
        schedule=schedule,
        decay={"constant": 0.0, "inverse-time": 0.03, "exponential": 0.96}[schedule],
        l2=draw(st.sampled_from([0.0, 0.01, 0.2])),
        release=draw(st.sampled_from(releases)),
        alignment=draw(st.sampled_from(["helper", "aligned", "ecdh"] if parties == 2 else ["helper", "aligned"])),
        evaluation=draw(evaluations()),
        outliers=draw(st.sampled_from([0.0, 0.02])),
        seed=draw(st.integers(0, 1000)),
        **more,
    )


# --- equality


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_the_model_is_the_oracles_bit_for_bit(sample):
    """Two, three and five data parties, label anywhere, all models and releases, batches that do not divide."""
    simulation, same = exact(sample)
    assert simulation.done, simulation.label_run.failure
    assert same


@settings(max_examples=3, deadline=None, derandomize=True)
@given(samples())
@example(Sample((6, 6), rows=63, batch=32, seed=1))  # 31 rows left over
@example(Sample((6, 6), rows=64, batch=32, seed=1))
def test_any_job_that_ends_has_the_oracles_model(sample):
    """A job ends with that model or, where columns are wild and errors unbounded, with a clear refusal."""
    simulation, same = exact(sample)
    failure = simulation.label_run.failure
    if failure is not None:
        assert failure.code in {"job.plan", "table.label", "training.diverged", "scoring.range"}
        assert failure.code == "job.plan" or sample.model in {"linear", "poisson", "gamma"}
    assume(failure is None)
    assert same


def words(sample: Sample, folder: Path, seed: int, **hooks: Any) -> list[np.ndarray[Any, Any]]:
    """The joint model of a run with fixed contributions to the order key."""
    folder.mkdir()
    simulation = virtual_time.run(run(sample, folder, contribute=contributions(seed), **hooks))
    assert bit_exact(simulation)
    blocks, intercept = joint_words(simulation)
    return [*blocks, intercept]


def test_contributions_alone_shape_a_model(tmp_path):
    """Keys and masks are new in each run: equal contributions give equal words, others others."""
    sample = Sample((4, 5), epochs=1, label=1, model="linear", release="shared")
    assert sample.batch < sample.rows
    first, again, other = (words(sample, tmp_path / name, seed) for name, seed in [("a", 1), ("b", 1), ("c", 2)])
    assert exactness.same(first, again)
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_one_partys_contribution_is_enough_for_another_order(tmp_path):
    """A party that contributes honestly need not trust the others' randomness."""
    sample = Sample((4, 5, 4), epochs=1, label=1)
    models = []
    for number in range(2):
        source = contributions(1)
        source["telco"] = lambda number=number: bytes([number] * 32)  # type: ignore[misc]
        folder = tmp_path / str(number)
        folder.mkdir()
        simulation = virtual_time.run(run(sample, folder, contribute=source))
        models.append(joint_words(simulation)[0])
    assert not exactness.same(*models)


def test_model_parts_hold_the_oracles_model_and_only_their_owner_may_read_them(tmp_path):
    """Words and float64 weights to the last bit, each party's own block, the intercept at the label party alone."""
    label = 1
    sample = Sample((4, 5, 4), label=label, l2=0.05)
    simulation = virtual_time.run(run(sample, tmp_path), threads=True)  # as in life
    roles = data_roles(simulation)
    plan = roles[sample.parties[label]].context.plan
    oracle = oracle_words(simulation)
    model = reference.release(oracle, plan)
    for number, party in enumerate(sample.parties):
        folder = simulation.runs[party].model_part
        assert folder is not None
        part, arrays = model_part.load(folder)
        assert np.array_equal(arrays["weight_words"], oracle.blocks[number])
        assert np.array_equal(arrays["weights"], model.blocks[number])
        assert ("intercept" in arrays) == (number == label)
        if number == label:
            assert np.array_equal(arrays["intercept"], model.intercept)
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert part.columns == tuple(f"{party}_quantity_{k}" for k in range(sample.columns[number]))
    assert simulation.runs[HELPER].model_part is None


def test_shared_parts_add_up_and_are_nothing_apart(tmp_path):
    """Under release = shared no party holds any block; all parties' shares of it add up to the oracle's."""
    sample = Sample((4, 5, 4), label=2, release="shared")
    simulation = virtual_time.run(run(sample, tmp_path), threads=True)  # as in life
    assert bit_exact(simulation)
    blocks, _ = joint_words(simulation)
    for party, (_, arrays) in parts_of(tmp_path, sample).items():
        opened = {f"opened/{other}" for other in sample.parties if other != party}
        assert set(arrays) == {f"shares/{other}" for other in sample.parties} | {
            "shares/intercept", "weight_mask_seed", *opened
        }  # fmt: skip
        assert not any(np.array_equal(arrays[f"shares/{p}"], b) for p, b in zip(sample.parties, blocks, strict=True))


# --- a network that misbehaves


class Mischief:
    """Faults by the address alone, so that a run can be repeated: about one envelope in `rarity` for each kind."""

    def __init__(self, seed: int, *kinds: Fault, rarity: int = 6) -> None:
        self.seed, self.kinds, self.rarity, self.count = seed, kinds, rarity, 0

    def __call__(self, envelope: Envelope, queue: str) -> Sequence[Fault]:
        number = zlib.crc32(f"{self.seed} {envelope.address}".encode())
        found = [kind for place, kind in enumerate(self.kinds) if number // self.rarity**place % self.rarity == 0]
        self.count += len(found)
        return found


@pytest.mark.parametrize(
    ("sample", "part_bytes", "faults"),
    [
        (Sample(), 1024, (Duplicate(2), Reorder())),
        (Sample((4, 5, 4), label=2), 2**20, (Duplicate(), Delay(0.004), Reorder())),
    ],
    ids=["parts", "whole"],
)
def test_repeats_delays_and_overtaking_change_nothing(sample, part_bytes, faults, tmp_path):
    """Receivers go by addresses: the words are those of the undisturbed run, whole messages or in parts."""
    undisturbed = words(sample, tmp_path / "calm", seed=3)
    mischief, wild = Mischief(7, *faults, rarity=3), tmp_path / "wild"
    wild.mkdir()
    limited = sample.settings(wild, limits=Limits(part_bytes=part_bytes))
    simulation = virtual_time.run(
        run(sample, wild, settings=limited, contribute=contributions(3), broker=MemoryBroker(faults=mischief))
    )
    assert simulation.done, simulation.label_run.failure
    assert mischief.count > 10
    blocks, intercept = joint_words(simulation)
    assert exactness.same([*blocks, intercept], undisturbed)
    assert bit_exact(simulation)
    for one in simulation.runs.values():  # nothing that came twice is kept
        mailbox = one.context.mailbox
        assert not mailbox._parts
        assert all(held in {0, LAST_WORD} for held in mailbox._held_bytes.values())
