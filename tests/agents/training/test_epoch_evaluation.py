"""Losses, scores of held-out rows, metrics and early stopping of whole jobs are the plaintext run's, to the last bit.

What of them is shown to whom is looked at in test_disclosure.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    d2_tweedie_score,
    log_loss,
    mean_absolute_error,
    mean_tweedie_deviance,
    r2_score,
    roc_auc_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tercet.agents.evaluation.baselines import auc, sgd
from tercet.agents.evaluation.metrics import OF_CLASSES, metrics
from tercet.agents.models import model_part
from tercet.agents.reports.solo_baseline import alone
from tercet.agents.roles.data_party import Trained
from tercet.agents.simulation.simulate import Simulation, bit_exact
from tercet.mpc.arithmetic.fixed import Floats, decode
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.reference import linear as reference
from tercet.schemas.files.job import BLIND_ONLY, METRICS, EarlyStopping, Evaluation
from tercet.schemas.files.settings import Limits
from tercet.schemas.messages.kinds import LossShare, Message
from tests import virtual_time
from tests.agents import world
from tests.agents.oracle import (
    heard,
    held_out_loss_after,
    model_words,
    oracle_losses,
    oracle_scores,
    trained_words,
)
from tests.agents.recording import Ear, Heard, Tables, hear
from tests.agents.world import CLASSES, HELPER, OUTCOME, PERSON, Sample, write_table

SHOWN = [model for model in METRICS if model not in BLIND_ONLY]  # whose scores the helper can see
EACH_EPOCH = Evaluation(holdout=0.35, metrics="epoch", loss=True)
FOR_ALL = EACH_EPOCH.model_copy(update={"loss_to": "all"})
AT_THE_END = Evaluation(holdout=0.3, loss=True)
EVERY_SECOND = Evaluation(holdout=0.35, metrics="epoch", every=2, loss=True)
NO_SCORES = Evaluation(holdout=0.35, held_out_loss=True)  # until the end
BOTH = Evaluation(holdout=0.35, metrics="epoch", loss=True, held_out_loss=True, loss_to="all")


def labels_of(run: Heard) -> Floats:
    """Those of the held-out rows: centred, or numbers of classes, or as they are in the table."""
    role = run.label
    texts = [run.tables[role.context.me][OUTCOME][row] for row in role.own.rows[role.held_out]]
    if run.sample.link in OF_CLASSES:
        return np.array([sorted(CLASSES).index(text) for text in texts], np.float64)
    raw = np.array([float(text) for text in texts])
    return raw - 0.5 if run.sample.link == "logistic" else raw


def reported(run: Heard, scores: Floats) -> Floats:
    """Scores, (rows, outputs), in the label's own terms: (rows,), but for classes."""
    scaling, link = run.labels.scaling, run.sample.link
    if link in OF_CLASSES:
        return scores
    assert (scaling is None) == (link == "logistic")
    return scores[:, 0] if scaling is None else scaling.restore(scores[:, 0])


# --- equality


@st.composite
def samples(draw) -> Sample:
    """Small jobs that evaluate, of every kind."""
    parties = draw(st.sampled_from([2, 3, 5]))
    label = draw(st.integers(0, parties - 1))  # which may have no columns
    return Sample(
        columns=tuple(draw(st.integers(int(party != label), 5)) for party in range(parties)),
        rows=draw(st.integers(60, 160)),
        label=label,
        model=draw(st.sampled_from(SHOWN)),
        batch=draw(st.integers(32, 70)),
        epochs=draw(st.integers(1, 3)),
        rate=draw(st.floats(0.02, 0.05)),
        l2=draw(st.sampled_from([0.0, 0.05])),
        release=draw(st.sampled_from(["owners", "shared"])),
        evaluation=draw(st.sampled_from([EACH_EPOCH, FOR_ALL, AT_THE_END, NO_SCORES, BOTH])),
        seed=draw(st.integers(0, 1000)),
    )


