"""A partner's noise on scores goes by the weights, where the label party adds scores up itself."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from tercet.agents.scoring.scoring_pass import own_noise
from tercet.mpc.linear.shares import Shares
from tercet.mpc.scoring.linear import scoring_steps

STEP = next(scoring_steps(40, 40, 0, 1.0))
BITS = 55


def words(own: int | None, score_noise: float = 0.03125) -> Any:
    """Of a pass by a model of which this party has this share; None: the helper rounds."""
    policy = SimpleNamespace(score_noise=score_noise)
    context: Any = SimpleNamespace(is_label_party=False, settings=SimpleNamespace(policy=policy))
    shares = None if own is None else Shares(3, np.full((2, 1), own, np.uint64), {}, np.zeros((1, 1), np.uint64))
    noise = own_noise(context, b"p" * 32, "validation", blind_shares=shares)
    assert noise is not None
    return noise.words(STEP, 1, 1.0, BITS)


def test_the_same_weights_have_the_same_noise_and_others_another() -> None:
    """Else the difference of two scores by nearly the same weights would be bare."""
    assert np.array_equal(words(1), words(1))
    assert np.abs((words(1) - words(2)).view(np.int64)).min() > 0
    assert not np.array_equal(words(1), words(None))


def test_without_noise_half_a_unit_of_a_rounded_score_is_left() -> None:
    """Nobody rounds such a score before the label party has it."""
    assert not words(None, score_noise=0.0).any()
    found = np.abs(words(1, score_noise=0.0).view(np.int64)) / 2.0**BITS
    assert 2.0**-18 < found.max() <= 2.0**-17
