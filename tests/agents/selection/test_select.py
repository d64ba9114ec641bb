"""A selection over real jobs: it finds the columns that matter, by a simulation and by a running agent.

One simulated selection is run once, and looked at by all tests that need it.
"""

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from typer.testing import CliRunner

import tercet
from tercet.agents.access.console_client import ConsoleClient
from tercet.agents.cli.app import app
from tercet.agents.core import event_loop
from tercet.agents.core.report_files import selection_file
from tercet.agents.policy.budget_file import FILE as BUDGET
from tercet.agents.policy.budget_file import BudgetFile, Spending
from tercet.agents.selection.jobs import SelectionStopped, by_agent, trial_of
from tercet.agents.selection.page import FILE as PAGE
from tercet.agents.selection.page import render_page
from tercet.agents.selection.select import ColumnSelection
from tercet.agents.selection.selection_file import read_selection
from tercet.agents.selection.trail import FILE, Trail, Trial, read_trail
from tercet.agents.statistics.result import (
    Axis,
    CorrelationMap,
    OwnColumn,
    PartnerColumn,
    Power,
    StatisticsResult,
    statistics_file,
)
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.files.settings import read_settings
from tercet.schemas.files.statistics import CountedRows
from tercet.schemas.messages.kinds import Failure, JobStatus, Status
from tercet.tables.binning.bins import NumericBins
from tests.agents.scenes import BANK, CARD, NOTARY
from tests.virtual_time import VirtualLoop

WRITTEN = """
[job]
name = "credit"
model = "logistic"
label = "bank"
helper = "notary"
accept_narrow = true

[job.tables]
bank = "customers"
card = "customers"

[job.training]
epochs = 2

[job.evaluation]
holdout = 0.3
split = "selection"
held_out_loss = true

[columns]
bank = ["good", "noise"]
card = ["other", "strong"]

[search]
min_gain = 0.02
"""
ROWS = 400


def write_tables(folder: Path) -> None:
    """Two tables of which one column of each tells of the label."""
    rng = np.random.default_rng(4)
    good, noise, other, strong = rng.normal(size=(4, ROWS))
    label = (good + 1.5 * strong + 0.5 * rng.normal(size=ROWS) > 0).astype(int)
    for party, columns in {
        BANK: {"good": good, "noise": noise, "default": label},
        CARD: {"other": other, "strong": strong},
    }.items():
        rows = [",".join(["id", *columns])]
        rows += [",".join([f"c{n}", *(str(values[n]) for values in columns.values())]) for n in range(ROWS)]
        (folder / f"{party}.csv").write_text("\n".join(rows) + "\n")
        (folder / f"{party}.toml").write_text(
            f'party = "{party}"\nrole = "data"\nidentity = "{party}.key"\nstate = "{party}-state"\nreport = false\n'
            + partners(party)
            + f'[policy]\nnarrow = true\n[tables.customers]\npath = "{party}.csv"\nid = "id"\n'
            + ('label = "default"\n' if party == BANK else "")
        )
    (folder / f"{NOTARY}.toml").write_text(
        f'party = "{NOTARY}"\nrole = "helper"\nidentity = "n.key"\nstate = "n-state"\nreport = false\n'
        + partners(NOTARY)
    )


def partners(party: str) -> str:
    """Sections of the others, with words in the places of keys."""
    others = (one for one in (BANK, CARD, NOTARY) if one != party)
    return "".join(f'[partners.{one}]\nkey = "what {one} prints"\nmay_submit = true\n' for one in others)


