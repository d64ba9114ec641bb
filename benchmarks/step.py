"""`python -m benchmarks.step`: what one step of logistic regression costs.

The same job over the in-process broker, over RabbitMQ with a process for each party, and as a plain numpy float64 step
on the pooled columns, all in one run on one machine, so that the ratios mean something.

Seconds are the median over the steps of a run. Bytes and processor time are totals divided by the steps: full batches
are all of one size in bytes, so a median would say the same and leave out the smaller last batch, the handshake and the
heartbeats; processor time is told for a whole process, from the first step to the last, in ticks too coarse for one
step. The contributions to the secret order are the tests' fixed ones, so that both ways must end in the same words.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from agents import logs, model_part
from agents.exits import run
from agents.simulate import Simulation, joint_words, simulate, summary
from benchmarks.deployed import parties
from schemas.job import Training, TrainingJob
from schemas.settings import Settings, TableSettings
from tests.fixed_agent import fixed_contribution

Words = dict[str, np.ndarray]
"""Released weights as the ring's words, by block."""

PARTIES, HELPER = ("bank", "card"), "notary"


def main() -> None:
    """Measure and print."""
    arguments = parse()
    logs.configure("error")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x, y = synthetic(arguments.rows, arguments.columns)
        tables = write_tables(folder, x, y)
        job = description(arguments)
        result: dict[str, Any] = {
            "machine": f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}",
            "job": f"{arguments.rows} x {arguments.columns}, batch {arguments.batch}, {arguments.epochs} epochs",
            "numpy_float64": {"seconds_per_step": numpy_step(x, y, arguments.batch)},
        }
        words: Words = {}
        if "memory" in arguments.over:
            result["in_process"], words = in_process(job, tables, folder / "memory")
        if "rabbitmq" in arguments.over:
            result["rabbitmq"], released = over_rabbitmq(job, tables, folder, arguments.url)
            if words:
                result["rabbitmq"]["identical"] = identical(words, released)
        result["ratios"] = ratios(result)
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=100, help="of both parties together, halved between them")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--url", help="a RabbitMQ to use instead of a private node")
    parser.add_argument("--over", nargs="+", choices=("memory", "rabbitmq"), default=("memory", "rabbitmq"))
    return parser.parse_args()


def synthetic(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised columns and 0/1 labels that depend on them."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, columns))
    score = x @ generator.normal(size=columns) / np.sqrt(columns)
    return x, (generator.random(rows) < 1 / (1 + np.exp(-3 * score))).astype(np.float64)


def write_tables(folder: Path, x: np.ndarray, y: np.ndarray) -> dict[str, TableSettings]:
    """A CSV file for each party; the first holds the label."""
    ids, tables = np.arange(len(y)), {}
    for party, half in zip(PARTIES, np.array_split(x, 2, axis=1), strict=True):
        names = [f"{party}{number}" for number in range(half.shape[1])]
        label = [y] if party == PARTIES[0] else []
        path = folder / f"{party}.csv"
        header = ",".join(["id", *names, *["label" for _ in label]])
        np.savetxt(path, np.column_stack([ids, half, *label]), "%.9g", ",", header=header, comments="")
        tables[party] = TableSettings(path=path, id="id", label="label" if label else None)
    return tables


def description(arguments: argparse.Namespace) -> TrainingJob:
    """The job."""
    training = Training(epochs=arguments.epochs, batch=arguments.batch, rate=0.1)
    tables = tuple((party, "table") for party in PARTIES)
    return TrainingJob(name="step", model="logistic", label=PARTIES[0], helper=HELPER, tables=tables, training=training)


def numpy_step(x: np.ndarray, y: np.ndarray, batch: int) -> float:
    """Median seconds of a float64 step on the pooled columns."""
    weights, times = np.zeros(x.shape[1]), []
    generator = np.random.default_rng(1)
    for _ in range(200):
        rows = generator.permutation(len(y))[:batch]
        start = time.perf_counter()
        part = x[rows]
        error = 1 / (1 + np.exp(-part @ weights)) - y[rows]
        weights -= 0.1 / batch * (part.T @ error)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def in_process(job: TrainingJob, tables: dict[str, TableSettings], folder: Path) -> tuple[dict[str, Any], Words]:
    """All parties in this process: the figures, and the model's words."""
    settings = {
        p: Settings(party=p, identity=folder, state=folder, tables={"table": t}, report=False)
        for p, t in tables.items()
    }
    settings[HELPER] = Settings(party=HELPER, role="helper", identity=folder, state=folder, report=False)
    contribute = {party: fixed_contribution(party) for party in settings}
    simulation: Simulation = run(simulate(job, settings, folder, contribute=contribute))
    if not simulation.done:
        sys.exit(f"the job failed: {simulation.label_run.failure}")
    result, steps = summary(simulation), simulation.label_run.context.statistics.steps
    blocks, intercept = joint_words(simulation)
    figures = {
        "seconds_per_step": result["seconds_per_step"],
        "bytes_per_step": round(sum(result["bytes"].values()) / steps),
        "processor_ms_per_step": {
            "all": _milliseconds(simulation.label_run.context.statistics.processor_seconds, steps)
        },
        "bit_exact": result["bit_exact"],
    }
    return figures, dict(zip(job.data_parties, blocks, strict=True)) | {"intercept": intercept}


def over_rabbitmq(
    job: TrainingJob, tables: dict[str, TableSettings], folder: Path, url: str | None
) -> tuple[dict[str, Any], Words]:
    """A process for each party, and the broker: the figures, and the words that each party has written to its disk."""
    with parties(folder, tables, HELPER, url) as around:
        statuses, broker = around.run(job)
    label = statuses[job.label]
    steps = label["steps"]
    cost = {party: _milliseconds(status["processor_seconds"], steps) for party, status in statuses.items()}
    if broker is not None:
        cost["broker"] = _milliseconds(broker, steps)
    figures = {
        "seconds_per_step": label["seconds_per_step"],
        "bytes_per_step": round(sum(sum(s["sent_bytes"].values()) for s in statuses.values()) / steps),
        "processor_ms_per_step": cost,
    }
    return figures, _released({party: Path(statuses[party]["model_part"]) for party in job.data_parties}, job.label)


def _released(parts: dict[str, Path], label: str) -> Words:
    arrays = {party: model_part.load(folder)[1] for party, folder in parts.items()}
    words = {party: found["weight_words"] for party, found in arrays.items()}
    return words | {"intercept": arrays[label]["intercept_words"]}


def identical(one: Words, other: Words) -> bool:
    """Whether two runs ended in the same model, to the last bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[block], other[block]) for block in one)


def _milliseconds(seconds: float | None, steps: int) -> float | None:
    return None if seconds is None else round(1000 * seconds / steps, 2)


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """Each way's step in units of the numpy step."""
    base = result["numpy_float64"]["seconds_per_step"]
    return {
        name: round(result[name]["seconds_per_step"] / base, 1) for name in ("in_process", "rabbitmq") if name in result
    }


if __name__ == "__main__":
    main()