@settings(max_examples=2, deadline=None, derandomize=True)
@given(samples())
@example(Sample((3, 2, 4), label=1, model="linear", evaluation=BOTH, l2=0.05))
@example(Sample((5, 4), label=1, evaluation=BOTH.model_copy(update={"every": 2}), epochs=3, l2=0.05))
@example(Sample((3, 4, 2), label=2, model="gamma", rate=0.03, evaluation=NO_SCORES, l2=0.05))
@example(Sample((3, 4), label=1, model="softmax", evaluation=FOR_ALL, l2=0.05))
@example(Sample((5, 4), label=1, model="poisson", release="shared", evaluation=AT_THE_END, rate=0.03))
def test_losses_and_scores_are_the_oracles(sample):
    """The loss's words add up to the oracle's, at whoever may know it; scores and metrics are equal to the last bit."""
    run = heard(sample)
    check_losses(run)
    check_held_out_losses(run)
    check_scores(run)


def unit_of(run: Heard, role: Trained) -> float:
    """In which a party is told losses: a Poisson deviance in the label's own unit at the label party alone."""
    labels = role.labels
    if labels is None or labels.scaling is None or run.sample.link != "poisson":
        return 1.0
    return labels.scaling.scale


def check_losses(run: Heard) -> None:
    """The opened words, and the mean that each party is told or not."""
    expected, everybody = oracle_losses(run), run.sample.evaluation.loss_to == "all"
    if not run.sample.evaluation.loss:
        assert not any(role.context.history.losses for role in run.roles)
        return
    means = [float(decode(words, run.plan.loss_bits.total)[0, 0]) / run.plan.request.rows for words in expected]
    for role in run.roles:
        knows = role is run.label or everybody
        assert role.context.history.losses == ([mean * unit_of(run, role) for mean in means] if knows else [])
    if everybody:  # else the label party's own share is never sent
        shares: dict[int, dict[str, Words]] = {epoch: {} for epoch in range(len(expected))}
        for (sender, _, epoch, _), words in run.received(LossShare).items():
            shares[epoch][sender] = words
        assert [int(total(shares[epoch].values())[0, 0]) for epoch in shares] == [int(word[0, 0]) for word in expected]


def check_held_out_losses(run: Heard) -> None:
    """The mean that each party is told or not, where the job has it."""
    evaluation, epochs = run.sample.evaluation, range(run.sample.epochs if run.sample.evaluation.held_out_loss else 0)
    found = [held_out_loss_after(run, epoch) for epoch in epochs]
    for role in run.roles:
        knows = role is run.label or evaluation.loss_to == "all"
        assert role.context.history.held_out_losses == ([mean * unit_of(run, role) for mean in found] if knows else [])


def check_scores(run: Heard) -> None:
    """Of each pass; only the label party has any."""
    plan, history, link = run.plan, run.label.context.history, run.sample.link
    each = run.sample.evaluation.metrics == "epoch"
    last_steps = {epoch: (epoch + 1) * plan.steps_per_epoch for epoch in range(run.sample.epochs)}
    scored = run.label.context.description.scored_after
    passes = (
        {e: steps for e, steps in last_steps.items() if scored(e)}
        if each
        else {run.sample.epochs - 1: plan.steps_total}
    )
    scores = {epoch: reported(run, oracle_scores(run, steps, epoch)) for epoch, steps in passes.items()}
    labels = labels_of(run)
    assert history.metrics == {epoch: metrics(link, labels, found) for epoch, found in scores.items()}
    assert history.scores is not None
    assert history.labels is not None
    assert np.array_equal(history.scores, scores[max(scores)])
    assert np.allclose(history.labels, labels, rtol=0, atol=1e-12)
    for role in run.roles:
        if role is not run.label:
            assert (role.context.history.metrics, role.context.history.scores) == ({}, None)


