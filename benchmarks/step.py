"""`python -m benchmarks.step`: what one step of a training costs.

The same job over the in-process broker, over RabbitMQ with a process for each party, over RabbitMQ with a delay between
the parties (`--delay`), and as a plain numpy float64 step on the pooled columns, all in one run on one machine, so that
the ratios mean something.

Seconds, bytes and processor time are totals divided by the steps: a helper that deals several steps at once makes one
in a few long, so that a median would leave out its work; and processor time is told for a whole process, from the first
step to the last, in ticks too coarse for one step. The contributions to the secret order are the tests' fixed ones, so
that all ways must end in the same words.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.cases import BATCH, CASES, HELPER, PARTIES, make_case
from benchmarks.deployed import Parties, parties
from benchmarks.namespaces import NotPossible, round_trip_ms, wide_area
from tercet.agents.cli.runner import run
from tercet.agents.core import logs
from tercet.agents.models import model_part
from tercet.agents.simulation.simulate import Simulation, joint_words, simulate_job, summary
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.settings import Settings, TableSettings
from tests.fixed_agent import fixed_contribution

Words = dict[str, np.ndarray]
"""Released weights as the ring's words, by block."""

CONSENT = PolicySettings(helper_sees="scores")
CONSENTS = '[policy]\nhelper_sees = "scores"\n'
WAYS = ("in_process", "rabbitmq", "wide_area")


def main() -> None:
    """Measure and print."""
    arguments = parse()
    logs.configure("error")
    case = make_case(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables, job = case.write_tables(folder), case.job()
        result: dict[str, Any] = {
            "machine": f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}",
            "job": f"{case.name}, {arguments.epochs} epochs",
            "numpy_float64": {"seconds_per_step": case.numpy_seconds()},
        }
        words: Words = {}
        if "memory" in arguments.over:
            result["in_process"], words = in_process(job, tables, folder / "memory")
        if "rabbitmq" in arguments.over:
            result["rabbitmq"] = over_rabbitmq(job, tables, folder / "rabbitmq", words, arguments)
        if arguments.delay is not None:
            result["wide_area"] = over_wide_area(job, tables, folder / "wide-area", words, arguments)
        result["ratios"] = ratios(result)
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--model", choices=CASES, default="logistic", help="what is trained; the others on digits")
    parser.add_argument("--rows", type=int, help="of the synthetic table, by default 20,000; of mlp too")
    parser.add_argument("--columns", type=int, help="of both parties together, by default 100; of mlp too")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument(
        "--helper-sees", choices=("nothing", "scores"), help="by default nothing where the model allows"
    )
    parser.add_argument("--checks", type=int, default=2, help="projections that check the helper's dealing; 0 for none")
    parser.add_argument("--url", help="a RabbitMQ to use instead of a private node")
    parser.add_argument("--delay", type=float, help="milliseconds each way between the parties; needs root on Linux")
    parser.add_argument("--broker", choices=(*PARTIES, HELPER), default=HELPER, help="beside whom, with --delay")
    parser.add_argument("--over", nargs="*", choices=("memory", "rabbitmq"), help="by default both; without --delay")
    parser.add_argument("--trace", action="store_true", help="print what a step was spent on, to standard error")
    arguments = parser.parse_args()
    if arguments.over is None:
        arguments.over = ("memory", "rabbitmq") if arguments.delay is None else ("memory",)
    arguments.batch = arguments.batch or BATCH[arguments.model]
    return arguments


