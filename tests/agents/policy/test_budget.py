"""What label parties have had of a table adds up over jobs, whatever becomes of the audit log, and is bounded.

The counts alone first, then their file, then agents whose jobs are refused.
"""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tercet.agents.cli.app import app
from tercet.agents.core.problems import JobProblem
from tercet.agents.daemon.agent import Agent
from tercet.agents.policy.audit_log import Entry
from tercet.agents.policy.budget import Budget, audited_spendings
from tercet.agents.policy.budget_file import BudgetFile, Spending, read
from tercet.agents.policy.check import check_policy
from tercet.agents.policy.exposure import COUNTS, exposures, score_bits
from tercet.agents.policy.job_audit import JobAudit
from tercet.broker.memory.broker import MemoryBroker
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import AnyJob, Evaluation, Privacy
from tercet.schemas.files.policy import PolicySettings, TablePolicy
from tercet.schemas.files.settings import Limits, Settings
from tercet.schemas.messages.kinds import Job, ScoringTerms, Terms
from tests.agents.policy.test_check import KEYS, announcing, settings_of
from tests.agents.policy.test_settings_rules import table
from tests.agents.scenes import BANK, CARD, NOTARY, Scene, job, off, prediction, scene, three
from tests.agents.world import NOTHING

OF = "credit-01234567"
SCORED = Evaluation(holdout=0.25, metrics="end", loss=True)
EACH_EPOCH = Evaluation(holdout=0.25, metrics="epoch", loss=True)
STAGES = {"training": ("alignment", "training", "release"), "prediction": ("alignment", "scoring", "release")}


def number(run: int, description: AnyJob) -> Job:
    """A job with a run of its own."""
    return announcing(description).model_copy(update={"run": run.to_bytes(32, "big")})


def terms(rows: int = 72, held_out: int = 24, outputs: int = 1) -> Terms:
    """Sizes as all parties have agreed on."""
    return Terms(rows=rows, held_out=held_out, columns=(6, 6), outputs=outputs, plan=bytes(32))


def live(job: Job, settings: Settings, budget: Budget, record_bits: float | None = None) -> None:
    """Let a job through all its stages at one party, as the lifecycle does."""
    check_policy(job, settings, KEYS[settings.party], budget)
    audit = JobAudit(job, settings, budget)
    audit.record_bits = record_bits
    before, at_work, after = STAGES[job.description.kind]
    audit.note_revelations(before)
    audit.note_revelations(at_work, terms())
    audit.note_revelations(after)


def refused(job: Job, settings: Settings, budget: Budget, record_bits: float | None = None) -> str:
    """Why a job goes beyond."""
    with pytest.raises(JobProblem) as caught:
        live(job, settings, budget, record_bits)
    assert (caught.value.code, caught.value.culprit) == ("policy.exposure", CARD)
    caught.value.failure("received", verdict=False)
    return caught.value.reason


# Each count: a setting, a bound that takes two of these jobs and no third, and words of the reason.
BEYOND: dict[str, tuple[dict[str, float], AnyJob, str]] = {
    "scored passes": ({"max_total_scorings": 2}, job(evaluation=SCORED), "2 scorings"),
    "scored passes of predictions": ({"max_total_scorings": 2}, prediction(OF), "2 scorings"),
    "bits": ({"max_score_bits": 14}, prediction(OF), "14 bits"),
    "predictions": ({"max_predictions": 2}, prediction(OF), "2 predictions"),
    "scored rows": ({"max_scored_rows": 144}, prediction(OF), "144 rows scored"),
    "held-out rows": ({"max_scored_rows": 48}, job(evaluation=SCORED), "48 rows scored"),
    "losses": ({"max_losses": 4}, job(evaluation=Evaluation(loss=True)), "4 losses"),
    "alignments": ({"max_alignments": 2}, prediction(OF), "2 alignments"),
    "models": ({"max_models": 2}, job(release="shared"), "2 models trained"),
    "releases": ({"max_releases": 2}, job(), "2 models released"),
}


