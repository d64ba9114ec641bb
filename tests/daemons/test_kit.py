"""From one file to a first trained model, by the commands of the kits' own pages, over a real RabbitMQ."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from tercet.agents.cli.app import app
from tercet.agents.core.shipped_files import shipped
from tests.daemons.test_over_rabbitmq import wait_until
from tests.forked import Forked
from tests.rabbitmq_node import Node

CREDIT = shipped("credit")
PARTIES = {"lender": "label", "processor": "data", "witness": "helper"}
CONSORTIUM = f"""
name = "defaults"
[broker]
url = "amqp://ADDRESS/kit"
[parties.lender]
role = "label"
[parties.processor]
role = "data"
[parties.witness]
role = "helper"
[parties.lender.tables.customers]
path = "bank.csv.gz"
id = "customer"
label = "defaulted"
categorical = ["sex", "education", "marriage"]
[parties.processor.tables.delays]
path = {str(CREDIT / "card.parquet")!r}
id = "client_id"
"""
PLACEHOLDER = re.compile(r'"the key that ([a-z]+) sends"')
PATIENCE = 120.0
pytestmark = pytest.mark.real_time


class Kits:
    """The kits' folder, and each party's shell in its own folder of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "defaults"
        program = folder / "bin" / "tercet"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tercet "$@"\n')
        program.chmod(0o755)
        self.environment = os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
        self.agents: dict[str, Forked] = {}

    def command(self, party: str, beginning: str) -> str:
        """Find the one command of a party's page that begins so."""
        page = (self.folder / party / "NEXT-STEPS.md").read_text()
        (line,) = re.findall(rf"^{beginning}.*$", page, re.MULTILINE)
        return str(line)

    def run(self, party: str, beginning: str, **changes: str) -> str:
        """What it says; it ends well. The lender's shell submits the job, and this process does all else."""
        command = self.command(party, beginning)
        for old, new in changes.items():
            command = command.replace(old, new)
        if party != "lender" or not command.startswith("tercet job submit"):
            return self.run_here(self.folder / party, command)
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder / party,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @staticmethod
    def run_here(folder: Path, command: str) -> str:
        """What a command says in this process, in a folder; it ends well."""
        with chdir(folder):
            done = CliRunner().invoke(app, shlex.split(command)[1:])
        structlog.reset_defaults()  # what the command has set up ends with it
        assert done.exit_code == 0, done.output
        return done.stdout

    def start(self, party: str) -> None:
        """Leave the agent running."""
        place = self.folder / party
        self.agents[party] = Forked(
            "tercet", shlex.split(self.command(party, "tercet agent"))[1:], place / "log", place
        )

    def wait_until_up(self) -> None:
        """Return when all agents take jobs."""
        logs = [self.folder / party / "log" for party in self.agents]
        wait_until(lambda: all('"agent is up"' in log.read_text() for log in logs), PATIENCE)

    def stop(self) -> None:
        """End all agents."""
        for agent in self.agents.values():
            agent.terminate()
        for agent in self.agents.values():
            agent.wait(PATIENCE)


@pytest.fixture
def kits(tmp_path: Path, rabbitmq: Node) -> Iterator[Kits]:
    """The command has written them, and the broker has its definitions."""
    kits = Kits(tmp_path)
    text = CONSORTIUM.replace("ADDRESS", f"{rabbitmq.address}:{rabbitmq.port}")
    (tmp_path / "consortium.toml").write_text(text)
    kits.run_here(tmp_path, "tercet kit consortium.toml")
    rabbitmq.control("import_definitions", str(kits.folder / "broker" / "definitions.json"))
    yield kits
    kits.stop()


def test_kits_lead_to_a_first_model(kits: Kits) -> None:
    """Each party makes its key and enters the others'; the label party's command names a report."""
    lines = {party: kits.run(party, "tercet keygen").strip() for party in PARTIES}
    for party in PARTIES:
        settings = kits.folder / party / "settings.toml"
        settings.write_text(PLACEHOLDER.sub(lambda found: json.dumps(lines[found[1]]), settings.read_text()))
    (kits.folder / "lender" / "bank.csv.gz").write_bytes((CREDIT / "bank.csv.gz").read_bytes())
    assert "defaulted" in kits.run("lender", "tercet table")
    assert "client_id" in kits.run("processor", "tercet table")
    for party in PARTIES:
        kits.start(party)
    kits.wait_until_up()
    for party in PARTIES:  # the rights at the broker are neither too few nor too many
        assert "fail" not in kits.run(party, "tercet doctor")
    job = kits.folder / "lender" / "job.toml"
    job.write_text(job.read_text() + "\n[training]\nepochs = 2\n")
    (name,) = {*re.findall(r"defaults-[0-9a-f]{8}", kits.run("lender", "tercet job submit"))}
    shown = kits.run("lender", "tercet job watch", ID=name)
    assert re.search(r"state\W+done", shown)
    assert re.search(r"auc\W+0\.[67]", shown)
    assert re.search(r"report\W+state/reports", shown), shown
    assert (kits.folder / "lender" / "state" / "reports" / f"{name}.html").exists()
    assert name in kits.run("processor", "tercet job list")