def in_process(job: TrainingJob, tables: dict[str, TableSettings], folder: Path) -> tuple[dict[str, Any], Words]:
    """All parties in this process: the figures, and the model's words."""
    settings = {
        p: Settings(party=p, identity=folder, state=folder, tables={"table": t}, report=False, policy=CONSENT)
        for p, t in tables.items()
    }
    settings[HELPER] = Settings(party=HELPER, role="helper", identity=folder, state=folder, report=False)
    contribute = {party: fixed_contribution(party) for party in settings}
    simulation: Simulation = run(simulate_job(job, settings, folder, contribute=contribute))
    if not simulation.done:
        sys.exit(f"the job failed: {simulation.label_run.failure}")
    result, steps = summary(simulation), simulation.label_run.context.statistics.steps
    figures = {
        "seconds_per_step": result["seconds_per_step"],
        "bytes_per_step": round(sum(result["bytes"].values()) / steps),
        "processor_ms_per_step": {
            "all": _milliseconds(simulation.label_run.context.statistics.processor_seconds, steps)
        },
        "bit_exact": result["bit_exact"],
    }
    if job.model == "mlp" or job.is_blind:  # whose rounding differs from run to run
        return figures, {}
    blocks, intercept = joint_words(simulation)
    return figures, dict(zip(job.data_parties, blocks, strict=True)) | {"intercept": intercept}


def over_rabbitmq(
    job: TrainingJob, tables: dict[str, TableSettings], folder: Path, words: Words, arguments: argparse.Namespace
) -> dict[str, Any]:
    """A process for each party, and the broker, over loopback: the figures."""
    folder.mkdir()
    with parties(folder, tables, HELPER, url=arguments.url, extra=CONSENTS) as around:
        return measured(around, job, words, trace=arguments.trace)


def over_wide_area(
    job: TrainingJob, tables: dict[str, TableSettings], folder: Path, words: Words, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The same with the parties apart, and the broker beside one of them."""
    folder.mkdir()
    try:
        with (
            wide_area([*PARTIES, HELPER], arguments.delay) as sites,
            parties(folder, tables, HELPER, sites=sites, beside=arguments.broker, extra=CONSENTS) as around,
        ):
            broker = urlsplit(around.broker.url)
            assert broker.hostname is not None
            assert broker.port is not None
            apart = next(party for party in PARTIES if party != arguments.broker)
            trip = round_trip_ms(sites[apart], broker.hostname, broker.port)
            return {"broker": arguments.broker, "round_trip_ms": round(trip, 1)} | measured(
                around, job, words, trace=arguments.trace
            )
    except NotPossible as problem:
        sys.exit(f"--delay: {problem}")


def measured(around: Parties, job: TrainingJob, words: Words, *, trace: bool) -> dict[str, Any]:
    """One job at parties that are up. `words` are those of the run in process, if there was one."""
    statuses, broker = around.run(job)
    if trace:
        around.show_traces(job)
    label = statuses[job.label]
    steps = label["steps"]
    cost = {party: _milliseconds(status["processor_seconds"], steps) for party, status in statuses.items()}
    if broker is not None:
        cost["broker"] = _milliseconds(broker, steps)
    figures = {
        "seconds_per_step": label["seconds_per_step"],
        "training_seconds": label["stage_seconds"]["training"],
        "bytes_per_step": round(sum(sum(s["sent_bytes"].values()) for s in statuses.values()) / steps),
        "processor_ms_per_step": cost,
    }
    if words:
        parts = {party: Path(statuses[party]["model_part"]) for party in job.data_parties}
        figures["identical"] = identical(words, _released(parts, job.label))
    return figures


def _released(parts: Mapping[str, Path], label: str) -> Words:
    arrays = {party: model_part.load(folder)[1] for party, folder in parts.items()}
    words = {party: found["weight_words"] for party, found in arrays.items()}
    return words | {"intercept": arrays[label]["intercept_words"]}


def identical(one: Words, other: Words) -> bool:
    """Whether two runs ended in the same model, to the last bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[block], other[block]) for block in one)


def _milliseconds(seconds: float | None, steps: int) -> float | None:
    return None if seconds is None else round(1000 * seconds / steps, 2)


def ratios(result: Mapping[str, Any]) -> dict[str, float]:
    """Each way's step in units of the numpy step."""
    base = result["numpy_float64"]["seconds_per_step"]
    return {name: round(result[name]["seconds_per_step"] / base, 1) for name in WAYS if name in result}


if __name__ == "__main__":
    main()
