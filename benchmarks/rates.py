"""`python -m benchmarks rates FOLDER ...`: how near a job without any word on its training comes to the optimum.

Ten tables of statsmodels and ISLP, whose columns go to two parties in turn; the fixed-point oracle, which a joint run
equals bit for bit, noise included; and the converged optimum over the same encoded columns by scikit-learn. The
folders are where these packages are installed or unpacked: nothing of them is run.
"""

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import GammaRegressor, LinearRegression, LogisticRegression, PoissonRegressor

from tercet.agents.evaluation.metrics import metrics
from tercet.mpc.arithmetic.fixed import Floats, decode, encode_features
from tercet.mpc.functions.links import LINKS
from tercet.mpc.plan.defaults import auto_batch, auto_rate
from tercet.mpc.plan.plan import Plan, PlanRefused, Request
from tercet.mpc.plan.planner import make_plan, public_norm
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.reference import linear as reference
from tercet.schemas.files.job import Training, usual_epochs
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.entropy import record_bits
from tercet.tables.encoding.label import LabelScaling

Rows = NDArray[np.bool_]
HOLDOUT = 0.2
SCALINGS: dict[str, Callable[[Floats, str], LabelScaling]] = {
    "linear": LabelScaling.fit,
    "poisson": LabelScaling.fit_counts,
    "gamma": LabelScaling.fit_log,
}


class Case(NamedTuple):
    """A table and what is predicted of it; columns in `left_out` would give it away, or number the rows."""

    path: str
    link: str
    label: str
    left_out: tuple[str, ...] = ()
    positive: Callable[[str], bool] = lambda text: text in {"Yes", "MM"}
    delimiter: str = ","


CASES = {  # chosen by name, before any of them was trained on
    "Default": Case("ISLP/data/Default.csv", "logistic", "default"),
    "Caravan": Case("ISLP/data/Caravan.csv", "logistic", "Purchase"),
    "OJ": Case("ISLP/data/OJ.csv", "logistic", "Purchase"),
    "fair": Case("statsmodels/datasets/fair/fair.csv", "logistic", "affairs", positive=lambda text: float(text) > 0),
    "randhie": Case("statsmodels/datasets/randhie/randhie.csv", "poisson", "mdvis"),
    "Bikeshare": Case("ISLP/data/Bikeshare.csv", "poisson", "bikers", ("casual", "registered")),
    "Wage": Case("ISLP/data/Wage.csv", "linear", "wage", ("logwage",)),
    "Credit": Case("ISLP/data/Credit.csv", "linear", "Balance", ("ID",)),
    "anes96": Case("statsmodels/datasets/anes96/anes96.csv", "softmax", "PID", delimiter="\t"),
    "College": Case("ISLP/data/College.csv", "gamma", "Apps"),
}


class Data(NamedTuple):
    """Two parties' columns, and a label as its party holds it: 0 and 1, the number of a class, or its own unit."""

    tables: tuple[Table, ...]
    label: Floats
    link: str


def read(case: Case, path: Path) -> Data:
    """Read a file: columns of numbers are numeric, others categorical, and go to the parties in turn."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=case.delimiter, quotechar="'" if case.delimiter == "\t" else '"'))
    texts = {name: [row[name] for row in rows] for name in rows[0] if name not in {case.label, *case.left_out}}
    label = [row[case.label] for row in rows]
    if case.link == "logistic":
        y = np.array([float(case.positive(text)) for text in label])
    elif case.link == "softmax":
        y = np.unique(label, return_inverse=True)[1].astype(np.float64)
    else:
        y = np.array(label, np.float64)
    names = list(texts)
    return Data(tuple(_table({name: texts[name] for name in names[party::2]}) for party in range(2)), y, case.link)


def _table(columns: dict[str, list[str]]) -> Table:
    numeric: dict[str, Floats] = {}
    categorical: dict[str, Any] = {}
    for name, texts in columns.items():
        try:
            numeric[name] = np.array(texts, np.float64)
        except ValueError:
            categorical[name] = np.array(texts, np.object_)
    return Table("table", len(next(iter(columns.values()))), tuple(columns), numeric, categorical)


def rows_of(table: Table, rows: Rows) -> Table:
    """Some rows."""
    numeric = {name: values[rows] for name, values in table.numeric.items()}
    categorical = {name: values[rows] for name, values in table.categorical.items()}
    return Table(table.name, int(rows.sum()), table.columns, numeric, categorical)


class Fit(NamedTuple):
    """What a training came to, or the optimum: mean loss of training rows, and metrics of those held out."""

    loss: float
    metrics: dict[str, float]


class Measured(NamedTuple):
    """One table, in one split and order."""

    rows: int
    columns: int
    plan: Plan
    found: Fit
    best: Fit
    constant: float  # the loss of the best constant
    refusal: str  # why the planner would refuse the job unless its parties accept narrow data

    @property
    def excess(self) -> float:
        """By which part the loss is above the optimum's."""
        return self.found.loss / self.best.loss - 1.0

    @property
    def within(self) -> bool:
        """Whether it comes within 1 % of the optimum's loss, or within 0.005 of its AUC."""
        auc = self.best.metrics.get("auc")
        return self.excess <= 0.01 or (auc is not None and self.found.metrics["auc"] >= auc - 0.005)


