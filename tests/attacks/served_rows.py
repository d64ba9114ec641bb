"""The label party asks a partner for one row's score again and again, to average the partner's noise away.

It is given what a partner's agent answers, by the agent's own code. It knows no key of the partner's.
"""

import functools
import secrets
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np

from tercet.agents.serving.partial_scores import PartialScores
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.scoring.scores import decode_scores, encode_scores
from tercet.schemas.files.policy import PolicySettings

ROWS, ASKED = 200, 400
NEAR: Final = 1 / 8  # of the noise: how near the attack has to come to a part
WIDTH: Final = PolicySettings().score_noise


def partner(width: float = WIDTH, key: bytes | None = None) -> PartialScores:
    """A partner's answers, by a key of its own, with noise of a width; without another partner."""
    settings: Any = SimpleNamespace(party="card", policy=PolicySettings(score_noise=width))
    part: Any = SimpleNamespace(outputs=1, party="card", digest=bytes(32))
    nothing = cast("Any", None)
    return PartialScores(
        settings, part, nothing, key=key or secrets.token_bytes(32), zero_keys={}, rows=nothing, audit=nothing
    )


@functools.cache
def parts() -> Floats:
    """The partner's parts of the scores of some customers, (rows,)."""
    return np.random.default_rng(0).normal(0, 1, ROWS)


def answers(answering: PartialScores) -> Floats:
    """What it answers for each customer, (rows,)."""
    words = encode_scores(parts()[:, None])
    shares = [answering._answer(b"customer %d" % row, word) for row, word in enumerate(words)]
    return decode_scores(np.stack(shares)[:, :1])[:, 0]


def averaged(protected: bool) -> float:
    """The part of the customers whose part of the score is found; unprotected, each answer has fresh noise."""
    lasting = partner()
    mean = np.mean([answers(lasting if protected else partner()) for _ in range(ASKED)], axis=0)
    return float((np.abs(mean - parts()) < NEAR * WIDTH).mean())


def from_two_widths(*, protected: bool) -> float:
    """The same from two answers between which the partner has doubled its noise; unprotected, by the same draw."""
    key = secrets.token_bytes(32)
    narrow, wide = partner(WIDTH, key), partner(2 * WIDTH, key)
    if not protected:
        wide._purpose = narrow._purpose  # type: ignore[method-assign]
    found = 2 * answers(narrow) - answers(wide)
    return float((np.abs(found - parts()) < NEAR * WIDTH).mean())


def guessed() -> float:
    """What one noised answer says."""
    return NEAR
