"""The command line: data on standard output, the rest on standard error, and exit codes that scripts can rely on."""

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from pyarrow.csv import read_csv, write_csv
from typer.testing import CliRunner

from tercet.agents.cli import demo
from tercet.agents.cli.app import app
from tercet.agents.core.shipped_files import shipped
from tercet.agents.models.model_part import load
from tercet.schemas.files.job import AnyJob, TrainingJob, read_job
from tercet.schemas.messages.kinds import JobStatus
from tercet.tables.snapshot.hints import CODE, EMPTY
from tests.agents.cli.test_bar import status

CREDIT = shipped("credit")
JOB = (CREDIT / "job.toml").read_text()


@pytest.fixture
def tercet():
    """Runs a command and returns its result."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def short_job(tmp_path: Path) -> Path:
    """The credit example with one epoch, beside its settings."""
    return short_job_in(tmp_path)


def short_job_in(folder: Path) -> Path:
    """The same, in a folder."""
    for path in CREDIT.glob("*"):
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    job = folder / "job.toml"
    job.write_text(JOB.replace("epochs = 10", "epochs = 1\nbatch = 512"))
    return job


@pytest.fixture
def smaller_job(short_job: Path) -> Path:
    """The same over a tenth of the customers."""
    customers, delays = short_job.parent / "bank.csv.gz", short_job.parent / "card.parquet"
    with pa.CompressedInputStream(customers, "gzip") as compressed:
        table = read_csv(compressed)
    with pa.CompressedOutputStream(customers, "gzip") as compressed:
        write_csv(table.filter(tenth(table["customer"])), compressed)
    table = parquet.read_table(delays)
    parquet.write_table(table.filter(tenth(table["client_id"])), delays)
    return short_job


def tenth(ids: pa.ChunkedArray) -> pa.Array:
    """Which of the customers' ids end in 7."""
    return pa.array([int(one) % 10 == 7 for one in ids.to_pylist()])


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """What a traced run said, and the folder of its job, where everything was kept under `out`."""
    folder = tmp_path_factory.mktemp("kept")
    arguments = ["simulate", str(short_job_in(folder)), "--format", "json", "--trace", "--out", str(folder / "out")]
    return folder, json.loads(CliRunner().invoke(app, arguments).stdout)