@pytest.mark.parametrize("model", METRICS)
def test_the_metrics_are_scikit_learns_on_plaintext_scores(model, tmp_path):
    """Scores by the released weights of the parties' own tables, without any of the protocol's arithmetic.

    The label party alone is compared by the same metrics.
    """
    sample = Sample((5, 4), rows=300, batch=64, epochs=4, label=1, rate=0.06, model=model, evaluation=AT_THE_END)
    run = hear(sample, tmp_path)
    found, joint = alone(run.label, run.labels), run.label.context.history.last_metrics
    assert found.keys() == joint.keys()
    first = next(iter(METRICS[model]))
    least = 0.0 if model in {"gamma", "tweedie"} else 0.05
    assert least < found[first] < joint[first], "the label party's own columns say as much as everybody's"
    scores = reported(run, plain_scores(run)[run.label.held_out])
    truth, found = labels_of(run), run.label.context.history.last_metrics
    assert set(found) == set(METRICS[model])
    if model in {"poisson", "gamma", "tweedie"}:
        power, means = {"poisson": 1, "gamma": 2, "tweedie": 1.5}[model], np.exp(scores)
        expected = {"mae": mean_absolute_error(truth, means), "rmse": float(np.sqrt(np.mean((truth - means) ** 2)))}
        expected |= {"deviance": mean_tweedie_deviance(truth, means, power=power)}
        expected |= {"d2": d2_tweedie_score(truth, means, power=power)}
    elif model == "linear":
        expected = {"r2": r2_score(truth, scores), "mae": mean_absolute_error(truth, scores)}
        expected |= {"rmse": float(np.sqrt(np.mean((truth - scores) ** 2)))}
    elif model in OF_CLASSES:
        chances = np.exp(scores) if model == "softmax" else expit(scores)
        chances = chances / chances.sum(axis=1, keepdims=True)
        expected = {
            "auc": roc_auc_score(truth, chances, multi_class="ovr"),
            "accuracy": accuracy_score(truth, chances.argmax(axis=1)),
            "balanced_accuracy": balanced_accuracy_score(truth, chances.argmax(axis=1)),
            "log_loss": log_loss(truth, chances),
        }
    else:
        chances = 1 / (1 + np.exp(-scores))
        expected = {
            "auc": roc_auc_score(truth > 0, scores),
            "accuracy": accuracy_score(truth > 0, chances > 0.5),
            "log_loss": log_loss(truth > 0, chances),
        }
    assert max(found.get(name, 0) for name in ("auc", "r2", "d2")) > 0.1, "the model says nothing"
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-3), name


def plain_scores(run: Heard) -> Floats:
    """Of all common rows, in the common order, (rows, outputs), from the released parts."""
    scores = np.zeros((len(run.label.own.rows), run.plan.outputs))
    for role in run.roles:
        folder = run.simulation.runs[role.context.me].model_part
        assert folder is not None
        part, arrays = model_part.load(folder)
        table, at = run.tables[role.context.me], role.own.rows
        raw = np.column_stack([np.array([float(text) for text in table[name]])[at] for name in part.encoding.kinds])
        mean, scale = (np.array([getattr(one, name) for one in part.encoding.columns]) for name in ("mean", "scale"))
        scores += ((raw - mean) / scale) @ arrays["weights"]
        scores += arrays["intercept"] if part.party == part.intercept_holder else 0.0
    return scores


def test_an_encoding_is_fitted_on_the_rows_that_are_trained_on_alone():
    """Means and deviations of those, and the scaling of the label too."""
    run = heard(Sample((4, 3), rows=100, label=1, model="linear", evaluation=AT_THE_END))
    for role in run.roles:
        rows = role.own.rows[~role.held_out]
        for column in role.encoding.columns:
            values = np.array([float(text) for text in run.tables[role.context.me][column.name]])[rows]
            assert (column.mean, column.scale) == pytest.approx((values.mean(), values.std()), rel=1e-9)  # type: ignore[union-attr]
    label = np.array([float(text) for text in run.tables["card"][OUTCOME]])[run.label.own.rows[~run.label.held_out]]
    assert run.labels.scaling is not None
    assert (run.labels.scaling.mean, run.labels.scaling.scale) == pytest.approx((label.mean(), label.std()), rel=1e-9)


# --- early stopping


STOPPING = [
    Sample((6, 5), rows=240, batch=40, epochs=12, rate=0.8, evaluation=NO_SCORES, seed=1, label=1,
           early_stopping=EarlyStopping(on="held_out_loss", patience=2, least_gain=0.02)),
    Sample((6, 5), rows=120, batch=40, epochs=16, rate=0.6, evaluation=EACH_EPOCH, l2=0.05, seed=3, label=1,
           early_stopping=EarlyStopping(on="auc", patience=2), release="shared"),
    Sample((4, 5, 4), rows=150, batch=40, epochs=9, rate=0.2, evaluation=AT_THE_END, l2=0.1,
           early_stopping=EarlyStopping(on="loss", patience=2, least_gain=0.05)),
]  # fmt: skip


