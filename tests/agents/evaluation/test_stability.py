"""The population stability index is that of its definition, and chance is told from change."""

import math

import numpy as np
import pytest

from tercet.agents.evaluation.stability import Stability, chance_of, stability, stability_index


def by_hand(before: list[int], now: list[int]) -> float:
    """The sum over bins of (a - e) ln(a / e); half a row where one of them is empty."""
    found = 0.0
    for one, other in zip(before, now, strict=True):
        if one or other:
            e, a = (one or 0.5) / sum(before), (other or 0.5) / sum(now)
            found += (a - e) * math.log(a / e)
    return found


def test_it_is_that_of_the_definition() -> None:
    """By a worked example, and by counts out of the air with empty bins on either side and on both."""
    # 10 % against 20 %, 40 against 30, 50 against 50: 0.1 ln 2 + 0.1 ln(4 / 3)
    assert stability_index([10, 40, 50], [40, 60, 100]) == pytest.approx(0.1 * math.log(2) + 0.1 * math.log(4 / 3))
    rng = np.random.default_rng(1)
    for _ in range(50):
        before, now = (np.append(rng.poisson(rng.exponential(3, 11)), 1) for _ in range(2))
        before[:2], now[:3] = [0, 4], [0, 0, 5]
        assert stability_index(before.tolist(), now.tolist()) == pytest.approx(by_hand(before.tolist(), now.tolist()))
    assert stability_index([3, 5], [6, 10]) == 0
    assert stability_index([4, 0], [0, 4]) == pytest.approx(2 * 7 / 8 * math.log(8))


@pytest.mark.parametrize(("bins", "before", "now"), [(10, 20_000, 500), (4, 300, 300)])
def test_chance_is_what_one_of_a_hundred_draws_exceeds(bins: int, before: int, now: int) -> None:
    """Of samples of one population."""
    rng = np.random.default_rng(2)
    shares = np.full(bins, 1 / bins)
    draws = [(rng.multinomial(before, shares).tolist(), rng.multinomial(now, shares).tolist()) for _ in range(2000)]
    exceeding = np.mean([stability_index(*draw) > chance_of(*draw) for draw in draws])
    assert 0.004 < exceeding < 0.02
    assert chance_of([5], [7]) == 0


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        ([5000, 5000], [4500, 5500], "stable"),
        ([5000, 5000], [3000, 7000], "some change"),
        ([5000, 5000], [2000, 8000], "large change"),
        ([5000, 5000], [1, 5], "may be chance: few rows"),
    ],
)
def test_the_verdict_goes_by_the_usual_thresholds(before: list[int], now: list[int], verdict: str) -> None:
    """And by chance, where rows are few; only a large change is to be noted."""
    found = stability("age", ("low", "high"), before, now)
    assert (found.verdict, found.is_large) == (verdict, verdict == "large change")
    assert found.shares[0] == ("low", 0.5, now[0] / sum(now))
    assert isinstance(found, Stability)
