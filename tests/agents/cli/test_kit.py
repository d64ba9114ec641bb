"""`tercet kit` begins with an example, writes what it says, and prints no secret."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv
from typer.testing import CliRunner, Result

from tercet.agents.cli.app import app
from tercet.schemas.files.settings import read_settings

README = Path(__file__).parents[3] / "README.md"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where the commands are run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tercet(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["kit", *arguments])


def test_the_example_makes_kits(here: Path) -> None:
    """It goes to standard output, as a file to be changed."""
    (here / "consortium.toml").write_text(tercet("--example").stdout)
    done = tercet("consortium.toml")
    assert (done.exit_code, done.stdout) == (0, "")
    assert sorted(path.name for path in (here / "returns").iterdir()) == ["broker", "insurer", "notary", "shop"]
    assert all(f"returns/{name}" in done.stderr for name in ("broker", "insurer", "notary", "shop"))
    for party in ("shop", "insurer", "notary"):
        password = tomllib.loads((here / "returns" / party / "credentials.toml").read_text())["password"]
        assert password not in done.output
        assert read_settings(here / "returns" / party / "settings.toml").party == party


def test_a_second_run_overwrites_nothing(here: Path) -> None:
    """Another folder is taken; the logins there are others."""
    (here / "consortium.toml").write_text(tercet("--example").stdout)
    tercet("consortium.toml")
    done = tercet("consortium.toml")
    assert done.exit_code == 3
    assert "not overwritten" in done.stderr
    assert tercet("consortium.toml", "--out", "deep/er").exit_code == 0
    first, second = ((here / out / "shop/credentials.toml").read_text() for out in ("returns", "deep/er"))
    assert first != second


def test_what_is_wrong_is_said(here: Path) -> None:
    """With the exit codes of all commands."""
    assert tercet().exit_code == 2
    assert tercet("consortium.toml", "--example").exit_code == 2
    assert tercet("consortium.toml").exit_code == 3
    (here / "consortium.toml").write_text(tercet("--example").stdout.replace("[parties.insurer]", '[parties."../x"]'))
    done = tercet("consortium.toml")
    assert done.exit_code == 3
    assert "a name has small letters" in re.sub(r"\s+", " ", done.stderr)
    assert [path.name for path in here.iterdir()] == ["consortium.toml"]


def test_kits_are_simulated_as_they_lie(here: Path) -> None:
    """By the README's command, which begins as the kits' last line says; once the tables are there."""
    (here / "consortium.toml").write_text(tercet("--example").stdout)
    last = tercet("consortium.toml").stderr.splitlines()[-1]
    random = np.random.default_rng(5)
    x, ids = random.normal(size=(600, 12)).round(4), np.arange(600)
    returned = (x @ random.normal(size=12) > 0).astype(int)
    for path, columns in (("shop/orders.csv", x[:, :6]), ("insurer/claims.csv", x[:, 6:])):
        names = {f"column-{number}": column for number, column in enumerate(columns.T)}
        label = {"returned": returned} if path.startswith("shop") else {}
        csv.write_csv(pa.table({"customer": ids, **names, **label}), here / "returns" / path)
    with (here / "returns/shop/job.toml").open("a") as job:
        job.write("\n[training]\nepochs = 3\n")
    (command,) = re.findall(r"^tercet simulate .*$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert command.startswith(last)
    done = CliRunner().invoke(app, [*command.split()[1:], "--format", "json"])
    assert done.exit_code == 0, done.stdout
    result = json.loads(done.stdout)
    assert (result["state"], result["bit_exact"], result["columns"]) == ("done", True, {"shop": 6, "insurer": 6})
    assert result["metrics"]["auc"] > 0.8
    assert Path(result["reports"]["shop"]).exists()
