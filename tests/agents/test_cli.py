"""The command line: data on standard output, the rest on standard error, and exit codes that scripts can rely on."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.cli import app
from agents.demo import example_folder
from agents.model_part import load
from schemas.messages import JobStatus

CREDIT = example_folder()
JOB = (CREDIT / "job.toml").read_text()


@pytest.fixture
def tercet():
    """Runs a command and returns its result."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def short_job(tmp_path: Path) -> Path:
    """The credit example with one epoch of large batches, beside its settings."""
    for path in CREDIT.glob("*"):
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    job = tmp_path / "job.toml"
    job.write_text(JOB.replace("epochs = 8", "epochs = 1").replace("batch = 512", "batch = 4096"))
    return job


def test_simulate_prints_one_json_object(tercet, short_job):
    """With everything that a script may want, and nothing else on standard output."""
    done = tercet("simulate", short_job, "--format", "json")
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    expected = {"job", "state", "model", "parties", "rows", "steps", "bytes", "metrics", "bit_exact"}
    assert expected | {"seconds_per_step"} <= result.keys()
    assert result["bit_exact"] is True
    assert result["state"] == "done"
    assert result["rows"] == 24_000
    assert result["bytes"]["masked inputs"] > 24_000 * 91 * 8
    assert result["messages"]["masked labels"] == result["steps"]
    assert result["bytes"]["gradient share"] > result["steps"] * 91 * 8
    assert "model_parts" not in result  # they went nowhere that stays


def test_simulate_keeps_the_parts_where_it_is_told(tercet, short_job, tmp_path):
    """One folder a party, readable by `model_part.load`."""
    result = json.loads(tercet("simulate", short_job, "--format", "json", "--out", tmp_path / "out").stdout)
    for party in ("bank", "card"):
        part, arrays = load(Path(result["model_parts"][party]))
        assert part.party == party
        assert arrays["weights"].shape == (len(part.columns), 1)


def test_a_failed_job_exits_with_1_and_says_whose_fault_it_is(tercet, short_job):
    """Here the card processor's table has lost a column's number."""
    table = short_job.parent / "card_train.csv.gz"
    table.write_bytes((short_job.parent / "bank_train.csv.gz").read_bytes())
    done = tercet("simulate", short_job, "--format", "json")
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert (result["state"], result["bit_exact"]) == ("failed", False)
    assert result["failure"]["culprit"] == "card"
    assert "card" in result["details"]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("epochs = 8", "epochs = 0"), "training.epochs"),
        (('label = "bank"', 'label = "teller"'), "teller"),
        (('helper = "notary"', 'helper = "card"'), "helper and data party"),
        (("batch = 512", "batsch = 512"), "batsch"),
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
    assert names in done.stderr
    assert done.stdout == ""


def test_missing_files_exit_with_3(tercet, tmp_path):
    """A job, settings, or a party's settings beside the job."""
    for arguments in (("simulate", tmp_path / "none.toml"), ("agent", tmp_path / "none.toml")):
        done = tercet(*arguments)
        assert done.exit_code == 3
        assert "none.toml" in done.stderr
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
    assert "chmod 600" in done.stderr


def test_usage_errors_exit_with_2_and_help_with_0(tercet):
    """As everywhere."""
    assert tercet("simulate").exit_code == 2
    assert tercet("fly").exit_code == 2
    assert tercet("--help").exit_code == 0
    assert tercet("--version").stdout.startswith("tercet ")


def test_the_demo_beats_whoever_goes_alone(tercet, tmp_path):
    """Within a thousandth of pooled plaintext, and far above the bank alone."""
    done = tercet("demo", "--out", tmp_path, "--format", "json")
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    auc = result["held_out_auc"]
    assert result["bit_exact"] is True
    assert abs(auc["tercet"] - auc["pooled"]) <= 0.001
    assert auc["tercet"] >= auc["bank"] + 0.06
    assert all((tmp_path / party / "models").is_dir() for party in ("bank", "card"))


def test_a_status_survives_its_json():
    """What `--format json` prints is what the agent knows."""
    told = {"job": "a-1", "state": "done", "kind": "training", "model": "linear", "label": "a", "helper": "h"}
    status = JobStatus(**told, parties=(), submitted="now", metrics={"rmse": 0.5}, loss=1.5, scores="s.csv")
    assert JobStatus.model_validate_json(status.model_dump_json()) == status