@pytest.mark.parametrize("sample", STOPPING, ids=lambda sample: f"{sample.early_stopping.on} {sample.release}")
def test_early_stopping_keeps_the_best_epochs_model_and_ends_everywhere_at_once(sample, tmp_path):
    """As the plaintext's losses and scores would decide; the last epochs have taught nothing to the model."""
    run = hear(sample, tmp_path)
    assert bit_exact(run.simulation)
    check_stopped(run)


def check_stopped(run: Heard) -> int:
    """The model, its scores and the ends; after how many steps it was the best."""
    sample, per_epoch, (best, epochs) = run.sample, run.plan.steps_per_epoch, decided(run)
    steps = (best + 1) * per_epoch
    assert best + 1 < epochs < sample.epochs, "this sample does not show that the best epoch's model is kept"
    assert all(np.array_equal(a, b) for a, b in zip(model_words(run, steps), trained_words(run), strict=True))
    for one in run.simulation.runs.values():
        assert one.context.statistics.step == epochs * per_epoch
        assert not any(one.context.mailbox._parts)
    assert {role.context.history.best_epoch for role in run.roles} == {best}
    epoch = best if sample.evaluation.metrics == "epoch" else sample.epochs - 1
    stored = reported(run, oracle_scores(run, steps, epoch))
    history = run.label.context.history
    assert history.scores is not None
    assert np.array_equal(history.scores, stored)
    assert history.last_metrics == metrics(sample.link, labels_of(run), stored)
    return steps


def test_early_stopping_on_a_metric_looks_where_it_is_known(tmp_path):
    """After every second epoch; those between are neither the best nor without a gain."""
    rule = EarlyStopping(on="auc", patience=1, least_gain=0.5)
    sample = Sample((6, 5), rows=120, epochs=9, rate=0.3, evaluation=EVERY_SECOND, seed=1, early_stopping=rule)
    history = hear(sample, tmp_path).label.context.history
    assert (history.best_epoch, list(history.metrics), len(history.losses)) == (1, [1, 3], 4)


def test_held_out_rows_that_are_never_scored_stop_a_training_by_their_loss(tmp_path):
    """Nobody has a score of them then, and nobody counts them as scored."""
    evaluation = Evaluation(holdout=0.35, metrics="none", held_out_loss=True)
    stopping = EarlyStopping(on="held_out_loss")
    sample = Sample((6, 5), rows=120, epochs=3, rate=0.3, evaluation=evaluation, seed=1, early_stopping=stopping)
    simulation = virtual_time.run(world.run(sample, tmp_path))
    assert simulation.done
    history = simulation.label_run.context.history
    assert (history.metrics, history.scores, history.best_epoch is None) == ({}, None, False)
    assert len(history.held_out_losses) == 3
    assert not [path for path in (tmp_path / "card" / "scored").glob("*") if "sample" in path.name]


def decided(run: Heard) -> tuple[int, int]:
    """The best epoch, and how many epochs there are, by the rule on the oracle's values."""
    rule, plan, link = run.sample.early_stopping, run.plan, run.sample.link
    assert rule is not None
    words = oracle_losses(run) if rule.on == "loss" else []

    def value(epoch: int) -> float:
        if rule.on == "held_out_loss":
            return held_out_loss_after(run, epoch)
        if rule.on == "loss":
            return float(decode(words[epoch], plan.loss_bits.total)[0, 0]) / plan.request.rows
        scores = reported(run, oracle_scores(run, (epoch + 1) * plan.steps_per_epoch, epoch))
        return metrics(link, labels_of(run), scores)[rule.on]

    return first_stop(rule, value, sign=1 if METRICS[link].get(rule.on, False) else -1, epochs=run.sample.epochs)


