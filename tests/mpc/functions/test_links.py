"""Every link on real tables: bit for bit the oracle, within 1e-4 of float64 SGD, close to scikit-learn's optimum."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits, load_iris, load_wine
from sklearn.linear_model import GammaRegressor, LogisticRegression, PoissonRegressor

from tercet.mpc.arithmetic.fixed import Floats, clip_rows, encode_features
from tercet.mpc.functions.links import LINKS
from tercet.mpc.linear.loss import opened_loss
from tercet.mpc.plan.plan import Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.reference.linear import Model, losses, release, train, train_float
from tests.mpc.world import Job, World, keyed, quiet, same


class Case(NamedTuple):
    """A table, and what a job on it asks for."""

    model: str
    x: Floats  # standardised
    y: Floats  # (rows,), as the label party holds it
    batch: int
    epochs: int
    rate: float
    l2: float = 0.0
    decay: float = 0.0


def standardised(x: Floats) -> Floats:
    """Without columns that are constant."""
    varying = x[:, x.std(axis=0) > 0]
    return np.asarray((varying - varying.mean(axis=0)) / varying.std(axis=0))


def counts(rows: int = 3000) -> tuple[Floats, Floats]:
    """Visits to a doctor, made up: overdispersed, many zeros, columns that are correlated."""
    rng = np.random.default_rng(7)
    common = rng.normal(size=(rows, 1))
    x = 0.6 * common + rng.normal(size=(rows, 24)) * rng.uniform(0.5, 2.0, 24)
    x[:, ::4] = x[:, ::4] > 0.5
    x = standardised(x)
    mean = np.exp(0.4 + x @ rng.normal(size=24) * 0.12)
    return x, rng.poisson(mean * rng.gamma(4.0, 0.25, rows)).astype(np.float64)


def case(name: str, **changes: Any) -> Case:
    """One of the tables below."""
    match name:
        case "wine":
            x, y = load_wine(return_X_y=True)
            found = Case("softmax", standardised(x), y.astype(np.float64), 32, 40, 0.1)
        case "iris":
            x, y = load_iris(return_X_y=True)
            found = Case("softmax", standardised(x), y.astype(np.float64), 32, 60, 0.1)
        case "digits":
            x, y = load_digits(return_X_y=True)
            found = Case("softmax", standardised(x), y.astype(np.float64), 128, 8, 0.1)
        case "counts":
            found = Case("poisson", *counts(), 256, 20, 0.03)
        case _:
            x, y = load_diabetes(return_X_y=True)
            found = Case("gamma", standardised(x), y / y.mean(), 32, 30, 0.03)
    return found._replace(**changes)


def job_of(one: Case, parties: int = 2, label: int = 0) -> Job:
    """Its columns dealt out to the parties."""
    blocks = np.array_split(one.x, parties, axis=1)
    outputs = int(one.y.max()) + 1 if one.model == "softmax" else 1
    plan = make_plan(
        Request(
            one.model, len(one.x), tuple(block.shape[1] for block in blocks), one.batch, one.epochs, one.rate,
            "inverse-time" if one.decay else "constant", one.decay, one.l2, accept_narrow=True, outputs=outputs,
        )
    )  # fmt: skip
    plan.check_labels(one.y)
    xs = [encode_features(block, norm, plan.fx) for block, norm in zip(blocks, plan.norms, strict=True)]
    clipped = [clip_rows(np.clip(block, -16, 16), norm) for block, norm in zip(blocks, plan.norms, strict=True)]
    return Job(plan, label, clipped, xs, LINKS[one.model].centre(one.y, outputs), Order(b"k" * 32, len(one.x)))


def distance(a: Model, b: Model) -> float:
    """The largest between two weights."""
    pairs = zip((*a.blocks, a.intercept), (*b.blocks, b.intercept), strict=True)
    return max(float(np.abs(one - other).max()) for one, other in pairs)


@pytest.mark.parametrize("name", ["wine", "iris", "digits", "counts", "diabetes"])
def test_a_model_of_a_real_table_is_within_a_ten_thousandth_of_float64_sgd(name):
    """Same rows, same order, same rates; the oracle's model, which the joint run equals to the last bit."""
    job = quiet(job_of(case(name)))
    assert distance(release(train(job.xs, job.y, job.plan, job.order), job.plan),
                    train_float(job.x, job.y, job.plan, job.order)) < 1e-4  # fmt: skip


@pytest.mark.parametrize(("name", "parties", "label"), [("wine", 3, 1), ("counts", 2, 1), ("diabetes", 3, 2)])
def test_the_joint_run_on_a_real_table_equals_the_oracle(name, parties, label):
    """Model and every epoch's loss, which falls."""
    job = job_of(case(name, epochs=6), parties, label)
    world = World(job, loss_masks=keyed(purpose="loss")).run(3)
    assert same(world.weights(), train(job.xs, job.y, job.plan, job.order))
    shares = [[party.share(epoch) for party in world.losses] for epoch in range(6)]
    plain = losses(job.xs, job.y, job.plan, job.order)
    opened = [opened_loss(each, job.plan) for each in shares]
    assert opened == [opened_loss([words], job.plan) for words in plain]
    assert opened[0] > opened[1] > opened[-1] > 0


def optimum(one: Case) -> tuple[Floats, Floats]:
    """scikit-learn's weights, (columns, outputs), and intercept, for the same penalty."""
    match one.model:
        case "softmax":
            model = LogisticRegression(C=1 / (one.l2 * len(one.y)), tol=1e-10, max_iter=5000).fit(one.x, one.y)
            return model.coef_.T, model.intercept_
        case "poisson":
            model = PoissonRegressor(alpha=one.l2, tol=1e-10, max_iter=5000).fit(one.x, one.y)
        case _:
            model = GammaRegressor(alpha=one.l2, tol=1e-10, max_iter=5000).fit(one.x, one.y)
    return model.coef_[:, np.newaxis], model.intercept_


@pytest.mark.parametrize(
    ("name", "epochs", "rate", "decay", "l2"),
    [("wine", 200, 0.4, 0.003, 0.03), ("counts", 30, 0.05, 0.02, 0.02), ("diabetes", 100, 0.1, 0.01, 0.1)],
)
def test_a_long_run_comes_close_to_the_converged_optimum(name, epochs, rate, decay, l2):
    """With a penalty and a rate that falls; what is left is the noise of batches."""
    one = case(name, epochs=epochs, rate=rate, decay=decay, l2=l2)
    job = job_of(one)
    found = release(train(job.xs, job.y, job.plan, job.order), job.plan)
    x, blocks = np.hstack(job.x), np.concatenate(found.blocks)
    weights, intercept = optimum(one._replace(x=x))

    def objective(w, w0):
        return job.plan.link.loss(x @ w + w0, job.y) / len(x) + l2 / 2 * float((w * w).sum())

    assert np.abs(blocks - weights).max() < (0.04 if job.plan.outputs > 1 else 0.02)
    least = objective(weights, intercept)
    assert least < objective(blocks, found.intercept) < least + 5e-4
    assert least < 0.95 * objective(np.zeros_like(blocks), np.zeros_like(found.intercept))