def measure(data: Data, seed: int, training: Training | None = None) -> Measured:
    """Train by the oracle as a job would that says nothing of its training, and compare with the optimum."""
    rng, training = np.random.default_rng(seed), training or Training(epochs=usual_epochs(data.link))
    held_out = rng.random(len(data.label)) < HOLDOUT
    rows, link = int((~held_out).sum()), LINKS[data.link]
    encodings = [_encoding(table, ~held_out) for table in data.tables]
    scaling = SCALINGS[data.link](data.label[~held_out], "table") if data.link in SCALINGS else None
    outputs = int(data.label.max()) + 1 if link.classes else 1
    y = link.centre(data.label if scaling is None else scaling.apply(data.label), outputs)
    bits = [record_bits(e, iter([rows_of(t, ~held_out)])) for e, t in zip(encodings, data.tables, strict=True)]
    columns = tuple(len(encoding.names) for encoding in encodings)
    batch = auto_batch(rows) if isinstance(training.batch, str) else training.batch
    rate = training.rate
    if isinstance(rate, str):
        spreads = [encoding.spread for encoding in encodings]
        rate = auto_rate(data.link, spreads, columns_per_row=sum(columns) / batch, hidden=False)
    request = Request(
        model=data.link,
        rows=rows,
        columns=columns,
        batch=batch,
        epochs=training.epochs,
        rate=rate,
        schedule=training.schedule,
        decay=training.decay,
        held_out=int(held_out.sum()),
        scorings=1,
        outputs=outputs,
        bits=tuple(each.collision for each in bits),
        record_bits=tuple(each.record for each in bits),
    )
    plan, refusal = _plan(request)
    xs = [
        encode_features(encoding.apply(table), public_norm(len(encoding.names)), plan.fx)
        for encoding, table in zip(encodings, data.tables, strict=True)
    ]
    order = Order(rng.bytes(32), rows)
    model = reference.release(reference.train([x[~held_out] for x in xs], y[~held_out], plan, order), plan)
    whole = np.hstack([decode(x, plan.fx) for x in xs])
    best = optimum(data.link, whole[~held_out], data.label[~held_out] if scaling is None else y[~held_out, 0])
    fits = []
    for weights, intercept in ((np.vstack(model.blocks), model.intercept), best):
        scores = whole @ weights + intercept
        loss = link.loss(scores[~held_out], y[~held_out]) / rows
        fits.append(Fit(loss, _metrics(data, scores[held_out], held_out, scaling)))
    constant = link.constant_loss(y[~held_out], y[~held_out])
    return Measured(rows, whole.shape[1], plan, fits[0], fits[1], constant, refusal)


def _encoding(table: Table, rows: Rows) -> Encoding:
    return Encoding.fit(lambda: iter([rows_of(table, rows)]), clip=16.0, rare=0, whiten=True)


def _plan(request: Request) -> tuple[Plan, str]:
    try:
        return make_plan(request), ""
    except PlanRefused as refused:
        return make_plan(request.__class__(**_fields(request) | {"accept_narrow": True})), refused.reason


def _fields(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__dataclass_fields__}


def _metrics(data: Data, scores: Floats, held_out: Rows, scaling: LabelScaling | None) -> dict[str, float]:
    labels = data.label[held_out] - (0.5 if data.link == "logistic" else 0.0)
    if data.link == "softmax":
        return metrics(data.link, labels, scores)
    return metrics(data.link, labels, scores[:, 0] if scaling is None else scaling.restore(scores[:, 0]))


def optimum(link: str, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Weights (columns, outputs) and intercept without a penalty, where scikit-learn converges to."""
    if link in {"logistic", "softmax"}:
        model = LogisticRegression(C=np.inf, max_iter=2000, tol=1e-6).fit(x, y)
        return model.coef_.T, model.intercept_[np.newaxis]
    made = {
        "linear": LinearRegression(),
        "poisson": PoissonRegressor(alpha=0, max_iter=2000, tol=1e-6),
        "gamma": GammaRegressor(alpha=0, max_iter=2000, tol=1e-6),
    }[link].fit(x, y)
    return made.coef_[:, np.newaxis], np.array([[made.intercept_]])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all ten tables, in some splits each, and print one JSON object a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks rates", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="where the packages ISLP and statsmodels are")
    parser.add_argument("--seeds", type=int, default=3, help="splits and orders")
    options = parser.parse_args(arguments)
    for name, case in CASES.items():
        found = [folder / case.path for folder in options.folders if (folder / case.path).is_file()]
        if not found:
            print(json.dumps({"table": name, "missing": case.path}), flush=True)
            continue
        runs = [measure(read(case, found[0]), seed) for seed in range(options.seeds)]
        print(json.dumps({"table": name, "link": case.link, **summary(runs)}), flush=True)


def summary(runs: Sequence[Measured]) -> dict[str, Any]:
    """Means over runs, and how many are within the bounds."""
    first = runs[0]
    name = next(name for name in ("auc", "d2", "r2") if name in first.best.metrics)
    request = first.plan.request
    losses = [(run.found.loss, run.best.loss, run.constant) for run in runs]
    return {
        "rows": first.rows,
        "columns": first.columns,
        "batch": request.batch,
        "rate": round(request.rate, 4),
        "loss_optimum_constant": np.mean(losses, axis=0).round(4).tolist(),
        "excess_percent": [round(100 * run.excess, 2) for run in runs],
        name: [[round(run.found.metrics[name], 4), round(run.best.metrics[name], 4)] for run in runs],
        "within": sum(run.within for run in runs),
        "refused_unless_narrow_is_accepted": first.refusal,
    }
