"""Statistics jobs in one process: tables of people with numbers, categories and gaps, everybody's settings, a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tercet.agents.simulation.simulate import Simulation
from tercet.agents.statistics.result import StatisticsResult, read_statistics
from tercet.schemas.files.job import StatisticsJob
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.settings import Limits, Settings, TableSettings
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Message
from tests.agents.recording import Ear, Seeds, Tables, listen_to
from tests.agents.world import DATA_PARTIES, DEADLINES, HELPER, ONCE, OUTCOME, PERSON, labels

ROWS, LEAST = 1600, 20
CONSENTS = PolicySettings(statistics="woe", statistics_of_amounts=True, correlations="label", column_names=True)


def people(
    parties: int, *, rows: int = ROWS, model: str = "logistic", seed: int = 0
) -> dict[str, dict[str, list[str]]]:
    """Each party's table: three numbers, one of them skewed and one with gaps, and a category with rare levels.

    Rows are in an order of each party's own, and one in ten is at one party alone.
    """
    rng = np.random.default_rng(seed)
    ids, score, tables = [f"person-{n:05d}" for n in rng.permutation(90_000)[:rows]], np.zeros(rows), {}
    for party in DATA_PARTIES[:parties]:
        numbers = rng.normal(40, 9, (rows, 3))
        numbers[:, 1] = np.exp(numbers[:, 1] / 9)
        housing = rng.choice(["owner", "tenant", "lodger", "caravan"], rows, p=[0.5, 0.3, 0.18, 0.02])
        score += (numbers[:, 0] - 40) / 9 + 0.5 * (housing == "tenant") - 0.005 * numbers[:, 1]
        table = {f"{party}_quantity_{k}": [repr(float(x)) for x in numbers[:, k]] for k in range(3)}
        for gap in rng.permutation(rows)[: rows // 8]:
            table[f"{party}_quantity_2"][gap] = ""
        tables[party] = {PERSON: ids, **table, f"{party}_housing": housing.tolist()}
    tables[DATA_PARTIES[0]][OUTCOME] = labels(model, score - np.median(score) + rng.normal(0, 1, rows), rng)
    return {party: _shuffled(rng, party, table) for party, table in tables.items()}


def _shuffled(rng: np.random.Generator, party: str, table: dict[str, list[str]]) -> dict[str, list[str]]:
    order = rng.permutation(len(table[PERSON]))
    missing = len(order) // 10
    ids = [f"{party}-{name}" if place < missing else name for place, name in enumerate(table[PERSON])]
    return {name: [(ids if name == PERSON else values)[row] for row in order] for name, values in table.items()}


def statistics_job(parties: int = 2, /, **changes: Any) -> StatisticsJob:
    """A job over the tables of so many parties, the first of which has the label."""
    names = DATA_PARTIES[:parties]
    fields: dict[str, Any] = {"kind": "statistics", "name": "look", "label": names[0], "helper": HELPER}
    return StatisticsJob.model_validate(fields | {"tables": tuple((name, "people") for name in names)} | changes)


@dataclass
class Finished:
    """A finished job, all that was said and crossed the broker, and what each data party has on its disk."""

    job: StatisticsJob
    tables: Tables
    folder: Path
    simulation: Simulation
    ear: Ear = field(repr=False)

    def result(self, party: str) -> StatisticsResult:
        """What a party has."""
        path = self.simulation.runs[party].statistics
        assert path is not None
        return read_statistics(path)


def settings_of(job: StatisticsJob, folder: Path, **changes: Any) -> dict[str, Settings]:
    """Everybody's settings, which tell all that may be told; `changes` are of each."""
    found = {}
    for party in job.parties:
        table = TableSettings(path=folder / f"{party}.csv", id=PERSON, label=OUTCOME if party == job.label else None)
        values: dict[str, Any] = {"party": party, "identity": folder / "unused", "state": folder / "unused"}
        values |= {"role": "helper", "tables": {}} if party == HELPER else {"role": "data", "tables": {"people": table}}
        values |= {"deadlines": DEADLINES, "limits": Limits(min_rows=1), "recovery": ONCE, "report": False}
        found[party] = Settings.model_validate(values | {"policy": CONSENTS} | changes)
    return found


def finish_job(
    job: StatisticsJob,
    folder: Path,
    tables: Tables,
    settings: Mapping[str, Settings] | None = None,
    *,
    on_said: Mapping[type[Message], Callable[[str], None]] = MappingProxyType({}),
    alter: Callable[[Message], Message] = lambda message: message,
) -> Finished:
    """Run a job with fixed keys, and note everything.

    `on_said` is called with the sender before a message of a kind leaves; `alter` may change any message.
    """
    ear = Ear()

    def tap(address: Address, message: Message) -> Message:
        if type(message) in on_said:
            on_said[type(message)](address.sender)
        return ear.tap(address, alter(message))

    simulation = listen_to(ear, job, settings or settings_of(job, folder), folder, Seeds(), tables, tap)
    return Finished(job, tables, folder, simulation, ear)
