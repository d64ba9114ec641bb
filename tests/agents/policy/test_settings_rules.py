"""What a party's settings allow of a job: models, releases, scores, tables, columns, helpers, and how often.

Most of it is asked of the policy alone, some through agents: that nothing was read or sent before.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tercet.agents.policy.audit_log import entries
from tercet.agents.policy.check import check_policy
from tercet.agents.policy.table import narrow_table
from tercet.schemas.files.job import Evaluation, Network, Privacy, TrainingJob
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.settings import Settings, TableSettings
from tests.agents.policy.test_check import KEYS, announced, announcing, refusal, settings_of
from tests.agents.scenes import BANK, CARD, NOTARY, job, off, prediction, scene, three
from tests.agents.world import NOTHING, SCORES

Change = Callable[[Settings], Settings]
CONSENTS: dict[str, Any] = {"narrow": True, "helper_sees": "scores"}


def policy(**fields: Any) -> Change:
    """Another [policy]."""
    return lambda settings: settings.model_copy(update={"policy": PolicySettings(**CONSENTS | fields)})


def table(**fields: Any) -> Change:
    """Another [tables.customers]."""
    return lambda settings: settings.model_copy(
        update={"tables": {name: one.model_copy(update=fields) for name, one in settings.tables.items()}}
    )


def partner(name: str, **fields: Any) -> Change:
    """Another [partners.NAME]."""
    return lambda settings: settings.model_copy(
        update={"partners": settings.partners | {name: settings.partners[name].model_copy(update=fields)}}
    )


RELU = job(model="mlp", network=Network(hidden=(4,), activation="relu"), privacy=Privacy())
SCORED = Evaluation(holdout=0.25, metrics="epoch", loss=True)
FILED = Evaluation(holdout=0.25, held_out_scores=True)
RULES: dict[str, tuple[Change, TrainingJob, str, str]] = {  # the card processor's settings, the job, code, words
    "no purpose": (policy(purposes=["risk"]), job(), "policy.purpose", "names no purpose"),
    "another purpose": (policy(purposes=["risk"]), job(purpose="ads"), "policy.purpose", "'ads'"),
    "not for this table": (table(purposes=("risk",)), job(purpose="ads"), "policy.purpose", "[tables.customers]"),
    "model": (policy(models=["linear"]), job(), "policy.model", "[policy] models"),
    "epochs": (policy(max_epochs=1), job(), "policy.epochs", "max_epochs"),
    "release": (policy(releases=["shared"]), job(), "policy.release", "[policy] releases"),
    "no metrics": (policy(metrics="none"), job(evaluation=SCORED), "policy.metrics", "[policy] metrics"),
    "metrics at the end": (policy(metrics="end"), job(evaluation=SCORED), "policy.metrics", 'metrics = "end"'),
    "loss": (policy(loss=False), job(evaluation=Evaluation(loss=True)), "policy.loss", "loss = false"),
    "held-out loss": (
        policy(loss=False), job(evaluation=Evaluation(holdout=0.25, held_out_loss=True)), "policy.loss", "held_out_loss"
    ),
    "helper sees scores": (
        policy(helper_sees="nothing"), job(privacy=Privacy(helper_sees="scores")), "policy.helper-sees", "[policy]"
    ),
    "narrow": (policy(narrow=False), job(accept_narrow=True), "policy.narrow", "narrow = true"),
    "a helper that must see": (
        policy(helper_sees="nothing"), job(model="softmax"), "policy.helper-sees", 'use model = "one-vs-rest"'
    ),
    "a network's helper": (
        policy(helper_sees="nothing"), RELU,
        "policy.helper-sees", "gamma, linear, logistic, one-vs-rest, poisson"
    ),
    "submitter": (table(submitters=(NOTARY,)), job(), "policy.submitter", "submitters under [tables.customers]"),
    "partner": (table(partners=("telco",)), job(), "policy.parties", "partners under [tables.customers]"),
    "held-out scores": (
        policy(), job(evaluation=FILED), "policy.held-out-scores", "[policy] held_out_scores"
    ),
    "helper": (table(helpers=("telco",)), job(), "policy.helper", "helpers under [tables.customers]"),
    "may not help": (partner(NOTARY, may_help=False), job(), "policy.helper", "may_help"),
    "column": (table(columns=("a", "b")), job(columns=((CARD, ("a", "c")),)), "policy.columns", "'c'"),
    "column left out": (
        table(exclude=("a", "c")), job(columns=((CARD, ("a", "b", "c")),)), "policy.columns", "'a', 'c'"
    ),
    "id as column": (table(), job(columns=((CARD, ("id",)),)), "policy.columns", "'id'"),
    "scorings of a table": (
        table(max_total_scorings=1), job(evaluation=SCORED), "policy.exposure", "max_total_scorings"
    ),
    "releases of a table": (table(max_releases=0), job(), "policy.exposure", "max_releases"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "description", "code", "words"), RULES.values(), ids=RULES)
def test_what_the_settings_do_not_allow_is_refused_with_the_setting(
    change: Change, description: TrainingJob, code: str, words: str
) -> None:
    """The reason names who can mend it and where."""
    problem = refusal(announcing(description), change(settings_of(CARD)))
    assert problem.code == code
    assert problem.culprit in {BANK, CARD}
    assert words in problem.reason
    problem.failure("received", verdict=False)


@pytest.mark.parametrize(
    "description",
    [job(), job(model="softmax"), RELU],
)
def test_a_helper_may_see_scores_where_the_settings_say_so(description: TrainingJob) -> None:
    """Who says nothing lets in what lets it see nothing, and nothing else."""
    check_policy(announcing(description), policy(helper_sees="scores")(settings_of(CARD)), KEYS[CARD])
    silent = settings_of(CARD).model_copy(update={"policy": PolicySettings(narrow=True)})
    check_policy(announcing(job(privacy=Privacy())), silent, KEYS[CARD])
    check_policy(announcing(job(privacy=NOTHING)), silent, KEYS[CARD])
    assert refusal(announcing(description), silent).code == "policy.helper-sees"


def test_all_that_the_settings_do_not_allow_is_told_at_once() -> None:
    """Each with the setting that can mend it, and not one in each run; a stranger is told nothing of them."""
    strict = policy(models=["linear"], max_epochs=1, loss=False, metrics="end", purposes=["risk"])(settings_of(CARD))
    strict = table(helpers=())(strict)
    problem = refusal(announcing(job(evaluation=SCORED)), strict)
    assert (problem.code, problem.culprit) == ("policy.purpose", BANK)
    for setting in ("[policy] purposes", "[policy] models", "max_epochs", "[policy] loss", "metrics = ", "(helpers"):
        assert setting in problem.reason
    assert problem.reason.count("; also: ") == 5
    stranger = partner(BANK, may_submit=False)(strict)
    assert "also" not in refusal(announcing(job(evaluation=SCORED)), stranger).reason


@pytest.mark.parametrize(
    ("change", "description"),
    [
        (policy(purposes=["risk", "ads"]), job(purpose="ads")),
        (table(purposes=("risk",)), job(purpose="risk")),
        (policy(models=["logistic"], max_epochs=2, releases=["owners"], metrics="end", loss=False), job()),
        (policy(metrics="end"), job(evaluation=Evaluation(holdout=0.25))),
        (table(submitters=(BANK,), partners=(BANK,), helpers=(NOTARY,)), job()),
        (table(columns=("a", "b")), job(columns=((CARD, ("b",)),))),
        (table(), job(columns=((CARD, ("a",)),))),
        (table(max_total_scorings=2), job(evaluation=SCORED)),
    ],
)
def test_what_the_settings_allow_is_accepted(change: Change, description: TrainingJob) -> None:
    """Each list has what the job names."""
    check_policy(announcing(description), change(settings_of(CARD)), KEYS[CARD])


def test_a_helper_gives_nothing_of_its_own_and_is_asked_less() -> None:
    """What is told of others' columns is for those to allow."""
    strict = policy(narrow=False, metrics="none", loss=False, releases=[])
    check_policy(announcing(job(evaluation=SCORED)), strict(settings_of(NOTARY)), KEYS[NOTARY])


