"""A job over RabbitMQ with a process for each party, all on this machine, and what each process took.

The parties and the broker talk over loopback, or each from a namespace of its own over a network with a delay.

While a job runs nothing else is started: whoever measures waits for the records that agents write when a job changes
its state.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from benchmarks.namespaces import Site
from tercet.mpc.arithmetic import ring
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.files.settings import TableSettings
from tests.deployment import Deployment
from tests.forked import CHECKOUT
from tests.rabbitmq_node import private_node

POLL_SECONDS = 0.2
ENDED = {"done", "failed", "cancelled"}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Parties:
    """The agents of a benchmark, up and idle."""

    deployment: Deployment
    broker: "Broker"

    def run(self, job: TrainingJob) -> tuple[dict[str, dict[str, Any]], float | None]:
        """A job to its end: each party's last status, and the broker's processor seconds where they can be known."""
        return self.run_file(job.label, job_toml(job))

    def run_file(self, label: str, text: str) -> tuple[dict[str, dict[str, Any]], float | None]:
        """The same of a job as its file has it, submitted by the label party."""
        folder = self.deployment.folder
        path = folder / "job.toml"
        path.write_text(text)
        before = self.broker.seconds
        asked = self.deployment.asked("job", "submit", str(path), "--format", "json", party=label)
        if asked.returncode != 0:
            sys.exit(asked.stderr)
        job = json.loads(asked.stdout)["job"]
        records = {party: folder / party / "jobs" / f"{job}.json" for party in self.deployment.parties}
        statuses = {party: _ended(record) for party, record in records.items()}
        after = self.broker.seconds
        if any(status["state"] != "done" for status in statuses.values()):
            sys.exit(f"the job failed: {statuses[label]['failure']} {[s['detail'] for s in statuses.values()]}")
        return statuses, None if before is None or after is None else after - before

    def show_traces(self, job: TrainingJob) -> None:
        """Print what a step was spent on at each party, to standard error."""
        for party in self.deployment.parties:
            sys.stderr.write(self.deployment.asked("job", "trace", job.id, party=party).stdout)

    def peak_mib(self, party: str) -> int | None:
        """The most memory that an agent's process has had at once, where the system tells (Linux)."""
        return self._status_mib(party, "VmHWM")

    @contextmanager
    def watch_own_mib(self) -> Iterator[dict[str, int]]:
        """The most memory that each agent's process was seen with, without pages of files, by party."""
        found = dict.fromkeys(self.deployment.parties, 0)
        over = Event()

        def look() -> None:
            while not over.wait(POLL_SECONDS):
                for party, most in found.items():
                    found[party] = max(most, self._status_mib(party, "RssAnon") or 0)

        with ThreadPoolExecutor(1) as watcher:
            looking = watcher.submit(look)
            try:
                yield found
            finally:
                over.set()
                looking.result()

    def _status_mib(self, party: str, name: str) -> int | None:
        status = Path(f"/proc/{self.deployment.processes[party].pid}/status")
        if not status.exists():
            return None
        lines = status.read_text().splitlines()
        return next((round(int(line.split()[1]) / 1024) for line in lines if line.startswith(name)), None)


@dataclass(frozen=True)
class Broker:
    """A RabbitMQ, and the session that its processes are in if it is a private one."""

    url: str
    session: int | None = None

    @property
    def seconds(self) -> float | None:
        """Processor seconds of its processes so far, where they can be known."""
        if self.session is None or not Path("/proc/self/stat").exists():
            return None
        return sum(_processor_ticks(path, self.session) for path in Path("/proc").glob("[0-9]*/stat")) / TICKS


@contextmanager
def parties(
    folder: Path,
    tables: Mapping[str, TableSettings],
    helper: str,
    *,
    url: str | None = None,
    extra: str = "",
    consents: Mapping[str, str] | None = None,
    sites: Mapping[str, Site] | None = None,
    beside: str | None = None,
) -> Iterator[Parties]:
    """A process for each party around a private RabbitMQ, or the one at `url`; with `sites` each at its own.

    The broker's site is that of the party `beside`, by default the helper.
    """
    with ExitStack() as stack:
        broker = stack.enter_context(_broker(url, None if sites is None else sites[beside or helper]))
        written = {party: table_toml(table) for party, table in tables.items()}
        deployment = stack.enter_context(
            Deployment(folder, broker.url, written, helper, extra, consents=consents or {}, sites=sites or {})
        )
        ring.warm_up()  # in a fresh checkout it compiles, which each agent would do at the same time
        deployment.start()
        deployment.wait_until_up()
        yield Parties(deployment, broker)


@contextmanager
def _broker(url: str | None, site: Site | None) -> Iterator[Broker]:
    if url is not None:
        yield Broker(url)
    elif site is not None:
        with _node_at(site) as broker:
            yield broker
    else:
        with private_node() as node:
            yield Broker(node.url, node.session)


@contextmanager
def _node_at(site: Site) -> Iterator[Broker]:
    """A private node at a site, run by a process there: from here it cannot be reached."""
    command = site.command(sys.executable, "-m", "tests.rabbitmq_node", "--no-management", "--address", site.address)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
        try:
            assert process.stdout is not None
            address, session = (process.stdout.readline().split() for _ in range(2))
            if not session:
                sys.exit("the private RabbitMQ node did not start")
            yield Broker(address[1], int(session[1]))
        finally:
            process.terminate()
            process.wait()


def table_toml(table: TableSettings) -> str:
    """The [tables] part of a settings file."""
    label = f'label = "{table.label}"\n' if table.label else ""
    return f'[tables.table]\npath = "{table.path}"\nid = "{table.id}"\n{label}'


def job_toml(job: TrainingJob) -> str:
    """A job as its file has it."""
    training = "".join(f"{name} = {json.dumps(value)}\n" for name, value in job.training.model_dump().items())
    tables = "".join(f'{party} = "{table}"\n' for party, table in job.tables)
    layers = {} if job.network is None else job.network.model_dump()
    network = "".join(f"{name} = {json.dumps(value)}\n" for name, value in layers.items())
    said = {name: value for name, value in job.privacy.model_dump().items() if value is not None}
    privacy = "".join(f"{name} = {json.dumps(value)}\n" for name, value in said.items())
    return (
        f'name = "{job.name}"\nmodel = "{job.model}"\nlabel = "{job.label}"\nhelper = "{job.helper}"\n'
        f'alignment = "{job.alignment}"\naccept_narrow = {json.dumps(job.accept_narrow)}\n'
        f"[tables]\n{tables}[training]\n{training}[privacy]\n{privacy}" + (f"[network]\n{network}" if network else "")
    )


def _ended(record: Path) -> dict[str, Any]:
    """A party's last word on the job. An agent replaces the record in one step, at each change of state."""
    while True:
        if record.exists():
            status: dict[str, Any] = json.loads(record.read_text())["status"]
            if status["state"] in ENDED:
                return status
        time.sleep(POLL_SECONDS)


def _processor_ticks(stat: Path, session: int) -> int:
    try:
        fields = stat.read_text().rpartition(")")[2].split()  # from the third field on
    except OSError:
        return 0  # it has ended
    return int(fields[11]) + int(fields[12]) if int(fields[3]) == session else 0