def command(folder: Path, *more: str) -> tuple[int, str]:
    """The exit code and the text of `tercet select`, simulated."""
    with pytest.MonkeyPatch.context() as patch:  # nobody waits for a thread
        patch.setattr(event_loop, "loop_factory", lambda: VirtualLoop)
        found = CliRunner().invoke(
            app, ["select", str(folder / "select.toml"), "--simulate", str(folder), "--format", "json", *more]
        )
    return found.exit_code, found.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A selection that is over."""
    place = tmp_path_factory.mktemp("selection")
    write_tables(place)
    (place / "select.toml").write_text(WRITTEN)
    code, _ = command(place)
    assert code == 0
    return place


def trail_of(folder: Path) -> Trail:
    """Its trail."""
    found = read_trail(folder / "select-selection", read_selection(folder / "select.toml").digest)
    assert found is not None
    return found


def test_a_simulated_selection_finds_what_matters(folder: Path) -> None:
    """And the model of these columns is there, with the release that the file asks for."""
    trail = trail_of(folder)
    assert set(trail.selected or ()) == {("bank", "good"), ("card", "other"), ("card", "strong")}
    assert [step.decision for step in trail.steps] == ["begin", "added", "added", "stopped"]
    losses = [step.loss for step in trail.steps if step.loss is not None]
    assert losses == sorted(losses, reverse=True)
    assert len(trail.trials) <= trail.most_jobs
    assert trail.final is not None
    parties = folder / "select-selection" / "parties"
    manifest = json.loads((parties / BANK / "models" / trail.final.job / "manifest.json").read_text())
    assert (manifest["release"], [one["name"] for one in manifest["encoding"]["columns"]]) == ("owners", ["good"])
    tried = json.loads((parties / BANK / "models" / trail.trials[0].job / "manifest.json").read_text())
    assert tried["release"] == "shared", "nobody is given weights by a job that only tries"
    assert trail.costs["models"] == trail.most_jobs
    assert "scorings" not in {name for name, amount in trail.costs.items() if amount > 1}


def test_a_selection_that_was_interrupted_runs_no_job_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same trail comes of it, without a job; of half a trail, by the other half's jobs."""
    before, path = trail_of(folder), folder / "select-selection" / FILE
    ran: list[str] = []
    known = {one.job: one for one in before.trials}

    def by_simulation(*_: Any) -> Any:
        async def run(job: TrainingJob) -> Trial:
            ran.append(job.id)
            return known[job.id]

        return run

    monkeypatch.setattr("tercet.agents.selection.jobs.by_simulation", by_simulation)
    assert command(folder)[0] == 0
    assert ran == []
    assert trail_of(folder) == before
    half = before.model_copy(update={"trials": before.trials[:3], "steps": (), "selected": None, "final": None})
    path.write_text(half.model_dump_json())
    assert command(folder)[0] == 0
    assert ran == [one.job for one in before.trials[3:]]
    assert trail_of(folder) == before


def test_the_page_shows_each_step_and_hides_nothing_of_it(folder: Path) -> None:
    trail = trail_of(folder)
    page = (folder / "select-selection" / PAGE).read_text()
    final = trail_of(folder).final
    assert final is not None
    assert selection_file(folder / "select-selection" / "parties" / BANK, final.job).read_text() == page
    for step in trail.steps:
        assert step.why in page
    assert all(one.job in page for one in trail.trials)
    hostile = trail.model_copy(update={"left_out": (("card", "<script>", "its IV is 0"),)})
    assert "<script>" not in render_page(hostile)
    assert "&lt;script&gt;" in render_page(hostile)


def test_python_goes_by_the_same_file(folder: Path) -> None:
    """And gives columns by party; all jobs were run before."""
    found = tercet.select(folder / "select.toml", simulate=folder)
    assert found.columns == {"bank": ("good",), "card": ("other", "strong")}
    assert found.job == found.trail["final"]["job"]
    assert found.loss is not None
    assert "good" in repr(found)
    with pytest.raises(Invalid, match="at the label party, bank"):
        tercet.Party(folder / "card.toml").select(folder / "select.toml")