def test_a_narrow_encoding_of_the_output_ends_no_command(tmp_path):
    """What it lacks is printed as an escape, in tables as well."""
    (tmp_path / "bank.csv").write_text("id,Umsatz in \u20ac\n1,2\n2,3\n", encoding="utf-8")
    settings = 'party = "bank"\nidentity = "key"\nstate = "s"\n[tables.t]\npath = "bank.csv"\nid = "id"\n'
    (tmp_path / "bank.toml").write_text(settings)
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LC_"))}
    command = [sys.executable, "-m", "tercet", "table", str(tmp_path / "bank.toml")]
    done = subprocess.run(command, env=inherited | environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Umsatz in \\u20ac" in done.stdout


def test_simulate_prints_one_json_object(stored):
    """With everything that a script may want, and nothing else on standard output."""
    _, result = stored
    expected = {"job", "state", "model", "parties", "rows", "steps", "bytes", "metrics", "loss", "bit_exact"}
    assert expected | {"seconds_per_step"} <= result.keys()
    assert result["bit_exact"] is True
    assert result["state"] == "done"
    assert result["table_rows"] == {"bank": 26_000, "card": 26_000}
    assert result["rows"] + result["held_out"] == 23_400
    assert 0.19 < result["held_out"] / 23_400 < 0.21
    columns = sum(result["columns"].values())
    assert 72 <= columns <= 82  # whitened; the directions that one-hot columns leave empty are gone
    assert result["bytes"]["masked inputs"] > 23_400 * columns * 8
    assert result["messages"]["masked labels"] == result["steps"]  # those of the loss, once for each row
    assert result["bytes"]["dealt shares"] > result["steps"] * columns * 8
    assert 0.5 < result["metrics"]["auc"] < 0.8
    assert 0 < result["loss"] < 0.7


def test_simulate_names_no_file_where_none_stays(tercet, smaller_job):
    """Model parts, scores and reports went with the folder that they were in."""
    done = tercet("simulate", smaller_job, "--format", "json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["state"] == "done"
    assert not {"model_parts", "scores", "reports"} & result.keys()


def test_simulate_tells_what_a_step_was_spent_on(tercet, stored, smaller_job):
    """At every party, if it is asked to; and nothing of what was computed."""
    _, result = stored
    assert result["trace"].keys() == {"bank", "card", "notary"}
    assert len({step["step"] for step in result["trace"].values()}) == 1
    bank, notary = (result["trace"][party]["events"] for party in ("bank", "notary"))
    assert {"wait", "maths", "send", "open"} <= {event["kind"] for event in bank}
    assert {event["loop"] for event in bank} <= {"online", "ahead", "dealt", "inbox"}
    assert {"bank", "card"} == {party for event in notary if event["kind"] == "send" for party in event["whom"]}
    assert "score opening" in tercet("simulate", smaller_job, "--trace").stdout


def test_simulate_keeps_the_parts_where_it_is_told(stored):
    """One folder a party, readable by `model_part.load`."""
    _, result = stored
    for party in ("bank", "card"):
        part, arrays = load(Path(result["model_parts"][party]))
        assert part.party == party
        assert arrays["weights"].shape == (len(part.columns), 1)


def test_a_failed_job_exits_with_1_and_says_whose_fault_it_is(tercet, short_job):
    """Here the card processor's table is no Parquet file."""
    table = short_job.parent / "card.parquet"
    table.write_bytes((short_job.parent / "bank.csv.gz").read_bytes())
    done = tercet("simulate", short_job, "--format", "json")
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert (result["state"], result["bit_exact"]) == ("failed", False)
    assert result["failure"]["culprit"] == "card"
    assert "card" in result["details"]


def test_simulate_scores_new_rows_with_a_model_of_the_same_folder(tercet, stored):
    """An id and a score for each customer whom both know, at the bank alone, in the order of its file."""
    folder, trained = stored
    out, predict = folder / "out", folder / "predict.toml"
    predict.write_text(re.sub('of = "[^"]*"', f'of = "{trained["job"]}"', predict.read_text()))
    done = tercet("simulate", predict, "--format", "json", "--out", out)
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["kind"], result["state"], result["rows"]) == ("prediction", "done", 1000)
    assert result["bit_exact"] is None
    assert result["scores"].keys() == {"bank"}
    path = Path(result["scores"]["bank"])
    assert (path.stat().st_mode & 0o777, path.is_relative_to(out)) == (0o600, True)
    scored = list(csv.DictReader(path.read_text().splitlines()))
    mine = [row["customer"] for row in csv.DictReader((folder / "bank_new.csv").read_text().splitlines())]
    theirs = set(parquet.read_table(folder / "card_new.parquet")["client_id"].to_pylist())
    assert [row["id"] for row in scored] == [one for one in mine if int(one) in theirs]
    assert all(0 < float(row["probability"]) < 1 for row in scored)
    shown = tercet("simulate", predict, "--out", out).stdout
    assert "1000" in shown.replace(",", "")
    assert any(line.startswith("scores at bank: ") and Path(line.split(": ")[1]).exists() for line in shown.split("\n"))


def test_a_prediction_without_its_model_fails_and_says_so(tercet, short_job, tmp_path):
    """The simulator's parties have only what is in the folder that it is given."""
    done = tercet("simulate", tmp_path / "predict.toml", "--format", "json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["failure"]["code"] == "model.missing"
    assert "job failed" not in done.stderr, "it is said once, and not by each party's log"


def test_predict_takes_no_training_job(tercet, short_job):
    """It says what to write instead; nothing is asked of the agent."""
    done = tercet("predict", short_job, "--settings", short_job.parent / "bank.toml")
    assert done.exit_code == 3
    assert 'kind = "prediction"' in done.stderr.replace("\n", " ")
    assert done.stdout == ""


# --- tables


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings with a table of every kind of column, beside an empty folder for temporary files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (tmp_path / "people.csv").write_text(
        "number,owes,height,colour,shoe,note,zip,nothing\n"
        "007,1,1.5,red,41,a-secret-note,01001,\n"
        "008,0,,green,42,,10002,\n"
        "009,1,2.5,red,41,another-note,01102,\n"
    )
    (tmp_path / "others.csv").write_text("number,height\n1,tall-as-a-tree\n")
    settings = tmp_path / "bank.toml"
    settings.write_text(
        'party = "bank"\nidentity = "none.key"\nstate = "state"\n'
        '[tables.people]\npath = "people.csv"\nid = "number"\nlabel = "owes"\ncategorical = ["shoe"]\n'
        '[tables.others]\npath = "others.csv"\nid = "number"\nnumeric = ["height"]\n'
    )
    return settings


def test_table_says_what_each_column_is_taken_for(tercet, people):
    """As JSON, without a value of the table; neither key, state folder nor broker is needed, and nothing is left."""
    done = tercet("table", people, "people", "--format", "json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found.keys() == {"people"}
    assert found["people"]["rows"] == 3
    columns = {one.pop("column"): tuple(one.values()) for one in found["people"]["columns"]}
    assert columns == {
        "number": ("id", True, 0, None, 3, None),
        "owes": ("label", True, 0, pytest.approx(2 / 3), None, None),
        "height": ("numeric", False, 1, 2.0, None, None),
        "colour": ("categorical", False, 0, None, 2, None),
        "shoe": ("categorical", True, 0, None, 2, None),
        "note": ("categorical", False, 1, None, 2, None),
        "zip": ("numeric", False, 0, pytest.approx(4035.0), None, CODE),
        "nothing": ("numeric", False, 3, None, None, EMPTY),
    }
    assert 'note"' in done.stdout
    assert "secret" not in done.output
    assert sorted(path.name for path in people.parent.iterdir()) == [
        "bank.toml", "others.csv", "people.csv", "temporary"
    ]  # fmt: skip
    assert list((people.parent / "temporary").iterdir()) == []


def test_table_says_what_is_odd_about_one(tercet, people):
    """As a job would say it to its owner."""
    (people.parent / "people.csv").write_text("number,owes,height\n1,1,1.5\n2,0,?\n3,0,2.5\n")
    people.write_text(people.read_text().replace('categorical = ["shoe"]\n', ""))
    reported = "column 'height' has 1 value read as missing: a sign such as ? or None (line 3)"
    assert json.loads(tercet("table", people, "people", "--format", "json").stdout)["people"]["warnings"] == [reported]
    assert f"warning: {reported}" in tercet("table", people, "people").stderr


def test_table_prints_for_people_too(tercet, people):
    """Every column has its line."""
    done = tercet("table", people, "people")
    assert done.exit_code == 0
    assert "people: 3 rows" in done.stdout
    cells = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines() if "│" in line]
    lines = {line[1]: line[2:8] for line in cells}
    (header,) = (line for line in done.stdout.replace("┃", " ").splitlines() if " kind " in line)
    assert header.split() == ["column", "kind", "declared", "missing", "mean", "distinct"]
    assert lines["height"][:5] == ["numeric", "False", "1", "2", ""]
    assert lines["colour"][:5] == ["categorical", "False", "0", "", "2"]
    assert {"number", "owes", "colour", "shoe", "note"} <= lines.keys()
    assert f"zip: {CODE}" in done.stdout
    assert f"nothing: {EMPTY}" in done.stdout


@pytest.mark.parametrize("first", [True, False])
def test_a_table_that_cannot_be_used_hides_no_other(tercet, people, first):
    """Whichever stands first in the settings; in JSON each is where it is looked for. No value is told or left."""
    if first:
        head, *tables = people.read_text().split("[tables.")
        people.write_text("[tables.".join([head, *reversed(tables)]))
    done = tercet("table", people)
    assert (done.exit_code, "people: 3 rows" in done.stdout, "'height'" in done.stderr) == (3, True, True)
    assert "line 2" in done.stderr.replace("\n", " ")
    assert "tree" not in done.output
    assert list((people.parent / "temporary").iterdir()) == []
    done = tercet("table", people, "--format", "json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["people"]["rows"], found["others"].keys()) == (3, 3, {"error"})
    assert "'height'" in found["others"]["error"]


def test_a_table_that_the_settings_do_not_list_exits_with_3(tercet, people):
    """Nothing is read."""
    done = tercet("table", people, "nobody")
    assert done.exit_code == 3
    assert "'nobody'" in done.stderr.replace("\n", "")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("epochs = 10", "epochs = 0"), "training.epochs"),
        (('label = "bank"', 'label = "teller"'), "teller"),
        (('helper = "notary"', 'helper = "card"'), "helper and data party"),
        (("epochs = 10", "epochs = 10\nbatsch = 512"), "batsch"),
        (('model = "logistic"', 'model = "forest"'), "model"),
        (("[training]", "[training"), "not TOML"),
    ],
)
def test_a_job_file_that_is_wrong_exits_with_3_and_names_the_field(tercet, tmp_path, change, names):
    """Nothing starts."""
    job = tmp_path / "job.toml"
    job.write_text(JOB.replace(*change))
    done = tercet("simulate", job)
    assert done.exit_code == 3
    assert "".join(names.split()) in "".join(done.stderr.split())
    assert done.stdout == ""


