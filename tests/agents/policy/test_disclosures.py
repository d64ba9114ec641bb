"""The table of who learns what has a row for each thing that a job tells, and no row that no job tells."""

from typing import Any

import pytest

from tercet.agents.policy.disclosure_table import DISCLOSURES, Disclosure
from tercet.agents.policy.disclosures import disclosures, revelations
from tercet.agents.policy.known_job import AppliedModel, Case, JobFacts
from tercet.schemas.files.job import EarlyStopping, EncodedColumns, Evaluation, Network, Privacy, Training
from tests.agents.scenes import BANK, CARD, NOTARY, job, prediction, statistics

SCORED = Evaluation(holdout=0.2, metrics="epoch", split="spring", held_out_scores=True)
SPLIT = Evaluation(holdout=0.2, split="spring")
SHOWN = Privacy(helper_sees="scores")
BY_DATE = Evaluation(holdout_column="applied_on", holdout_from="2026-06-01")
LOSSES = Evaluation(holdout=0.2, loss=True, held_out_loss=True, loss_to="all")
CASES: list[tuple[Any, JobFacts]] = [
    (job(privacy=Privacy()), JobFacts(columns={BANK: 0, CARD: 6})),
    (job(privacy=SHOWN), JobFacts()),
    (job(privacy=SHOWN, evaluation=Evaluation(folds=5)), JobFacts()),
    (job(model="poisson", evaluation=LOSSES, alignment="aligned", privacy=SHOWN), JobFacts()),
    (
        job(
            model="gamma",
            evaluation=SCORED,
            alignment="ecdh",
            release="label",
            privacy=SHOWN,
            encoding=EncodedColumns(woe="counts-01234567"),
        ),
        JobFacts(),
    ),
    (job(model="gamma", privacy=Privacy()), JobFacts()),
    (job(model="one-vs-rest", privacy=Privacy()), JobFacts()),
    (job(model="softmax", early_stopping=EarlyStopping(on="loss"), evaluation=LOSSES, release="shared"), JobFacts()),
    (job(model="mlp", network=Network(hidden=(4,), output="softmax"), accept_narrow=True), JobFacts()),
    (job(model="mlp", network=Network(hidden=(4,)), privacy=Privacy()), JobFacts()),
    (job(training=job().training.model_copy(update={"rate": "auto"}), standby=("notary2",)), JobFacts()),
    (job(evaluation=BY_DATE), JobFacts()),
    (job(privacy=Privacy()), JobFacts(serving=True)),
    (prediction("credit-1"), JobFacts()),
    (job(start="first-12345678", evaluation=SCORED, privacy=SHOWN), JobFacts()),
    (job(start="first-12345678", release="label"), JobFacts()),
    (statistics(woe=True, correlations="pairs"), JobFacts()),
    (statistics(correlations="label"), JobFacts()),
    (statistics(woe=True).model_copy(update={"model": "linear"}), JobFacts()),
    (statistics().model_copy(update={"model": "softmax", "evaluation": BY_DATE}), JobFacts()),
    (job(model="poisson", exposure="years", privacy=Privacy()), JobFacts()),
    (job(model="poisson", training=Training(weights="sampled"), privacy=Privacy()), JobFacts()),
    (job(training=Training(class_weights=(("no", 1.0), ("yes", 4.0))), privacy=Privacy()), JobFacts()),
]


def reported(description: Any, known: JobFacts) -> list[Disclosure]:
    """The rows that hold for a job."""
    return list(disclosures(Case(description, known)))


def test_every_row_is_told_by_some_job() -> None:
    """A condition that is never true would hide what is told."""
    reached = {row.what for case in CASES for row in reported(*case)}
    assert {row.what for group in DISCLOSURES for row in group.rows} == reached


@pytest.mark.parametrize("case", CASES)
def test_no_blank_is_left_in_a_sentence(case: tuple[Any, JobFacts]) -> None:
    """And whoever learns has a name."""
    for one in revelations(*case):
        assert not {*"{}"} & {*str(one)}
        assert one.party


