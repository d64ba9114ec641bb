"""Agents as processes of their own, as their operators would run them: for tests and benchmarks over a real broker.

Everything is under one folder: keys, settings, credentials, states and logs.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit, urlunsplit

import structlog
from typer.testing import CliRunner

from benchmarks.namespaces import Site
from tercet.agents.cli.app import app
from tercet.broker.sealing.identity import Identity, save_identity
from tercet.schemas.files.policy import TablePolicy
from tests.forked import CHECKOUT, Forked

STOP_SECONDS = 20
START_SECONDS = 60

# What nobody would allow: a table may be used by as many jobs as are run over the same agents, of the same rows too.
UNBOUNDED = "".join(f"{name} = 1000000000\n" for name in TablePolicy.model_fields if name.startswith("max_"))
UNBOUNDED += "rescoring = true\n"


@dataclass
class Deployment:
    """A few parties around one RabbitMQ. Use as a context manager: leaving it ends every process it started."""

    forks: ClassVar[bool] = False  # in tests: agents start with their imports done

    folder: Path
    url: str
    tables: Mapping[str, str]  # by data party, the [tables] part of its settings
    helper: str
    extra: str = ""  # more settings, the same for all
    logins: Mapping[str, str] = field(default_factory=dict)  # by party, the [broker] part, if each has its own
    consents: Mapping[str, str] = field(default_factory=dict)  # by party, what it adds to each of its partners
    report: bool = False
    module: Sequence[str] = ("-m", "tests.fixed_agent")
    sites: Mapping[str, Site] = field(default_factory=dict)  # by party, where in a wide-area network it is
    processes: dict[str, subprocess.Popen[bytes] | Forked] = field(default_factory=dict)

    @property
    def parties(self) -> list[str]:
        """The data parties, then the helper."""
        return [*self.tables, self.helper]

    def __enter__(self) -> Self:
        keys = {party: self._key(party) for party in self.parties}
        credentials, bare = self._credentials()
        shared = f'url = "{bare}"\ncredentials = "{credentials}"'
        for party in self.parties:
            more = self.consents.get(party, "")
            partners = "".join(self._partner(p, key) + more for p, key in keys.items() if p != party)
            self.settings(party).write_text(
                f'party = "{party}"\nidentity = "{party}.key"\nstate = "{party}"\n'
                f'role = "{"helper" if party == self.helper else "data"}"\n'
                f"report = {str(self.report).lower()}\n"
                f"[broker]\n{self.logins.get(party, shared)}\n"
                f"{partners}{self.tables.get(party, '')}\n{self.extra}\n"
            )
        return self

    @staticmethod
    def _partner(party: str, key: str) -> str:
        return f'[partners.{party}]\nkey = "{key}"\nmay_submit = true\n'

    def _key(self, party: str) -> str:
        identity = Identity.generate()
        save_identity(identity, self.folder / f"{party}.key")
        return str(identity.public)

    def _credentials(self) -> tuple[Path, str]:
        parts = urlsplit(self.url)
        path = self.folder / "credentials.toml"
        path.touch(0o600)
        path.write_text(f'username = "{parts.username or "guest"}"\npassword = "{parts.password or "guest"}"\n')
        host = parts.netloc.rpartition("@")[2]
        return path, urlunsplit(parts._replace(netloc=host))

    def settings(self, party: str) -> Path:
        """A party's settings file."""
        return self.folder / f"{party}.toml"

    def log(self, party: str) -> list[dict[str, Any]]:
        """What a party's agent has logged so far."""
        lines = (self.folder / f"{party}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def start(self, *parties: str) -> None:
        """Start the agents of these parties, or of all."""
        for party in parties or self.parties:
            self.processes[party] = self._start(party, self.folder / f"{party}.log", str(self.settings(party)))

    def _start(self, party: str, log: Path, settings: str) -> subprocess.Popen[bytes] | Forked:
        if self.forks:
            _, module, *arguments = self.module
            site = self.sites.get(party)
            return Forked(module, [*arguments, settings], log, namespace=None if site is None else site.namespace)
        command = self._at_site(party, sys.executable, *self.module, settings)
        with log.open("ab") as file:
            return subprocess.Popen(command, stdout=file, stderr=file, cwd=CHECKOUT)

    def _at_site(self, party: str, *command: str) -> list[str]:
        return self.sites[party].command(*command) if party in self.sites else [*command]

    def wait_until_up(self) -> None:
        """Return when every agent that was started takes messages."""
        end = time.monotonic() + START_SECONDS
        while not all(any(line["event"] == "agent is up" for line in self.log(p)) for p in self.processes):
            assert time.monotonic() < end, "an agent did not start"
            time.sleep(0.1)

    def socket(self, party: str) -> Path:
        """The socket of a party whose agent is up, once it is there."""
        socket, end = self.folder / party / "agent.sock", time.monotonic() + START_SECONDS
        while not socket.exists():
            assert time.monotonic() < end, "an agent has no socket"
            time.sleep(0.05)
        return socket

    def without_socket(self, party: str) -> None:
        """Let the commands of a party whose agent is up go through the broker."""
        self.socket(party).unlink()

    def stop(self, party: str, how: signal.Signals = signal.SIGTERM) -> int:
        """End one agent; its exit code."""
        process = self.processes.pop(party)
        process.send_signal(how)
        return process.wait(STOP_SECONDS)

    def console(self, *arguments: str, party: str = "bank") -> subprocess.Popen[bytes]:
        """The command line as a process, as one party."""
        return subprocess.Popen(
            self._at_site(party, sys.executable, "-m", "tercet", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"TERCET_SETTINGS": str(self.settings(party))},
            cwd=CHECKOUT,
        )

    def tercet(self, *arguments: str, party: str = "bank") -> subprocess.CompletedProcess[str]:
        """What the command line said, and how it ended."""
        process = self.console(*arguments, party=party)
        out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out.decode(), err.decode())

    def asked(self, *arguments: str, party: str = "bank") -> subprocess.CompletedProcess[str]:
        """The same of a command in this process: for questions that are asked over and over, at a fiftieth of the cost.

        It takes the same way to the agent.
        """
        done = CliRunner().invoke(app, arguments, env={"TERCET_SETTINGS": str(self.settings(party))})
        structlog.reset_defaults()  # what the command has set up ends with it
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)  # one that a test has stopped does not hear SIGTERM
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