@pytest.mark.parametrize(("bounds", "description", "words"), BEYOND.values(), ids=BEYOND)
def test_each_count_is_bounded_at_the_party_whose_table_it_is(
    bounds: dict[str, float], description: AnyJob, words: str
) -> None:
    """The count, the setting and the party to ask are named; another table or label party has a budget of its own."""
    settings, budget = table(**bounds)(settings_of(CARD)), Budget()
    for run in (1, 2):
        live(number(run, description), settings, budget)
    reason = refused(number(3, description), settings, budget)
    (setting,) = bounds
    assert words in reason
    assert f"{setting} under [tables.customers]" in reason
    assert f"ask {CARD}" in reason
    other = settings.model_copy(update={"tables": settings.tables | {"new": settings.tables["customers"]}})
    live(number(3, description.model_copy(update={"tables": ((BANK, "customers"), (CARD, "new"))})), other, budget)
    live(number(3, description), table(**{setting: bounds[setting] * 2})(settings), budget)


@pytest.mark.parametrize(("bounds", "description", "words"), BEYOND.values(), ids=BEYOND)
def test_what_the_description_tells_is_refused_before_anybody_is_asked_to_approve(
    bounds: dict[str, float], description: AnyJob, words: str
) -> None:
    """The policy is asked first, and an exhausted budget needs no sizes."""
    settings, budget = table(**dict.fromkeys(bounds, 0))(settings_of(CARD)), Budget()
    with pytest.raises(JobProblem) as caught:
        check_policy(number(1, description), settings, KEYS[CARD], budget)
    assert caught.value.code == "policy.exposure"
    assert words.partition(" ")[2] in caught.value.reason


def test_few_sets_of_columns_are_judged_before_approval(tmp_path: Path) -> None:
    """A set counts once, in any order and over restarts; each label party has a count of its own."""
    settings, file = table(max_profiles=2)(settings_of(CARD)), tmp_path / "exposure.jsonl"
    sets = (("age", "town"), ("town", "age"), None, ("age",), ("age", "town"), None)

    def judged(budget: Budget, label: str = BANK) -> list[bool]:
        asked = number(1, job().model_copy(update={"label": label}))
        return [budget.spend_profile(asked, settings, columns) for columns in sets]

    for _ in range(2):
        budget = Budget(BudgetFile(file))
        budget.open([])
        assert judged(budget) == [True, True, True, False, True, True]
    assert judged(budget, CARD) == [True, True, True, False, True, True]
    assert {one.label: one.spent for one in budget.entries(settings) if one.name == "profiles"} == {BANK: 2, CARD: 2}


def test_a_refusal_does_not_quote_what_a_record_holds() -> None:
    """Nobody has approved yet; the owner's own log has the number."""
    with pytest.raises(JobProblem) as caught:
        live(number(1, prediction(OF)), settings_of(CARD), Budget(), 6.25)
    assert "this job alone would give bank more bits of a record told by scores than a record" in caught.value.reason
    assert "metrics" not in caught.value.reason, "a prediction has none to leave out"
    assert "6.25" not in caught.value.reason
    assert "6.25" in (caught.value.detail or "")


def test_a_later_attempt_of_a_run_counts_once() -> None:
    """Whatever the stage at which the one before ended."""
    bounds = {"max_total_scorings": 2, "max_releases": 1, "max_models": 1, "max_losses": 2, "max_scored_rows": 48}
    settings, budget = table(**bounds)(settings_of(CARD)), Budget()
    for _ in range(3):
        live(number(1, job(evaluation=EACH_EPOCH)), settings, budget)
    spent = {one.name: one.spent for one in budget.entries(settings)}
    expected = {"models": 1, "releases": 1, "alignments": 1, "scorings": 2, "bits": 14, "scored_rows": 48}
    assert spent == expected | {"predictions": 0, "losses": 2, "statistics": 0, "profiles": 0}
    assert "1 models trained" in refused(number(2, job(evaluation=EACH_EPOCH)), settings, budget)