def test_the_helper_sees_held_out_rows_that_are_scored() -> None:
    """In a pass like one of a batch, whether or not a loss is opened too."""
    sees = f"{NOTARY} learns of held-out rows what it sees of a batch (protection: what protects a batch)"
    assert sees in list(map(str, revelations(job(evaluation=SCORED, privacy=SHOWN))))
    unscored = Evaluation(holdout=0.2, metrics="none")
    assert sees not in list(map(str, revelations(job(evaluation=unscored, privacy=SHOWN))))
    assert sees not in list(map(str, revelations(job(evaluation=SCORED, privacy=Privacy()))))


@pytest.mark.parametrize("model", ["logistic", "linear", "poisson", "gamma", "mlp"])
def test_a_blind_job_shows_the_helper_no_score(model: str) -> None:
    """Whatever else it asks for; a helper that is told more by another mode is told so there."""
    network = Network(hidden=(4,)) if model == "mlp" else None
    everything: dict[str, Any] = {
        "evaluation": LOSSES, "accept_narrow": True, "release": "label", "network": network,
    }  # fmt: skip
    lines = helpers_lines(job(model=model, privacy=Privacy(), **everything), JobFacts(exposed="few"))
    assert lines == [
        f"{NOTARY} learns how many ids each party has (protection: pseudonyms, new in each run)",
        f"{NOTARY} learns how many ids are in which parties' tables (protection: pseudonyms, new in each run)",
        f"{NOTARY} learns in which order rows are used, by number (protection: no id or value with a number)",
        f"{NOTARY} learns how many steps are done",
    ]
    reported_more = helpers_lines(job(model=model, privacy=SHOWN, **everything), JobFacts(exposed="few"))
    assert any("score" in line for line in reported_more)


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("blind", [True, False])
def test_a_prediction_by_a_blind_model_shows_the_helper_no_score(blind: bool, hidden: bool) -> None:
    lines = helpers_lines(prediction("credit-1"), JobFacts(model=AppliedModel("logistic", "shared", hidden, blind)))
    assert any("score" in line for line in lines) != blind
    assert any("elements of hidden layers" in line for line in lines) == (hidden and not blind)


def test_statistics_of_an_amount_promise_rows_and_no_class() -> None:
    """Its minimum is of rows, and the label party may choose few of them by their labels."""
    lines = [str(one) for one in revelations(statistics(woe=True).model_copy(update={"model": "linear"}))]
    assert not any("of a class" in line or "WOE" in line or "IV" in line for line in lines)
    assert any("(protection: secret order, 20 rows or more)" in line for line in lines)
    assert any("0 but in few rows, their bins" in line and line.startswith(BANK) for line in lines)
    assert any("the label's unit" in line for line in lines)
    assert not any("few rows, their bins" in str(one) for one in revelations(statistics()))


def test_statistics_tell_partners_which_rows_are_held_out() -> None:
    """As a training does, by a column and by the key of a split."""
    for evaluation, words in ((BY_DATE, "'s column holds it out"), (SPLIT, "whether each has the key of the split")):
        lines = [str(one) for one in revelations(statistics().model_copy(update={"evaluation": evaluation}))]
        assert any(words in line for line in lines)


def helpers_lines(description: Any, known: JobFacts) -> list[str]:
    """What the helper alone, or with a label party, learns."""
    found = [one for one in revelations(description, known) if one.party.split(" or ")[0] == NOTARY]
    return [str(one) for one in found]


def test_each_model_shows_the_helper_its_own_kind_of_score() -> None:
    """Only signs that the model needs are told; a new score has no label in it."""
    seen = {
        "logistic": "without its sign",
        "linear": "without its sign",
        "poisson": "with its sign",
        "gamma": "less log(label / mean label)",
        "softmax": "share a predicted class",
    }
    for model, words in seen.items():
        for other in {*seen.values()}:
            lines = [str(one) for one in revelations(job(model=model, privacy=SHOWN))]
            assert any(other in line for line in lines) == (other == words), (model, other)
    facts = JobFacts(model=AppliedModel("gamma", "shared", False))
    lines = [str(one) for one in revelations(prediction("credit-1"), facts)]
    assert any("with its sign" in line for line in lines)
