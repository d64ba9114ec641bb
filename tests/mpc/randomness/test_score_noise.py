"""What is told under noise is told roughly, and never twice under the same."""

import numpy as np

from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.randomness.score_noise import SPREAD_NOISE, spread_noise


def test_noise_on_a_mean_cosine_is_uniform_within_its_bounds() -> None:
    """Of each layer by its own scale and bits."""
    weights, bits = np.array([3.0, 500.0]), [30, 20]
    words = np.concatenate([spread_noise(weights, bits) for _ in range(400)])
    of_a_mean = np.stack([decode(words[:, k], bits[k]) / weights[k] for k in range(2)])
    assert len(np.unique(of_a_mean)) > 750
    assert np.abs(of_a_mean).max() <= SPREAD_NOISE
    assert np.abs(of_a_mean).max(axis=1).min() > 0.97 * SPREAD_NOISE
    assert np.abs(of_a_mean.mean(axis=1)).max() < 0.2 * SPREAD_NOISE
    assert abs(np.corrcoef(of_a_mean)[0, 1]) < 0.25