def test_scores_are_bounded_by_what_a_record_holds_where_that_is_known() -> None:
    """A setting takes its place; where neither is there, no bits are a bound."""
    settings, budget = settings_of(CARD), Budget()
    for run in range(5):
        live(number(run, prediction(OF)), settings, budget, record_bits=35.0)
    reason = refused(number(5, prediction(OF)), settings, budget, record_bits=35.0)
    assert "35 bits of a record told by scores" in reason
    assert "allows as many as a record holds in all" in reason
    live(number(5, prediction(OF)), settings, budget)
    live(number(6, prediction(OF)), table(max_score_bits=49)(settings), budget, record_bits=35.0)


@pytest.mark.parametrize(("noise", "bits"), [(0, 19), (2.0**-5, 7), (2.0**-4, 6), (1, 2), (1e-9, 19)])
def test_a_score_tells_the_logarithm_of_its_range_by_the_width_of_the_noise(noise: float, bits: float) -> None:
    """Without noise it is rounded to 16 bits below the point."""
    assert score_bits(noise) == bits
    quiet = settings_of(CARD).model_copy(update={"policy": PolicySettings(narrow=True, score_noise=noise)})
    assert exposures(job(evaluation=EACH_EPOCH), quiet, terms(outputs=3))["training"]["bits"] == 2 * 3 * bits


def test_scores_that_no_helper_stops_count_what_a_lie_could_put_into_them() -> None:
    """Where weights are opened for them: in each training, and in predictions but of a model that its owners hold."""
    settings = settings_of(CARD)
    blind = job(evaluation=EACH_EPOCH, privacy=NOTHING)
    assert exposures(blind, settings, terms())["training"]["bits"] == exposures(blind, settings)["training"]["bits"]
    assert exposures(blind, settings)["training"]["bits"] == 2 * 13

    def bits(**changes: Any) -> float:
        fields: dict[str, Any] = {
            "model": "logistic",
            "fx": 8,
            "f": 39,
            "noise_bits": 2,
            "alpha": 1.0,
            "seeds": (),
            "exponent": 7,
        }
        scoring = ScoringTerms(**(fields | {"release": "shared", "blind": True, "network": None} | changes))
        return exposures(prediction(OF), settings, terms().model_copy(update={"scoring": scoring}))["scoring"]["bits"]

    assert (bits(), bits(release="label"), bits(release="owners"), bits(blind=False)) == (13, 13, 7, 7)


def test_outputs_count_each() -> None:
    """Before the label party has told how many classes there are, as few as a model can have."""
    for model in ("softmax", "one-vs-rest"):
        classes = job(model=model, evaluation=EACH_EPOCH, privacy=Privacy())
        assert exposures(classes, settings_of(CARD))["training"]["scorings"] == 2 * 3
        assert exposures(classes, settings_of(CARD), terms(outputs=5))["training"]["scorings"] == 2 * 5
    assert exposures(prediction(OF), settings_of(CARD), terms(outputs=5))["scoring"]["scorings"] == 5


def test_folds_count_each_row_once_and_each_model() -> None:
    """Whatever the sizes of the folds, which are agreed on anew for each training."""
    settings, bits = settings_of(CARD), exposures(job(evaluation=SCORED), settings_of(CARD))["training"]["bits"]
    folds = job(evaluation=Evaluation(folds=5, loss=True))
    for found in (terms(72, 24), terms(77, 19), terms(96, 0)):
        amounts = exposures(folds, settings, found)["training"]
        assert amounts == {"models": 6, "losses": 2, "scorings": 1, "bits": bits, "scored_rows": 96}
    least = settings.limits.min_scored_rows
    assert exposures(folds, settings)["training"]["scored_rows"] == 5 * least
    with pytest.raises(JobProblem, match="max_models"):
        live(number(1, folds), table(max_models=5)(settings), Budget())
    live(number(1, folds), table(max_models=6)(settings), Budget())


