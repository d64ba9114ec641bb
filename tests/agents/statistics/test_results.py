"""The file of a statistics job, and what shows it: the command line and Python."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tercet
from tercet.agents.api.fields import StatisticsFields
from tercet.agents.api.jobs import HELD_OUT
from tercet.agents.api.result import result_of_status
from tercet.agents.cli.app import app
from tercet.agents.statistics.result import StatisticsResult, read_statistics, statistics_file
from tercet.schemas.files.job import StatisticsJob
from tercet.schemas.files.statistics import Measures
from tests.agents.statistics.world import Finished, finish_job, people, statistics_job

SETTINGS = """party = "bank"
identity = "unused"
state = "bank"
[tables.people]
path = "bank.csv"
id = "person_number"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Two parties, and all that a job may tell."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "bank.toml").write_text(SETTINGS)
    return finish_job(statistics_job(2, statistics=Measures(woe=True, correlations="pairs")), folder, people(2))


def shown(finished: Finished, *arguments: str) -> tuple[int, str]:
    """What `tercet statistics` prints, and its exit code."""
    runner = CliRunner(env={"COLUMNS": "200"})
    done = runner.invoke(app, ["statistics", finished.job.id, "-s", str(finished.folder / "bank.toml"), *arguments])
    return done.exit_code, done.output


def test_the_file_is_the_owners_alone_and_survives_json(finished: Finished) -> None:
    path = finished.simulation.runs["bank"].statistics
    assert path == statistics_file(finished.folder / "bank", finished.job.id)
    assert path is not None
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    result = read_statistics(path)
    assert StatisticsResult.model_validate_json(result.model_dump_json()) == result
    assert finished.simulation.runs["notary"].statistics is None


@pytest.mark.parametrize("content", [None, "{}", "no json", '{"format": 2}'])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "statistics.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(tercet.Invalid, match=r"statistics\.json"):
        read_statistics(path)


def test_the_command_line_shows_columns_by_information_value(finished: Finished) -> None:
    code, text = shown(finished)
    assert code == 0
    assert all(word in text for word in ("card_quantity_0", "iv", "ks", "gini"))
    assert "explained" not in text
    code, text = shown(finished, "--format", "json")
    assert StatisticsResult.model_validate_json(text) == finished.result("bank")


def test_the_command_line_shows_the_bins_of_a_column(finished: Finished) -> None:
    code, text = shown(finished, "--column", "bank_housing")
    assert code == 0
    assert all(word in text for word in ("owner", "tenant", "rate", "woe"))
    rows = json.loads(shown(finished, "--column", "bank_quantity_2", "--format", "json")[1])
    assert rows[-1]["bin"] == "missing"
    code, text = shown(finished, "--column", "nothing")
    assert (code, "no column of bank" in text) == (3, True)


PARTIES = {
    "card": 'role = "data"\n[tables.people]\npath = "card.csv"\nid = "person_number"\n',
    "notary": 'role = "helper"\n',
}
JOB = """kind = "statistics"
name = "alone"
label = "bank"
helper = "notary"
tables = {bank = "people", card = "people"}
"""


def test_a_job_is_simulated_from_files(finished: Finished) -> None:
    """With the plaintext beside it, as every job."""
    folder = finished.folder
    (folder / "alone.toml").write_text(JOB)
    (folder / "bank.toml").write_text(SETTINGS + 'label = "defaulted_later"\n')
    for party, content in PARTIES.items():
        (folder / f"{party}.toml").write_text(f'party = "{party}"\nidentity = "unused"\nstate = "{party}"\n{content}')
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["simulate", str(folder / "alone.toml"), "--format", "json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["kind"], found["state"], found["bit_exact"]) == ("statistics", "done", True)
    assert "statistics" not in found, "whose files are gone"


def test_python_has_rows_that_data_frames_take(finished: Finished) -> None:
    result = result_of_status(finished.simulation.runs["bank"].status(), finished.folder / "bank")
    assert result.statistics == finished.result("bank")
    assert {row["party"] for row in result.columns} == {"bank", "card"}
    assert {row["column"] for row in result.bins} == {column.name for column in finished.result("bank").own}
    assert {row["first"].partition("/")[0] for row in result.correlations} == {"bank"}
    assert (result.metrics, result.scores) == ({}, None)


def test_keyword_arguments_make_the_same_job_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(
        'kind = "statistics"\nname = "look"\nlabel = "bank"\nhelper = "notary"\nmodel = "poisson"\n'
        '[tables]\nbank = "a"\ncard = "b"\n[statistics]\nbins = 5\nwoe = true\n[evaluation]\nholdout = 0.2\n'
    )
    made = tercet.Statistics(
        name="look", label="bank", helper="notary", tables={"bank": "a", "card": "b"}, model="poisson", bins=5,
        woe=True, holdout=0.2,
    )  # fmt: skip
    assert made == tercet.Statistics.from_toml(path)
    with pytest.raises(tercet.Invalid, match=r"tercet\.Statistics\.from_toml"):
        tercet.Job.from_toml(path)


def test_every_field_is_a_keyword_argument() -> None:
    top = {"name", "label", "helper", "tables", "kind", "again", "statistics", "evaluation"}
    fields = (StatisticsJob.model_fields.keys() - top) | Measures.model_fields.keys() | {*HELD_OUT}
    assert fields == StatisticsFields.__annotations__.keys()