def test_a_plan_counts_and_runs_nothing(folder: Path, tmp_path: Path) -> None:
    code, text = command(folder, "--plan", "--out", str(tmp_path / "none"))
    assert code == 0
    assert json.loads(text)["most_jobs"] == 8
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("min_gain = 0.02", "max_jobs = 7"), "may take 8 jobs"),
        (('split = "selection"', ""), "name a split"),
        (("held_out_loss = true", "loss = true"), "held_out_loss = true"),
        (('"strong"]', '"strong"]\nshop = ["x"]'), "names shop"),
        (("[search]", '[always]\nbank = ["income"]\n[search]'), "not among its"),
        (("[search]", '[filter]\nstatistics = "stats-1"\n[search]'), "statistics job"),
        (('label = "bank"', 'label = "bank"\nstart = "first-12345678"'), "leave"),
        (('label = "bank"', 'label = "bank"\nrelease = "shared"'), "receives none"),
        (("epochs = 2", "epochs = 2\n[job.early_stopping]\non = 'auc'"), "metric needs"),
    ],
)
def test_what_cannot_be_is_refused_before_a_job(
    folder: Path, tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    written = WRITTEN.replace("[search]", '[search]\nmethod = "refit"') if "shared" in change[1] else WRITTEN
    (tmp_path / "select.toml").write_text(written.replace(*change))
    found = CliRunner().invoke(app, ["select", str(tmp_path / "select.toml"), "--simulate", str(folder)])
    assert found.exit_code == 3
    assert said in " ".join(found.stderr.split())


def test_a_budget_that_all_jobs_would_pass_is_refused_before_the_first(folder: Path, tmp_path: Path) -> None:
    """By the party's own bound, whichever party's settings are here."""
    file = read_selection(folder / "select.toml")
    settings = [read_settings(folder / f"{party}.toml") for party in (BANK, CARD)]
    small = [
        own.model_copy(
            update={
                "state": tmp_path / own.party,
                "tables": {"customers": own.tables["customers"].model_copy(update={"max_models": 7})},
            }
        )
        for own in settings
    ]
    for parties in ([small[0], settings[1]], [settings[0], small[1]]):
        with pytest.raises(Invalid, match=r"may take 8 jobs.*max_models"):
            ColumnSelection.prepare(file, parties, tmp_path / "out")
    done = trail_of(folder)
    assert ColumnSelection.prepare(file, small, folder / "select-selection").trail.trials == done.trials
    half = done.model_copy(update={"trials": done.trials[:3], "steps": (), "selected": None, "final": None})
    half.save(tmp_path / "half")
    ColumnSelection.prepare(file, small, tmp_path / "half")
    spent = {"models": 5.0}
    BudgetFile(small[1].state / BUDGET).start_with([Spending("credit-1", "00", "customers", BANK, spent)])
    with pytest.raises(Invalid, match=r"may take 4 jobs more.*max_models"):
        ColumnSelection.prepare(file, small, tmp_path / "half")


def test_a_budget_that_cannot_be_read_is_told(folder: Path, tmp_path: Path) -> None:
    own = read_settings(folder / "bank.toml").model_copy(update={"state": tmp_path})
    (tmp_path / BUDGET).mkdir()
    with pytest.raises(Invalid, match=r"exposure\.jsonl: Is a directory; run this as the user of bank's agent"):
        ColumnSelection.prepare(read_selection(folder / "select.toml"), [own], tmp_path / "out")


def test_filters_read_what_a_statistics_job_has_left(folder: Path, tmp_path: Path) -> None:
    """Of partners' columns those alone that have a name."""
    values = {"good": 0.5, "noise": 0.001}
    own = [(NumericBins(name=name, cuts=(0.0,)), Power(iv=iv)) for name, iv in values.items()]
    axes = tuple(Axis(party=CARD, number=n, name=name) for n, name in ((1, "other"), (2, "strong"), (3, None)))
    StatisticsResult(
        job="stats-1",
        run="00",
        party=BANK,
        label_party=BANK,
        counted=CountedRows(tables=((BANK, "people"), (CARD, "people"))),
        rows=9,
        held_out=0,
        label="logistic",
        own=tuple(OwnColumn(bins=bins, rows=(1,) * bins.count, power=power) for bins, power in own),
        partners=(
            PartnerColumn(party=CARD, number=2, name="strong", power=Power(iv=0.9)),
            PartnerColumn(party=CARD, number=3, power=Power(iv=0.8)),
        ),
        correlations=CorrelationMap(columns=axes, matrix=((1.0, 0.97, 0.1), (0.97, 1.0, 0.1), (0.1, 0.1, 1.0))),
    ).save(statistics_file(tmp_path, "stats-1").parent)
    (tmp_path / "select.toml").write_text(
        WRITTEN + '[filter]\nstatistics = "stats-1"\nmin_iv = 0.02\nmax_correlation = 0.9\n'
    )
    bank = read_settings(folder / "bank.toml").model_copy(update={"state": tmp_path})
    selection = ColumnSelection.prepare(read_selection(tmp_path / "select.toml"), [bank], tmp_path / "out")
    assert selection.trail.left_out == (
        ("bank", "noise", "its IV is 0.001, below 0.02"),
        ("card", "other", "its correlation with strong of card is 0.970 in size, above 0.9"),
    )
    assert selection.space.candidates[0].column == "strong"
    assert {one.column for one in selection.space.first} == {"strong"}
    assert selection.trail.unjudged == (("bank", "good", "max_correlation"),), (
        "what a filter has left out needs no other"
    )
    assert "<li>good of bank: max_correlation</li>" in render_page(selection.trail)


@pytest.mark.real_time
def test_a_running_agent_runs_the_jobs_by_its_socket(folder: Path, tmp_path: Path) -> None:
    """Those that it has run already are looked up; a job that fails ends the selection, with what to do."""
    (tmp_path / "select.toml").write_text(WRITTEN.replace("[search]", '[search]\nmethod = "refit"\nshare = 0.5'))
    with tercet.Rehearsal(*(folder / f"{party}.toml" for party in (BANK, CARD, NOTARY))) as rehearsal:
        bank = rehearsal.parties[BANK]
        found = bank.select(tmp_path / "select.toml")
        assert found.columns == {"bank": ("good",), "card": ("other", "strong")}
        assert found.trail["trials"][0]["weights"].keys() == {"good", "noise"}
        jobs = len(bank.list())
        again = bank.select(tmp_path / "select.toml", out=tmp_path / "again")
        assert again.trail["trials"] == found.trail["trials"]
        assert len(bank.list()) == jobs
        status, file = bank.status(found.job), read_selection(tmp_path / "select.toml")
        console = Earlier("failed", status)
        trial: Trial = asyncio.run(by_agent(cast("ConsoleClient", console), BANK)(file.job))
        assert (trial.job, console.resumed) == (found.job, [found.job])
        console = Earlier("cancelled", status)
        run = by_agent(cast("ConsoleClient", console), BANK)
        tried = [asyncio.run(run(file.job)) for _ in range(2)]  # the same one stands in its place in each call
        assert tried[0] == tried[1]
        assert tried[0].asked == file.job.id != tried[0].job
        assert console.submitted == [file.job.id, tried[0].job] * 2
        with pytest.raises(SelectionStopped, match=r"was cancelled\. Repeat .* another in its place"):
            trial_of(file.job, status.model_copy(update={"state": "cancelled"}), BANK)
        failed = Failure(code="training.worthless", stage="training", culprit=BANK, reason="none is better")
        assert trial_of(file.job, status.model_copy(update={"failure": failed}), BANK).loss is None


class Earlier:
    """A console of an agent at which an earlier call's job has ended badly, and what is begun now succeeds."""

    def __init__(self, state: str, after: JobStatus) -> None:
        self._state, self._after = state, after
        self._jobs: dict[str, JobStatus] = {}
        self.submitted: list[str] = []
        self.resumed: list[str] = []

    async def submit(self, job: TrainingJob, _: str) -> Status:
        """As a console does; the first job is the earlier call's."""
        self.submitted.append(job.id)
        known = {"job": self._after.job, "state": self._state} if not self._jobs else {"job": job.id}
        return Status(jobs=(self._jobs.setdefault(job.id, self._after.model_copy(update=known)),))

    async def resume(self, job: str) -> Status:
        """As a console does."""
        self.resumed.append(job)
        self._jobs = dict.fromkeys(self._jobs, self._after)
        return Status(jobs=(self._after,))

    async def query(self, job: str) -> Status:
        """As a console does."""
        return Status(jobs=(next(one for one in self._jobs.values() if one.job == job),))