def test_the_label_party_is_not_bounded_in_what_tells_it_of_its_own_columns() -> None:
    """What its partners learn of its table, it bounds."""
    settings, budget = table(**{count.setting: 0 for count in COUNTS if not count.own})(settings_of(BANK)), Budget()
    live(number(1, job(evaluation=EACH_EPOCH)), settings, budget)
    live(number(2, prediction(OF)), settings, budget)
    for setting in ("max_models", "max_releases", "max_alignments"):
        with pytest.raises(JobProblem, match=setting):
            live(number(3, job()), table(**{setting: 0})(settings), budget)


def test_a_helper_has_no_budget() -> None:
    """It has no table."""
    budget = Budget()
    live(number(1, job(evaluation=EACH_EPOCH)), settings_of(NOTARY), budget)
    assert list(budget.entries(settings_of(NOTARY))) == []


def test_every_bound_of_a_table_bounds_a_count() -> None:
    """No setting is without an effect."""
    bounds = {name for name in TablePolicy.model_fields if name.startswith("max_")}
    assert {count.setting for count in COUNTS} == bounds


# --- the file


def spendings() -> st.SearchStrategy[list[Spending]]:
    """Any that jobs may have left."""
    amounts = st.dictionaries(st.sampled_from([count.name for count in COUNTS]), st.integers(1, 9), min_size=1)
    names = st.sampled_from(["customers", "orders"]), st.sampled_from([BANK, "shop"])
    return st.lists(st.builds(Spending, st.just(OF), st.sampled_from(["01", "02", "03"]), *names, amounts), max_size=6)


def everything(reported: Budget) -> list[Any]:
    """All that a budget says."""
    return list(reported.entries(settings_of(CARD)))


@given(spendings(), spendings(), st.data())
def test_whatever_was_appended_is_read_again_and_a_torn_end_costs_only_itself(
    tmp_path_factory: pytest.TempPathFactory, first: list[Spending], more: list[Spending], data: st.DataObject
) -> None:
    """Cut anywhere within the last line, or with a hole in it, as a crash leaves it: it was never told."""
    path = tmp_path_factory.mktemp("budget") / "exposure.jsonl"
    file = BudgetFile(path)
    assert file.open() is None
    file.start_with(first)
    for one in more:
        file.append(one)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert BudgetFile(path).open() == read(path) == first + more
    whole, stored = path.read_bytes(), (first + more)[:-1]
    start = whole[:-1].rfind(b"\n") + 1
    if not stored and not (first + more):
        return
    cut = data.draw(st.integers(start + 1, len(whole) - 1))
    hole = whole[:start] + bytes(cut - start) + whole[cut:]
    for torn in (whole[:cut], hole):
        path.write_bytes(torn)
        again = BudgetFile(path)
        assert read(path) == again.open() == stored
        again.append((first + more)[-1])
        assert BudgetFile(path).open() == first + more


@given(spendings().filter(lambda found: len(found) > 1), st.data())
def test_any_other_damage_is_refused_with_what_to_do(
    tmp_path_factory: pytest.TempPathFactory, found: list[Spending], data: st.DataObject
) -> None:
    """A changed byte, a line that is gone or moved, an empty file."""
    path = tmp_path_factory.mktemp("budget") / "exposure.jsonl"
    BudgetFile(path).start_with(found)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    place = data.draw(st.integers(0, len(whole) - len(lines[-1]) - 2))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.sampled_from([1, 2, 4, 32]))
    gone = data.draw(st.integers(0, len(lines) - 2))
    for damaged in (bytes(changed), b"".join(lines[:gone] + lines[gone + 1 :]), b"".join(lines[::-1]), b""):
        path.write_bytes(damaged)
        with pytest.raises(Invalid, match="move it away"):
            BudgetFile(path).open()
        assert path.read_bytes() == damaged


def entry(stage: str, run: str = "01", **fields: Any) -> Entry:
    """A line of an audit log."""
    reported = {"stage": stage, "label": BANK, "table": "customers", **fields}
    return Entry(1, "", "revealing", OF, run, reported, "", "")


