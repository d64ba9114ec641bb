"""The attacks of parties that lie, and of a label party that asks again and again, as rows of `make attacks`.

Each is a function from whether the protection is there to the part that is read; it reads what its party would have.
"""

import functools

import numpy as np

from tercet.agents.core.problems import JobProblem
from tercet.agents.policy.budget import Budget
from tercet.agents.policy.budget_file import Spending
from tercet.agents.policy.check import check_policy
from tercet.agents.policy.exposure import exposures
from tercet.mpc.linear.helper import Diverged
from tests.agents.policy.test_check import KEYS, announcing, settings_of
from tests.agents.policy.test_settings_rules import table
from tests.agents.scenes import CARD, prediction
from tests.attacks import lying_helper
from tests.attacks.lying_label_party import Scene

LIE, ENORMOUS, ASKED = 4.0, 200.0, 500


@functools.cache
def scene() -> Scene:
    """A trained model, and people whom it scores."""
    return Scene()


def two_openings(protected: bool) -> float:
    """Values of a partner's column, from two predictions of the same people; the weights are opened falsely in one.

    With the protection the lie of the first prediction is in the second too.
    """
    lies = (LIE, LIE) if protected else (0.0, LIE)
    one, other = (scene().predict(run, once=protected, lie=lie) for run, lie in enumerate(lies, 1))
    return scene().read((other - one) / LIE)


def guessed() -> float:
    """Values that one guess for all of them reads."""
    return scene().guessed()


def enormous_lie(protected: bool) -> float:
    """The same from one prediction, beside a constant that makes all else of a score small."""
    try:
        scores = scene().predict(1, once=True, lie=ENORMOUS, limit=scene().limit if protected else np.inf)
    except Diverged:
        return 0.0
    return scene().read(scores / ENORMOUS)


def asked_again(protected: bool) -> float:
    """Predictions that are let through of 500, where four scorings are allowed; the first version counted none."""
    settings, budget, passed = table(max_total_scorings=4)(settings_of(CARD)), Budget(), 0
    for run in range(ASKED):
        job = announcing(prediction("credit-01234567")).model_copy(update={"run": run.to_bytes(32, "big")})
        try:
            check_policy(job, settings, KEYS[CARD], budget if protected else Budget())
        except JobProblem:
            continue
        passed += 1
        for amounts in exposures(job.description, settings).values():
            place = job.description.table_of(CARD), job.description.label
            budget.spend(Spending(job.id, job.run.hex(), *place, dict(amounts)))
    return passed / ASKED


@functools.cache
def dealt_to(checks: int) -> lying_helper.Scene:
    """An epoch over a partner's yes/no columns, whose helper deals two shares wrongly."""
    return lying_helper.scene(1, checks)


def dealt_wrongly(protected: bool) -> float:
    """Rows of an epoch of which a helper has read all six columns."""
    outcome = lying_helper.attacked(dealt_to(2 if protected else 0), *lying_helper.EPOCH)
    return outcome.part


def most_frequent() -> float:
    """Rows that have the most frequent pattern of those columns."""
    return dealt_to(0).guess