def test_missing_files_exit_with_3(tercet, tmp_path):
    """A job, settings, or a party's settings beside the job."""
    for arguments in (("simulate", tmp_path / "none.toml"), ("agent", tmp_path / "none.toml")):
        done = tercet(*arguments)
        assert done.exit_code == 3
        assert "none.toml" in done.stderr.replace("\n", "")
    (tmp_path / "job.toml").write_text(JOB)
    done = tercet("simulate", tmp_path / "job.toml")
    assert done.exit_code == 3
    assert "bank.toml" in done.stderr.replace("\n", "")


def test_keygen_prints_the_public_key_and_hides_the_private_one(tercet, tmp_path):
    """The file is for its owner only and is never overwritten."""
    path = tmp_path / "keys" / "bank.key"
    done = tercet("keygen", path)
    assert done.exit_code == 0
    assert done.stdout.startswith("tercet-key-1:")
    assert path.stat().st_mode & 0o777 == 0o600
    private = path.read_text()
    assert private.splitlines()[1] not in done.output
    assert tercet("keygen", path).exit_code == 3
    assert path.read_text() == private


def test_an_agent_whose_key_others_may_read_does_not_start(tercet, tmp_path):
    """It says which command mends it."""
    key = tmp_path / "bank.key"
    tercet("keygen", key)
    key.chmod(0o644)
    settings = tmp_path / "bank.toml"
    settings.write_text('party = "bank"\nidentity = "bank.key"\nstate = "state"\n')
    done = tercet("agent", settings)
    assert done.exit_code == 3
    assert "chmod600" in "".join(done.stderr.split())