def test_who_submits_a_narrow_job_has_agreed_to_it() -> None:
    """The settings are asked where somebody else wrote the job."""
    unasked = policy(narrow=False)(settings_of(BANK))
    check_policy(announced(BANK, accept_narrow=True), unasked, KEYS[BANK])
    assert refusal(announced(CARD, accept_narrow=True), unasked).code == "policy.narrow"


def test_own_jobs_may_name_tables_whose_submitters_are_listed() -> None:
    """The list is of partners."""
    check_policy(announced(CARD), table(submitters=(BANK,))(settings_of(CARD)), KEYS[CARD])


def test_predictions_need_consent() -> None:
    """Of each other data party, for the label party."""
    asked = announcing(prediction("credit-01234567"))
    check_policy(asked, settings_of(CARD), KEYS[CARD])
    problem = refusal(asked, partner(BANK, predictions=False)(settings_of(CARD)))
    assert (problem.code, problem.culprit) == ("policy.prediction", CARD)
    check_policy(asked, partner(CARD, predictions=False)(settings_of(BANK)), KEYS[BANK])


def test_settings_of_a_table_are_narrowed_to_the_columns_of_a_job() -> None:
    """Kinds and cuts of columns that are not used go too."""
    whole = TableSettings(path=Path("a.csv"), id="id", numeric=("a", "b"), categorical=("c",),
                          cuts={"a": (1.0,), "b": (2.0,)})  # fmt: skip
    assert narrow_table(whole, None) == whole
    few = narrow_table(whole, ("a", "c"))
    assert (few.columns, few.numeric, few.categorical) == (("a", "c"), ("a",), ("c",))
    assert few.cuts == {"a": (1.0,)}


def test_columns_that_are_no_features_are_read_where_a_job_names_them() -> None:
    """And never as features."""
    whole = TableSettings(path=Path("a.csv"), id="id", holdouts=("day",), offsets=("years",))
    narrow = narrow_table(whole, None, ("years",))
    assert (narrow.beside, narrow.exclude) == (("years",), ("day", "years"))
    with pytest.raises(ValueError, match="listed under offsets"):
        TableSettings(path=Path("a.csv"), id="id", columns=("years",), offsets=("years",))