def test_lines_of_earlier_releases_count_for_what_follows_from_them() -> None:
    """The audit log told scorings, rows and whether weights were released; scores had no noise."""
    log = [entry("alignment"), entry("training", rows=70, held_out=20, scorings=4), entry("release", released=True),
           entry("training", held_out=20, scorings=4), entry("alignment", "02"), entry("scoring", "02", rows=90),
           entry("release", "03", released=False)]  # fmt: skip
    reported = {one.name: one.spent for one in Budget.from_spendings(audited_spendings(log)).entries(settings_of(CARD))}
    expected = {"models": 1, "releases": 1, "alignments": 2, "scorings": 5, "bits": 95, "scored_rows": 170}
    assert reported == expected | {"predictions": 1, "losses": 0, "statistics": 0, "profiles": 0}


# --- agents


def bounded(stage: Scene, **bounds: float) -> None:
    """The card processor's settings."""
    stage.change(CARD, tables=table(**bounds)(stage.parties[CARD][0]).tables)


async def restart(stage: Scene, folder: Path) -> None:
    """Stop all agents, and move the audit log of the card processor away."""
    await stage.stop()
    (folder / CARD / "audit.log").rename(folder / "elsewhere.log")


async def test_the_fifth_scored_pass_is_refused_after_a_restart_without_the_audit_log(tmp_path: Path) -> None:
    """Passes over held-out rows and predictions together; a released model is another count.

    A job that fails before it trains counts nothing.
    """
    async with scene(three(tmp_path), tmp_path) as stage:
        bounded(stage, max_total_scorings=4, max_releases=1, rescoring=True)
        limits = stage.parties[CARD][0].limits
        stage.change(CARD, limits=limits.model_copy(update={"min_rows": 1000}))
        off(await stage.run(job("few", epochs=3, evaluation=EACH_EPOCH)), "alignment.few", CARD)
        await stage.stop()
        stage.change(CARD, limits=limits)
        trained = await stage.run(job(epochs=3, evaluation=EACH_EPOCH))
        assert trained[CARD].state == "done"
        await restart(stage, tmp_path)
        assert (await stage.run(prediction(trained[CARD].job)))[CARD].state == "done"
        await restart(stage, tmp_path)
        again = prediction(trained[CARD].job, name="again")
        for beyond, setting in (
            (again, "max_total_scorings"),
            (job("scored", release="shared", evaluation=SCORED), "max_total_scorings"),
            (job("second"), "max_releases"),
        ):
            assert setting in off(await stage.run(beyond), "policy.exposure", CARD)
        assert (await stage.run(job("shared", release="shared")))[CARD].state == "done"  # which asks for neither


async def test_what_no_bound_counted_is_bounded_over_restarts_without_the_audit_log(tmp_path: Path) -> None:
    """The file has every count alike, and `test_each_count_is_bounded...` bounds each."""
    async with scene(three(tmp_path), tmp_path) as stage:
        bounded(stage, rescoring=True)
        unbounded = stage.parties[CARD][0]
        trained = (await stage.run(job("modelled", release="shared")))[CARD].job
        losses: AnyJob = job("losses", evaluation=Evaluation(loss=True))
        scored: AnyJob = prediction(trained)
        for one in (losses, scored):
            assert (await stage.run(one))[CARD].state == "done"
        beyond = [("max_losses", 3, losses), ("max_scored_rows", 96 + 95, scored), ("max_models", 2, losses)]
        for setting, bound, again in beyond:
            await restart(stage, tmp_path)
            stage.change(CARD, tables=table(**{setting: bound})(unbounded).tables)
            assert setting in off(await stage.run(again.with_new_id()), "policy.exposure", CARD)


@pytest.mark.parametrize(("setting", "bound"), [("max_predictions", 1), ("max_releases", 2)])
async def test_jobs_side_by_side_do_not_get_past_a_bound(tmp_path: Path, setting: str, bound: int) -> None:
    """The policy let all in; the count is asked once more when scores or weights are about to be told."""
    async with scene(three(tmp_path), tmp_path) as stage:
        bounded(stage, rescoring=True, **{setting: bound})
        trained = (await stage.run(job()))[CARD].job
        beside = [prediction(trained, name="one"), prediction(trained, name="two")]
        ids = [stage.submit(one) for one in (beside if setting == "max_predictions" else (job("one"), job("two")))]
        states = [(await stage.ended(one))[CARD] for one in ids]
        assert sorted(status.state for status in states) == ["done", "failed"]
        assert {status.failure.code for status in states if status.failure} == {"policy.exposure"}


