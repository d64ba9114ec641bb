"""Whole jobs in one process for tests: small tables of made-up people, everybody's settings, and a run.

Nothing here looks into a run or decides whether it is right.
"""

import asyncio
import csv
import io
import itertools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tercet.agents.jobs.records import Records
from tercet.agents.simulation.simulate import Simulation, bit_exact, simulate_job
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.files.job import (
    BLIND_MODELS,
    BLIND_ONLY,
    EarlyStopping,
    Evaluation,
    Network,
    Privacy,
    Scorecard,
    Training,
    TrainingJob,
)
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.files.settings import Deadlines, Limits, Partner, Settings, TableSettings
from tests import virtual_time

DATA_PARTIES = ("bank", "card", "telco", "shop", "insurer")
HELPER = "notary"
PERSON, OUTCOME = "person_number", "defaulted_later"  # columns; long enough to be told from chance in a stream of bytes
EVALUATION = Evaluation()  # none
SCORES = Privacy(helper_sees="scores")
NOTHING = Privacy(helper_sees="nothing")
CLASSES = ("never_defaulted", "after_a_year", "within_a_year", "at_once")  # not as they are sorted
ONCE = Recovery(attempts=1)  # the first fault is a job's end
LIMIT_SECONDS = 30  # a run that takes longer hangs
AS_IN_A_JOB = ("model", "network", "release", "alignment", "evaluation", "early_stopping", "scorecard", "start")

# Long enough for a busy machine, short enough for a test that waits for one to pass.
DEADLINES = Deadlines(
    accept=5,
    ready=5,
    start=10,
    handshake=5,
    alignment=5,
    fit=5,
    terms=10,
    step=5,
    release=5,
    verdict=1,
    heartbeat=0.2,
    drain=1,
)


@dataclass(frozen=True)
class Sample:
    """What a small job is made of; `columns` of each data party, in order, and `label` the label party's place."""

    columns: tuple[int, ...] = (7, 6)
    rows: int = 90
    label: int = 0
    model: str = "logistic"
    network: Network | None = None  # where the model is "mlp"
    score_noise: float = 0.0  # so that scores can be compared with plaintext
    batch: int = 40
    epochs: int = 2
    rate: float = 0.1
    schedule: str = "constant"
    decay: float = 0.0
    l2: float = 0.0
    release: str = "owners"
    alignment: str = "helper"
    privacy: Privacy | None = None  # the helper sees scores, also where it need not
    evaluation: Evaluation = EVALUATION
    early_stopping: EarlyStopping | None = None
    scorecard: Scorecard | None = None
    outliers: float = 0.0
    seed: int = 0
    start: str | None = None  # the job whose model this one begins at

    @property
    def parties(self) -> tuple[str, ...]:
        """The data parties."""
        return DATA_PARTIES[: len(self.columns)]

    @property
    def link(self) -> str:
        """What lies between score and label."""
        return self.model if self.network is None else self.network.output

    def description(self) -> TrainingJob:
        """The job."""
        training = Training.model_validate(
            {name: getattr(self, name) for name in ("epochs", "batch", "rate", "schedule", "decay", "l2")}
        )
        return TrainingJob(
            name="sample",
            label=self.parties[self.label],
            helper=HELPER,
            tables=tuple((party, "people") for party in self.parties),
            training=training,
            privacy=self.privacy or (SCORES if self.link in BLIND_MODELS - BLIND_ONLY.keys() else Privacy()),
            accept_narrow=True,
            **{name: getattr(self, name) for name in AS_IN_A_JOB},
        )

    def settings(self, folder: Path, *, limits: Limits | None = None) -> dict[str, Settings]:
        """Write everybody's tables into a folder, and give everybody settings; the helper's come last."""
        tables, settings = as_files(self), {}
        for party in (*self.parties, HELPER):
            values: dict[str, Any] = {"party": party, "identity": folder / "unused", "state": folder / "unused"}
            if party in tables:
                path = folder / f"{party}.csv"
                path.write_bytes(tables[party])
                label = OUTCOME if party == self.parties[self.label] else None
                table = TableSettings(path=path, id=PERSON, label=label, rescoring=True, whiten=False)
                values["tables"] = {"people": table}
            values["role"] = "data" if party in tables else "helper"
            values["partners"] = self.consents(party)
            limits = few_rows(limits or Limits(min_rows=1))
            values["policy"] = PolicySettings(
                narrow=True,
                score_noise=self.score_noise,
                helper_sees="scores",
                held_out_scores=self.evaluation.held_out_scores,
            )
            settings[party] = Settings(**values, deadlines=DEADLINES, limits=limits, recovery=ONCE, report=False)
        return settings

    def consents(self, party: str) -> dict[str, Partner]:
        """Whom a party lets hold the whole model: the label party, where the job asks for that."""
        label = self.parties[self.label]
        return {label: Partner(key="", may_hold_model=True)} if self.release == "label" and party != label else {}

    def tables(self) -> dict[str, dict[str, list[str]]]:
        """Each data party's table as texts by column, the rows of all of them aligned."""
        numbers, rng = shuffled(self.seed)
        people = [f"person-{number:06d}" for number in numbers[: self.rows]]
        raw = [rng.normal(size=(self.rows, columns)) * 10 ** rng.uniform(-2, 4, columns) for columns in self.columns]
        score = sum(
            (_standard(part) @ rng.normal(size=part.shape[1]) for part in raw), 0.3 * rng.normal(size=self.rows)
        )
        for part in raw:
            part[rng.random(part.shape) < self.outliers] *= 1000
        tables = {
            party: {PERSON: people} | {f"{party}_quantity_{k}": _texts(part[:, k]) for k in range(part.shape[1])}
            for party, part in zip(self.parties, raw, strict=True)
        }
        tables[self.parties[self.label]][OUTCOME] = labels(self.link, score, rng)
        return tables