def test_a_job_shifts_scores_by_a_column_that_the_settings_list() -> None:
    """Of the label party alone."""
    asked = announced(BANK, model="poisson", exposure="years", privacy=Privacy())
    problem = refusal(asked, settings_of(BANK))
    assert (problem.code, problem.culprit) == ("policy.columns", BANK)
    assert "offsets under" in problem.reason
    check_policy(asked, table(offsets=("years",))(settings_of(BANK)), KEYS[BANK])
    check_policy(asked, settings_of(CARD), KEYS[CARD])


# --- through agents


async def test_a_job_uses_the_columns_that_it_names_and_no_other(tmp_path: Path) -> None:
    """The model part names them."""
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job(columns=((CARD, ("card-1", "card-3")),), accept_narrow=True))
        assert {status.state for status in ended.values()} == {"done"}
        assert (ended[CARD].columns, ended[BANK].columns) == (2, 6)
        manifest = json.loads((Path(ended[CARD].model_part or "") / "manifest.json").read_text())
        assert manifest["columns"] == ["card-1", "card-3"]


async def test_a_consent_that_is_withdrawn_stops_predictions_by_models_released_under_it(tmp_path: Path) -> None:
    """Those of another release go on."""
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.pin(CARD, BANK, may_hold_model=True)
        whole, owned = job("whole", release="label"), job("owned")
        for description in (whole, owned):
            assert {status.state for status in (await stage.run(description)).values()} == {"done"}
        await stage.stop()
        stage.pin(CARD, BANK, may_hold_model=False)
        ended = await stage.run(prediction(whole.id))
        assert "no longer" in off(ended, "policy.release", CARD)
        assert {status.state for status in (await stage.run(prediction(owned.id, name="other"))).values()} == {"done"}


async def test_a_helper_that_may_see_nothing_helps_no_prediction_that_shows_it_scores(tmp_path: Path) -> None:
    """Each data party is asked, the label party too; what shows the helper nothing goes on."""
    async with scene(three(tmp_path), tmp_path) as stage:
        shown = job("shown", release="shared", privacy=SCORES)
        blind = job("blind", release="shared", privacy=NOTHING)
        owned = job("owned", release="owners", privacy=SCORES)
        for description in (shown, blind, owned):
            assert {status.state for status in (await stage.run(description)).values()} == {"done"}
        for party in (CARD, BANK):
            await stage.stop()
            stage.change(party, policy=PolicySettings(narrow=True))
            ended = await stage.run(prediction(shown.id, name=f"of-{party}"))
            reason = off(ended, "policy.helper-sees", party)  # the label party's reason comes first
            assert f'[policy] helper_sees = "nothing" at {party}' in reason
        for description in (blind, owned):
            ended = await stage.run(prediction(description.id, name=f"by-{description.name}"))
            assert {status.state for status in ended.values()} == {"done"}


async def test_the_audit_log_tells_what_was_revealed_to_whom_before_it_was(tmp_path: Path) -> None:
    """In the order of the stages; and whose request it was."""
    async with scene(three(tmp_path), tmp_path) as stage:
        description = job(evaluation=Evaluation(holdout=0.25, loss=True), purpose="credit scoring", privacy=Privacy())
        await stage.run(description)
        log = list(entries((tmp_path / CARD / "audit.log").read_bytes()))
    assert [entry.event for entry in log] == [
        "opened", "received", "decided", "begun", "revealing", "revealing", "revealing", "ended"
    ]  # fmt: skip
    received, training, release, ended = log[1], log[5], log[6], log[7]
    assert (received.fields["submitter"], received.fields["purpose"]) == (BANK, "credit scoring")
    assert (training.fields["stage"], training.fields["counts"]["scorings"]) == ("training", 1)
    reported = {(one["to"], one["what"]) for one in training.fields["revelations"]}
    assert any(to == BANK and "training loss" in what for to, what in reported)
    assert any(to == NOTARY and "how many steps are done" in what for to, what in reported)
    assert not any(to == NOTARY and "score" in what for to, what in reported)
    assert (release.fields["stage"], release.fields["counts"]) == ("release", {"releases": 1})
    assert ended.fields["state"] == "done"
    assert {entry.job for entry in log[1:]} == {description.id}


async def test_a_party_takes_part_in_nothing_that_it_cannot_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is full when the weights are about to be released: nobody gets any."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.start()
        log = stage.agents[CARD]._audit
        append = log.append

        def full(event: str, *args: Any) -> Any:
            if event == "revealing" and args[2]["stage"] == "release":
                raise OSError(28, "No space left on device")
            return append(event, *args)

        monkeypatch.setattr(log, "append", full)
        ended = await stage.run(job())
        assert "audit log" in off(ended, "disk.write", CARD)
        assert stage.said("weight share") == [one for one in stage.said("weight share") if one.sender == BANK]
