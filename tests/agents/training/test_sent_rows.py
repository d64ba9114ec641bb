"""The key of the masks on a party's rows is the run's, and no two tables have one."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tercet.agents.session.agreed import TrainingContext
from tercet.agents.training.sent_rows import SLICE, row_key, row_masks
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.interface.feature_source import ArrayFeatures
from tests.mpc.blind.test_joint import SMALL
from tests.mpc.world import make_job

ROWS = SLICE + 3


def words(changed: int | None = None) -> Words:
    """Rows of a table, one of which may be another one."""
    found = np.random.default_rng(0).integers(0, 2**20, (ROWS, 2), dtype=np.uint64)
    if changed is not None:
        found[changed, 1] += np.uint64(1)
    return found


def labels(changed: int | None = None) -> Floats:
    """Likewise."""
    found = np.random.default_rng(1).normal(size=(ROWS, 1))
    if changed is not None:
        found[changed] = -found[changed]
    return found


S = words()[:3]  # which makes check columns


def context_of(run_digest: bytes, **fields: Any) -> TrainingContext:
    """What there is of a job here."""
    return cast(TrainingContext, SimpleNamespace(session=SimpleNamespace(run_digest=run_digest), **fields))


def key(
    rows: Words | None = None, y: Floats | None = None, s: Words = S, private: bytes = b"p" * 32, **changed: Any
) -> bytes:
    """The key in a job like this."""
    job = {"run_digest": b"r" * 32, "shape_digest": b"s" * 32} | changed
    context = context_of(job.pop("run_digest"), **job)
    features = ArrayFeatures(words() if rows is None else rows)
    return row_key(context, private, features, s, labels() if y is None else y)


OTHERS: dict[str, dict[str, Any]] = {
    "first row": {"rows": words(0)},
    "last row": {"rows": words(ROWS - 1)},
    "rows in another order": {"rows": words()[::-1].copy()},
    "check columns": {"s": S + np.uint64(1)},
    "label": {"y": labels(ROWS - 1)},
    "what the party alone has": {"private": b"q" * 32},
    "run": {"run_digest": b"R" * 32},
    "sizes or plan": {"shape_digest": b"S" * 32},
}


@pytest.mark.parametrize("other", OTHERS)
def test_no_two_tables_and_no_two_runs_have_one_key(other: str) -> None:
    """A single word decides: else the difference of what was sent would be that of two tables."""
    assert key(**OTHERS[other]) != key()


def test_every_attempt_of_a_run_has_the_same_masks() -> None:
    """Whoever helps, and as often as they are asked for."""
    step = next(make_job(SMALL).plan.steps())
    attempts = [context_of(b"r" * 32, attempt=n, helper=f"h{n}") for n in (1, 2)]
    some, again = (row_masks(one, "bank", key())("U", 0, 0, step, (9, 2)) for one in attempts)
    assert np.array_equal(some, again)