@lru_cache(maxsize=4)
def _shuffled(seed: int) -> tuple[NDArray[np.int64], Any]:
    rng = np.random.default_rng(seed)
    return rng.permutation(1_000_000), rng.bit_generator.state


def shuffled(seed: int) -> tuple[NDArray[np.int64], np.random.Generator]:
    """A million numbers in a seed's order, and what draws on from there; shuffling them takes a tenth of a second."""
    numbers, state = _shuffled(seed)
    rng = np.random.default_rng(seed)
    rng.bit_generator.state = state
    return numbers, rng


def few_rows(limits: Limits) -> Limits:
    """Allow losses over so few rows as no settings file may allow, and scores: tables of tests are small."""
    return limits.model_copy(update={"min_loss_rows": 1, "min_scored_rows": 1})


def labels(link: str, score: Floats, rng: np.random.Generator) -> list[str]:
    """A label of each row, for a model with this link to learn; larger where the score is, classes in its order."""
    level = 0.5 * _standard(score)
    match link:
        case "logistic":
            return _texts((score > 0).astype(int))
        case "softmax" | "one-vs-rest":
            return [CLASSES[one] for one in np.digitize(level, [-0.6, 0.0, 0.4])]
        case "poisson":
            return _texts(rng.poisson(1.5 * np.exp(level)))
        case "tweedie":
            return _texts(100 * np.exp(level) * rng.poisson(2.5, len(level)))
        case "gamma":
            return _texts(250 * np.exp(level) * rng.gamma(4.0, 0.25, len(level)))
    return _texts(250 + 40 * score)


def _standard(part: Floats) -> Floats:
    standard: Floats = (part - part.mean(axis=0)) / part.std(axis=0)
    return standard


def _texts(values: Any) -> list[str]:
    return [repr(value) for value in values.tolist()]


def write_table(path: Path, table: Mapping[str, list[str]]) -> None:
    """As CSV."""
    path.write_bytes(as_csv(table))


def as_csv(table: Mapping[str, list[str]]) -> bytes:
    """The bytes of a file."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return text.getvalue().encode()


@lru_cache(maxsize=16)  # many jobs of one sample follow one another
def as_files(sample: Sample) -> dict[str, bytes]:
    """Each data party's table."""
    return {party: as_csv(table) for party, table in sample.tables().items()}


def contributions(seed: int) -> dict[str, Callable[[], bytes]]:
    """Fixed contributions to the order key, and after them others for first weights; of one run."""

    def source(number: int) -> Callable[[], bytes]:
        draws = itertools.count()
        return lambda: bytes([seed, number] * 15 + [seed + next(draws), number])

    return {party: source(number) for number, party in enumerate(DATA_PARTIES)}


async def run(
    sample: Sample,
    folder: Path,
    *,
    settings: Mapping[str, Settings] | None = None,
    **hooks: Any,
) -> Simulation:
    """A job from its announcement to its end at every party. `hooks` go to `simulate`."""
    async with asyncio.timeout(LIMIT_SECONDS):
        return await simulate_job(sample.description(), settings or sample.settings(folder), folder, **hooks)


def exact(sample: Sample, **hooks: Any) -> tuple[Simulation, bool]:
    """A whole run in a folder that is gone afterwards, and whether its model is the oracle's.

    No agent comes back, so that none writes records of its jobs: a tenth of a small job was that.
    """
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Records, "write", lambda *_: None)
        simulation = virtual_time.run(run(sample, Path(folder), **hooks))
        return simulation, bit_exact(simulation) is True