def first_stop(rule: EarlyStopping, value: Callable[[int], float], *, sign: int, epochs: int) -> tuple[int, int]:
    """The best epoch and how many there are, by values of which more are better, or less if the sign says so."""
    best, most = 0, sign * value(0)
    for epoch in range(1, epochs):
        reached = sign * value(epoch)
        if reached - most > rule.least_gain:
            best, most = epoch, reached
        elif epoch - best == rule.patience:
            return best, epoch + 1
    return best, epochs


def test_early_stopping_on_a_metric_that_the_rows_do_not_define_is_refused():
    """All held-out labels alike: there is no AUC, and nothing to stop by."""
    rule = EarlyStopping(on="auc", patience=2)
    sample = Sample((4, 4), rows=60, epochs=5, evaluation=EACH_EPOCH, early_stopping=rule)
    first = hear_held_out(sample)
    tables = {party: dict(table) for party, table in sample.tables().items()}
    tables["bank"][OUTCOME] = ["1" if held else text for held, text in zip(first, tables["bank"][OUTCOME], strict=True)]
    with pytest.raises(AssertionError, match=r"job\.holdout.*same label"):
        heard(sample, tables)


def test_a_class_that_only_held_out_rows_have_is_a_warning_to_its_party():
    """It has an output, so that its rows can be scored; nothing of it is learnt."""
    sample = Sample((4, 4), rows=90, epochs=1, model="softmax", evaluation=AT_THE_END)
    place = hear_held_out(sample).index(True)
    tables = {party: dict(table) for party, table in sample.tables().items()}
    tables["bank"][OUTCOME] = [*tables["bank"][OUTCOME][:place], "once", *tables["bank"][OUTCOME][place + 1 :]]
    run = heard(sample, tables)
    assert run.labels.classes is not None
    assert run.labels.classes.names == tuple(sorted([*CLASSES, "once"]))
    assert "1 of the label's 5 classes occurs in held-out rows only" in run.label.warnings
    assert not any("classes" in warning for role in run.roles[1:] for warning in role.warnings)
    assert run.label.context.history.last_metrics["balanced_accuracy"] <= 0.8


def hear_held_out(sample: Sample) -> list[bool]:
    """Which rows of the label party's table are held out."""
    role = heard(sample).label
    return [bool(held) for held in role.own.mark_rows(role.held_out)]


# --- alignment


def rearranged(tables: Tables, seed: int, extra: int = 5) -> dict[str, dict[str, list[str]]]:
    """Each party's rows in an order of its own, with some that nobody else has."""
    rng, found = np.random.default_rng(seed), {}
    for party, table in tables.items():
        rows = len(table[PERSON])
        order = rng.permutation(rows + extra)
        more = {name: [*values, *values[:extra]] for name, values in table.items()}
        more[PERSON] = [*table[PERSON], *(f"only at {party} {number}" for number in range(extra))]
        found[party] = {name: [values[row] for row in order] for name, values in more.items()}
    return found


def model_of(run: Heard) -> list[Floats]:
    """Weights and intercept as numbers."""
    model = reference.release(
        reference.train(run.xs, run.y, run.plan, run.order, run.label.shares.step),
        run.plan,
    )
    return [*model.blocks, model.intercept]


def ids_of(run: Heard, number: int) -> list[str]:
    """The common ids at one party, in the common order."""
    role = run.roles[number]
    return [run.tables[role.context.me][PERSON][row] for row in role.own.rows]


@pytest.mark.usefixtures("quiet_noise")
def test_every_way_to_match_rows_gives_the_same_model():
    """In one batch, whose sum does not depend on the order that the parties agree on; equal but for the noise words."""
    runs = {}
    for mode in ("helper", "ecdh", "aligned"):
        sample = Sample((5, 4), rows=100, batch=100, epochs=2, label=1, alignment=mode)
        tables = sample.tables()
        runs[mode] = heard(sample, tables if mode == "aligned" else rearranged(tables, 1))
    for run in runs.values():
        assert ids_of(run, 0) == ids_of(run, 1)
        assert set(ids_of(run, 0)) == set(ids_of(runs["aligned"], 0))
        for one, other in zip(model_of(run), model_of(runs["aligned"]), strict=True):
            assert np.allclose(one, other, rtol=0, atol=1e-4)


