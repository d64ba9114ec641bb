"""The label party asks a partner for one row's score again and again, to average the partner's noise away.

It also asks a partner whose budget is used up, to learn from refusals which rows that partner has.
It is given what a partner's agent answers, by the agent's own code. It knows no key of the partner's.
"""

import asyncio
import functools
import secrets
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa

from tercet.agents.alignment.scored_ids import ScoredIds
from tercet.agents.core.problems import JobProblem
from tercet.agents.serving.partial_scores import PartialScores
from tercet.agents.serving.served_rows import DayCount, ServedRows
from tercet.agents.serving.served_table import MISSING, ServedTable
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.scoring.scores import decode_scores, encode_scores
from tercet.schemas.files.policy import PolicySettings
from tercet.tables.matching.pseudonyms import Hashes, pseudonyms

ROWS, FEW, ASKED = 200, 10, 400  # customers, those of whom many answers are asked for, and so many
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


def answers(answering: PartialScores, rows: int = ROWS) -> Floats:
    """What it answers for each of the first customers, (rows,)."""
    words = encode_scores(parts()[:rows, None])
    shares = [answering._answer(b"customer %d" % row, word) for row, word in enumerate(words)]
    return decode_scores(np.stack(shares)[:, :1])[:, 0]


def averaged(protected: bool) -> float:
    """The part of the customers whose part of the score is found; unprotected, each answer has fresh noise.

    Protected, a few answers are as good as many: they are the same, for more customers.
    """
    lasting, (rows, asked) = partner(), (ROWS, 2) if protected else (FEW, ASKED)
    mean = np.mean([answers(lasting if protected else partner(), rows) for _ in range(asked)], axis=0)
    return float((np.abs(mean - parts()[:rows]) < NEAR * WIDTH).mean())


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


def found_by_refusals(folder: Path, *, protected: bool) -> int:
    """Count ids of which a partner without budget tells whether it has them; unprotected, only rows it has count."""
    folder.mkdir()
    key = secrets.token_bytes(32)
    ids = pa.array([f"customer {number}" for number in range(ROWS)], pa.large_string())
    table = ServedTable(ids[::2], encode_scores(parts()[::2, None]), key, 100.0)
    answering = partner()
    answering._table, answering._rows = table, ServedRows(ScoredIds(folder, ("model", ""), bytes(32)), DayCount())
    answering._part.label_party = "bank"
    if not protected:
        count = answering._asked

        def count_those_there(hashes: Hashes) -> Any:
            return count(hashes[table.find(hashes) != MISSING])

        answering._asked = count_those_there  # type: ignore[method-assign]
    refused = np.array([_is_refused(answering, one) for one in pseudonyms(key, ids)[:, None]])
    there = np.arange(ROWS) % 2 == 0
    return int((refused == there).sum()) if refused.any() and not refused.all() else 0


def _is_refused(answering: PartialScores, hashes: Hashes) -> bool:
    try:
        asyncio.run(answering.share(hashes, rescoring=False, most_rows=0))
    except JobProblem:
        return True
    return False
