"""A job over RabbitMQ with a process for each party, all on this machine, and what each process took.

While a job runs nothing else is started: whoever measures waits for the records that agents write when a job changes
its state.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.job import TrainingJob
from schemas.settings import TableSettings
from tests.deployment import Deployment
from tests.rabbitmq_node import Node, private_node

POLL_SECONDS = 0.2
ENDED = {"done", "failed", "cancelled"}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Parties:
    """The agents of a benchmark, up and idle."""

    deployment: Deployment
    node: Node | None

    def run(self, job: TrainingJob) -> tuple[dict[str, dict[str, Any]], float | None]:
        """A job to its end: each party's last status, and the broker's processor seconds where they can be known."""
        folder = self.deployment.folder
        path = folder / f"{job.name}.toml"
        path.write_text(job_toml(job))
        before = _broker_seconds(self.node)
        asked = self.deployment.tercet("job", "submit", str(path), "--format", "json", party=job.label)
        if asked.returncode != 0:
            sys.exit(asked.stderr)
        records = {party: folder / party / "jobs" / f"{job.id}.json" for party in self.deployment.parties}
        statuses = {party: _ended(record) for party, record in records.items()}
        after = _broker_seconds(self.node)
        if any(status["state"] != "done" for status in statuses.values()):
            sys.exit(f"the job failed: {statuses[job.label]['failure']} {[s['detail'] for s in statuses.values()]}")
        return statuses, None if before is None or after is None else after - before

    def peak_mib(self, party: str) -> float | None:
        """The most memory that an agent's process has had at once, where the system tells (Linux)."""
        status = Path(f"/proc/{self.deployment.processes[party].pid}/status")
        if not status.exists():
            return None
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024)


@contextmanager
def parties(
    folder: Path, tables: Mapping[str, TableSettings], helper: str, url: str | None = None, extra: str = ""
) -> Iterator[Parties]:
    """A process for each party around a private RabbitMQ, or the one at `url`."""
    with ExitStack() as stack:
        node = None if url else stack.enter_context(private_node())
        address = url or (node.url if node else "")
        written = {party: table_toml(table) for party, table in tables.items()}
        deployment = stack.enter_context(Deployment(folder, address, written, helper, extra))
        deployment.start()
        deployment.wait_until_up()
        yield Parties(deployment, node)


def table_toml(table: TableSettings) -> str:
    """The [tables] part of a settings file."""
    label = f'label = "{table.label}"\n' if table.label else ""
    return f'[tables.table]\npath = "{table.path}"\nid = "{table.id}"\n{label}'


def job_toml(job: TrainingJob) -> str:
    """A job as its file has it."""
    training = "".join(f"{name} = {json.dumps(value)}\n" for name, value in job.training.model_dump().items())
    tables = "".join(f'{party} = "{table}"\n' for party, table in job.tables)
    return (
        f'name = "{job.name}"\nmodel = "{job.model}"\nlabel = "{job.label}"\nhelper = "{job.helper}"\n'
        f'alignment = "{job.alignment}"\naccept_narrow = {json.dumps(job.accept_narrow)}\n'
        f"[tables]\n{tables}[training]\n{training}"
    )


def _ended(record: Path) -> dict[str, Any]:
    """A party's last word on the job. An agent replaces the record in one step, at each change of state."""
    while True:
        if record.exists():
            status: dict[str, Any] = json.loads(record.read_text())["status"]
            if status["state"] in ENDED:
                return status
        time.sleep(POLL_SECONDS)


def _broker_seconds(node: Node | None) -> float | None:
    """Processor seconds of the node's processes so far, where the system tells (Linux)."""
    if node is None or not Path("/proc/self/stat").exists():
        return None
    return sum(_processor_ticks(path, node.session) for path in Path("/proc").glob("[0-9]*/stat")) / TICKS


def _processor_ticks(stat: Path, session: int) -> int:
    try:
        fields = stat.read_text().rpartition(")")[2].split()  # from the third field on
    except OSError:
        return 0  # it has ended
    return int(fields[11]) + int(fields[12]) if int(fields[3]) == session else 0