def test_neither_the_rows_order_nor_rows_that_others_lack_change_anything():
    """The same rows in the same common order, the same held out, and the same model."""
    sample = Sample((4, 3, 3), rows=100, label=2, evaluation=AT_THE_END, seed=7)
    calm, shuffled = heard(sample), heard(sample, rearranged(sample.tables(), 7))
    for number in range(3):
        assert ids_of(calm, 0) == ids_of(shuffled, number)
    assert np.array_equal(calm.label.held_out, shuffled.label.held_out)
    for one, other in zip(model_of(calm), model_of(shuffled), strict=True):
        assert np.allclose(one, other, rtol=0, atol=1e-3)  # means may differ in their last bit, and then a feature's


def test_others_contributions_hold_out_other_rows(tmp_path):
    """The split follows from the contributions, so that no party chooses it by itself."""
    sample = Sample((4, 3), rows=100, batch=100, epochs=1, evaluation=AT_THE_END)
    marks = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        run = hear(sample, folder, order=seed)
        marks.append(run.label.own.mark_rows(run.label.held_out))
    assert (marks[0] != marks[1]).sum() > 10


# --- missing values and categories that training has not seen


def gaps(rows: int, seed: int) -> dict[str, dict[str, list[str]]]:
    """Two parties' tables with 5 % of all cells blank, and categories of one row each."""
    rng = np.random.default_rng(seed)
    people = [f"customer {number}" for number in rng.permutation(10 * rows)[:rows]]
    numbers = {party: rng.normal(5, 2, (rows, 6)) for party in ("bank", "card")}
    kinds = {party: rng.choice(5, rows, p=[0.4, 0.3, 0.2, 0.06, 0.04]) for party in numbers}
    score = sum((part - 5) / 2 @ rng.normal(0, 0.5, 6) for part in numbers.values()) - 0.5
    score += sum(rng.normal(0, 0.8, 5)[kind] for kind in kinds.values())
    tables = {}
    for party, part in numbers.items():
        category = np.array([f"kind {kind}" for kind in kinds[party]], dtype=object)
        rare = rng.permutation(rows)[:20]
        category[rare] = [f"rare {number}" for number in range(20)]
        columns = {f"quantity_{k}": part[:, k].astype(object) for k in range(6)} | {"category": category}
        for values in columns.values():
            values[rng.random(rows) < 0.05] = ""
        tables[party] = {PERSON: people} | {name: [str(value) for value in values] for name, values in columns.items()}
    tables["bank"][OUTCOME] = [str(int(one)) for one in rng.random(rows) < 1 / (1 + np.exp(-score))]
    return tables


def pooled_auc(run: Heard) -> float:
    """What scikit-learn's preprocessing of all columns in one place and float64 SGD would reach on the same rows.

    Scaled before imputed: a StandardScaler behind the imputer stretches the indicators of rare gaps to unit deviation,
    and SGD then takes steps in them that are twenty times as large.
    """
    held_out, parts = run.label.held_out, []
    for role in run.roles:
        table = run.tables[role.context.me]
        names = [name for name in table if name.startswith("quantity")]
        numbers = np.array([[float(text or "nan") for text in table[name]] for name in names]).T
        whole = np.empty((len(numbers), len(names) + 1), dtype=object)
        whole[:, :-1], whole[:, -1] = numbers, table["category"]
        scaler = make_pipeline(StandardScaler(), SimpleImputer(add_indicator=True))
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        prepared = ColumnTransformer([("n", scaler, slice(0, len(names))), ("c", one_hot, [len(names)])])
        rows = whole[role.own.rows]
        parts.append(prepared.fit(rows[~held_out]).transform(rows).astype(float))
        assert set(rows[held_out, -1]) - set(rows[~held_out, -1]), "no category is unseen"
    x, y = np.hstack(parts), labels_in_order(run)
    fitted = sgd(x[~held_out], y[~held_out], run.label.context.description.training)
    return auc(y[held_out], fitted.scores(x[held_out]))


def labels_in_order(run: Heard) -> Floats:
    """0 and 1, of the common rows."""
    return np.array([float(run.tables["bank"][OUTCOME][row]) for row in run.label.own.rows])