def test_usage_errors_exit_with_2_and_help_with_0(tercet):
    """As everywhere."""
    assert tercet("simulate").exit_code == 2
    assert tercet("fly").exit_code == 2
    assert tercet("--help").exit_code == 0
    assert tercet("--version").stdout.startswith("tercet ")


def shorten_demo(monkeypatch: pytest.MonkeyPatch, epochs: int, **network: Any) -> None:
    """Let the demo's trainings have fewer epochs, and their networks other layers."""

    def shorter(path: Path) -> AnyJob:
        job = read_job(path)
        if not isinstance(job, TrainingJob):
            return job
        changes: dict[str, Any] = {"training": job.training.model_copy(update={"epochs": epochs})}
        if job.network is not None:
            changes["network"] = job.network.model_copy(update=network)
        return job.model_copy(update=changes)

    monkeypatch.setattr(demo, "read_job", shorter)


def test_the_demo_beats_whoever_goes_alone(tercet, tmp_path, monkeypatch):
    """As near to pooled plaintext as two of its orders are, and far above the bank alone, whatever the helper sees.

    Four epochs of ten: orders are no farther apart after them.
    """
    shorten_demo(monkeypatch, 4)
    done = tercet("demo", "--out", tmp_path, "--format", "json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    for trained in (result, result[demo.SHOWN]):
        auc = trained["held_out_auc"]
        assert trained["bit_exact"] is True
        assert abs(auc["tercet"] - auc["pooled"]) <= 0.003  # of orders one pair in eight is more than 0.001 apart
        assert auc["tercet"] >= auc["bank"] + 0.06
    # What the helper would compute activations from, and its answers, travel in the second alone.
    shown = {"pre-activation share", "masked activation"}
    assert not shown & result["bytes"].keys()
    assert shown <= result[demo.SHOWN]["bytes"].keys()
    assert all((tmp_path / party / "models").is_dir() for party in ("bank", "card"))
    assert result["prediction"]["rows"] == 1000
    assert 0.72 < result["prediction"]["auc"] < 0.80


def test_the_demo_trains_a_network_as_well_as_plaintext_does(tercet, tmp_path, monkeypatch):
    """One hidden layer: from the same first weights and in the same order, pooled plaintext is no better.

    SiLU where the helper sees nothing, ReLU where it sees scores. One epoch of twelve, and half of the units: they
    beat the bank alone already.
    """

    shorten_demo(monkeypatch, 1, hidden=(16,))
    done = tercet("demo", "--model", "mlp", "--out", tmp_path, "--format", "json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    job = read_job(CREDIT / "mlp.toml")
    assert isinstance(job, TrainingJob)
    assert list(demo.trainings(job, result)) == [
        "nothing, silu",
        "scores in secret order, relu",
    ]
    for trained, most in ((result, 0.001), (result[demo.SHOWN], 0.015)):  # the latter's scores keep noise of layers
        auc = trained["held_out_auc"]
        assert (trained["model"], trained["bit_exact"]) == ("mlp", True)
        assert auc["tercet"] > 0.70  # 0.732 to 0.770 seen: the rows held out are others in each run
        assert auc["tercet"] >= auc["bank"] + 0.06
        assert abs(auc["tercet"] - auc["pooled"]) < most
    # What the helper would compute activations from, and its answers, travel in the second alone.
    assert not {"hidden share", "hidden answer"} & result["bytes"].keys()
    assert {"hidden share", "hidden answer"} <= result[demo.SHOWN]["bytes"].keys()
    assert result["prediction"]["auc"] > 0.70


def test_a_status_survives_its_json():
    """What `--format json` prints is what the agent knows."""
    known = status(job="a-1", state="done", metrics={"rmse": 0.5}, loss=1.5, scores="s.csv")
    assert JobStatus.model_validate_json(known.model_dump_json()) == known