async def test_counts_of_an_audit_log_are_taken_over_where_there_is_no_file(tmp_path: Path) -> None:
    """The upgrade of an agent, and the way back where the file is damaged."""
    async with scene(three(tmp_path), tmp_path) as stage:
        bounded(stage, max_models=1)
        assert (await stage.run(job()))[CARD].state == "done"
        await stage.stop()
        file = tmp_path / CARD / "exposure.jsonl"
        before = read(file)
        file.unlink()
        assert "max_models" in off(await stage.run(job("second")), "policy.exposure", CARD)
        assert everything(Budget.from_spendings(read(file) or ())) == everything(Budget.from_spendings(before or ()))


async def test_an_agent_does_not_start_with_a_damaged_budget(tmp_path: Path) -> None:
    """It would not know what it has told."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.run(job())
        await stage.stop()
        file = tmp_path / CARD / "exposure.jsonl"
        file.write_bytes(file.read_bytes().replace(b'"models":1', b'"models":0'))
        agent = Agent(*stage.parties[CARD], MemoryBroker().connect(CARD))
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(agent.serve(asyncio.Event()), 5)
        assert caught.group_contains(Invalid, match="exposure.jsonl: line")


@pytest.mark.parametrize(("stage_name", "kinds"), [("training", {"masked inputs"}), ("release", {"weight share"})])
async def test_nothing_is_told_that_the_disk_does_not_take(
    stage_name: str, kinds: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line comes first."""
    count = {"training": "models", "release": "releases"}[stage_name]
    append = BudgetFile.append

    def full(self: BudgetFile, spending: Spending) -> None:
        if count in spending.counts and CARD in str(self.path):
            raise OSError(28, "No space left on device")
        append(self, spending)

    monkeypatch.setattr(BudgetFile, "append", full)
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job())
        assert "record of what jobs were told" in off(ended, "disk.write", CARD)
        assert [one for one in stage.said(*kinds) if one.sender == CARD] == []


async def test_held_out_rows_that_are_too_few_are_not_scored(tmp_path: Path) -> None:
    """As few as a prediction may have; by default 32."""
    assert Limits().min_scored_rows == 32
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.change(CARD, limits=Limits())
        reason = off(await stage.run(job(evaluation=Evaluation(holdout=0.1))), "alignment.few", CARD)
        assert "min_scored_rows" in reason
        assert "held out" in reason


# --- the command


async def test_the_budget_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the file, or as the agent would take it over; as a table and as JSON."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.run(job(evaluation=SCORED))
        settings = stage.parties[CARD][0]
    monkeypatch.setattr("tercet.agents.cli.audit.settings_of", lambda _: settings)
    arguments = ["audit", "budget", "--settings", str(tmp_path / "any.toml")]
    for _ in range(2):
        reported = CliRunner().invoke(app, [*arguments, "--format", "json"])
        assert reported.exit_code == 0, reported.output
        rows = {row["name"]: row for row in json.loads(reported.stdout)}
        assert set(rows) == {count.name for count in COUNTS}
        expected = {"table": "customers", "label": BANK, "name": "losses", "setting": "max_losses", "spent": 2}
        assert rows["losses"] == expected | {"bound": 10_000, "left": 9_998}
        assert (rows["bits"]["spent"], rows["bits"]["bound"], rows["bits"]["left"]) == (7, None, None)
        text = CliRunner().invoke(app, arguments)
        assert text.exit_code == 0
        assert "9,998" in text.stdout
        (tmp_path / CARD / "exposure.jsonl").unlink(missing_ok=True)
    (tmp_path / CARD / "exposure.jsonl").write_text("nonsense\n")
    assert CliRunner().invoke(app, arguments).exit_code == 3
