"""What one lie about opened weights reads where the label party adds up scores: bounded, measured, and told once."""

from dataclasses import replace

import numpy as np
import pytest

from tercet.agents.policy.exposure import score_bits
from tercet.mpc.linear.helper import Diverged
from tercet.mpc.plan.exposure import BLIND_SCORE_BITS
from tests.attacks.blind_scores import (
    ALL_RANGE_BITS,
    LABEL,
    NOISE,
    PARTNER,
    RANGE_BITS,
    REQUEST,
    Scene,
    spare_bits_sent,
)
from tests.mpc.passes import Pass


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A trained model with a penalty, whose words have six bits that no score needs."""
    return Scene()


@pytest.fixture(scope="module")
def empty() -> Scene:
    """A model of zeros without a penalty: a score is the lie and the noise alone."""
    return Scene(replace(REQUEST, l2=0.0), empty=True)


def test_without_protections_a_lie_reads_twelve_columns_of_everybody(scene):
    """Spare bits are sent along, and the partner adds no noise."""
    with spare_bits_sent():
        assert scene.read(12, headroom=ALL_RANGE_BITS, noise=0.0) > 0.99


def test_with_them_a_lie_reads_half_as_many(scene):
    """As its honest score is in the way; SECURITY.md has the number."""
    assert scene.most_read(headroom=RANGE_BITS) == 6
    assert scene.read(12, headroom=RANGE_BITS) < 0.05
    assert scene.read(12, headroom=ALL_RANGE_BITS) < 0.05  # what is beyond the range is not there


def test_at_most_a_lie_reads_what_the_budget_counts(empty):
    """Thirteen bits, where nothing else is in a score; of one more, each second value is wrong."""
    bits = score_bits(NOISE, blind=True)
    assert empty.most_read(headroom=RANGE_BITS) == bits == BLIND_SCORE_BITS == 13
    assert empty.read(14, headroom=RANGE_BITS) < 0.6
    assert empty.read(14, headroom=RANGE_BITS, noise=0.0) == 1.0  # without noise it would


@pytest.mark.parametrize(("noise", "bits"), [(0.0, 25), (2.0**-17, 25), (2.0**-5, 13), (0.5, 9), (1000.0, 0)])
def test_more_noise_leaves_a_liar_fewer_bits(noise, bits):
    """No partner adds less than half a unit of a rounded score."""
    assert score_bits(noise, blind=True) == bits


def test_two_lies_about_one_model_would_read_the_other_half(scene):
    """So a partner keeps what was opened for the first prediction, and there is no second lie."""
    assert scene.read_twice(6, once=False) > 0.99
    assert scene.read_twice(6, once=True) < 0.05
    masked = [scene.open_pass(run).opened[PARTNER].blocks[LABEL] for run in (1, 2)]
    assert np.array_equal(*masked)  # nothing is left to say in the second


@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_an_honest_label_party_stops_at_a_row_that_strays_too_far(l2):
    """The guard is half of the range that is told, also where spare bits are left out."""
    scene = Scene(replace(REQUEST, l2=l2), empty=True, people=64)
    for size, stops in ((2.0**6, False), (2.0**7, True), (1.4 * 2.0**7, True)):
        scored = scene.open_pass(1)
        scored.add_to_weights(LABEL, PARTNER, scene.lie(2 * size, 1))
        if stops:
            with pytest.raises(Diverged, match="reached"):
                Pass.run(scored)  # not as the attacker does, who stops at nothing
        else:
            assert np.allclose(np.abs(Pass.run(scored)), size)