@pytest.mark.parametrize("seed", [3])  # 0 to 3 give 0.0003 at most
def test_gaps_and_unseen_categories_cost_no_accuracy(seed):
    """The held-out AUC is that of pooled preprocessing by scikit-learn and float64 SGD, within 0.002."""
    sample = Sample((7, 7), rows=3000, batch=512, epochs=8, rate=0.5, schedule="inverse-time", decay=0.05,
                    evaluation=AT_THE_END, seed=seed)  # fmt: skip
    run = heard(sample, gaps(sample.rows, seed))
    found = run.label.context.history.last_metrics["auc"]
    assert found > 0.7
    assert abs(found - pooled_auc(run)) < 0.002


def test_everybody_is_done_at_the_same_step_without_a_stop():
    """A rule that always gains ends where the job does, and the last epoch's model is the best."""
    rule = EarlyStopping(on="loss", patience=1)
    run = heard(Sample((5, 4, 4), rows=120, epochs=3, rate=0.05, evaluation=AT_THE_END, early_stopping=rule))
    assert {one.context.statistics.step for one in run.simulation.runs.values()} == {run.plan.steps_total}
    assert run.label.context.history.best_epoch == 2
    assert run.simulation.runs[HELPER].context.history.losses == []


# --- losses over enough rows


@pytest.mark.parametrize(
    ("model", "evaluation", "words"),
    [
        ("logistic", Evaluation(loss=True), "training loss .* of each label value, .*leave loss out"),
        ("softmax", Evaluation(loss=True), "training loss .* of each label value"),
        (
            "logistic",
            Evaluation(holdout=0.15, held_out_loss=True),
            "held-out loss .*leave held_out_loss out .*hold out",
        ),
        ("linear", Evaluation(holdout=0.15, held_out_loss=True), "held-out loss .* fewer than 32 rows,"),
    ],
)
def test_a_loss_over_a_few_rows_of_a_label_value_is_refused_before_anything_leaves(model, evaluation, words, tmp_path):
    """From the losses of two epochs with one row of a value that row's score could be worked out."""
    sample = Sample((5, 4), rows=90, label=1, model=model, evaluation=evaluation)
    tables = sample.tables()
    if model == "logistic":
        tables["card"][OUTCOME] = ["1" if row % 9 == 0 else "0" for row in range(90)]
    simulation, said = alone_in_a_loss(sample, tmp_path, tables)
    failure = simulation.label_run.failure
    assert failure is not None
    assert (failure.code, failure.culprit) == ("table.few-labels", "card")
    assert re.search(words, failure.reason)
    assert not any("words" in type(message).model_fields for message in said), "a share has left"


def test_a_loss_over_enough_rows_of_each_label_value_is_opened(tmp_path):
    """32 of the rarer one do."""
    sample = Sample((5, 4), rows=90, label=1, evaluation=Evaluation(loss=True))
    tables = sample.tables()
    tables["card"][OUTCOME] = ["1" if row < 32 else "0" for row in range(90)]
    simulation, _ = alone_in_a_loss(sample, tmp_path, tables)
    assert simulation.done
    assert len(simulation.label_run.context.history.losses) == sample.epochs


def alone_in_a_loss(sample: Sample, folder: Path, tables: Tables) -> tuple[Simulation, list[Message]]:
    """A run with the limits that a settings file has at least, and all that was said."""
    ear, settings = Ear(), sample.settings(folder)
    for party, table in tables.items():
        write_table(folder / f"{party}.csv", table)
    bounded = {
        party: own.model_copy(update={"limits": Limits(min_rows=1, min_scored_rows=1)})
        for party, own in settings.items()
    }
    simulation = virtual_time.run(world.run(sample, folder, settings=bounded, tap=ear.tap))
    return simulation, [message for _, message in ear.said]


def test_no_settings_file_lowers_the_bound():
    """It is the other parties whom it protects."""
    with pytest.raises(ValueError, match="greater than or equal to 32"):
        Limits(min_loss_rows=31)
    assert Limits(min_loss_rows=100).min_loss_rows == 100
