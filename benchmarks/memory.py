"""`python -m benchmarks.memory`: how much memory an agent takes for a table that it does not load.

A whole job over RabbitMQ with a process for each party; both hold a Parquet file of made-up columns with the same ids
in unrelated orders. `peak_mib` is the most resident memory that each process has had at once, pages of mapped files
that happened to be in the system's cache included. `own_mib` is without these, seen from time to time.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.alignment import DEADLINES, HELPER, PARTIES
from benchmarks.deployed import parties
from benchmarks.report import report
from tercet.schemas.files.job import Network, Privacy, Training, TrainingJob
from tercet.schemas.files.settings import TableSettings

GROUP = 2**18  # rows of the files that are made at a time


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--columns", type=int, default=50, help="of each party")
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--model", choices=("logistic", "mlp"), default="logistic", help="mlp has 64 hidden units")
    parser.add_argument("--helper-sees", choices=("nothing", "scores"), default="nothing")
    parser.add_argument("--url", help="a RabbitMQ to use instead of a private node")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = {party: write(folder, party, arguments.rows, arguments.columns) for party in PARTIES}
        job = TrainingJob(
            name="memory",
            **fields(arguments),
            label=PARTIES[0],
            helper=HELPER,
            tables=tuple((party, "table") for party in PARTIES),
            training=Training(epochs=arguments.epochs, batch=arguments.batch, rate=0.1),
            privacy=Privacy(helper_sees=arguments.helper_sees),
        )
        with parties(folder, tables, HELPER, url=arguments.url, extra=DEADLINES) as around:
            with around.watch_own_mib() as own:
                statuses, _ = around.run(job)
            peaks = {party: around.peak_mib(party) for party in around.deployment.parties}
    label = statuses[PARTIES[0]]
    result = {
        "table": f"{arguments.rows} x {arguments.columns} at each party",
        "table_mib_as_float64": round(8 * arguments.rows * arguments.columns / 2**20),
        "helper_sees": arguments.helper_sees,
        "peak_mib": peaks,
        "own_mib": own,
        "stage_seconds": label["stage_seconds"],
        "steps": label["steps"],
        "seconds_per_step": label["seconds_per_step"],
        "sent_mib": round(sum(sum(one["sent_bytes"].values()) for one in statuses.values()) / 2**20),
    }
    report(result)


def fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """What is trained: a network has SiLU where the helper sees nothing, else ReLU."""
    if arguments.model != "mlp":
        return {"model": arguments.model}
    activation: Any = "silu" if arguments.helper_sees == "nothing" else "relu"
    return {"model": "mlp", "network": Network(hidden=(64,), activation=activation)}


def write(folder: Path, party: str, rows: int, columns: int) -> TableSettings:
    """A Parquet file, written group by group; the first party's label depends on its columns."""
    number = PARTIES.index(party)
    generator = np.random.default_rng(number)
    ids, weights = generator.permutation(rows), generator.normal(size=columns)
    names = [f"{party}{column}" for column in range(columns)]
    fields = [("id", pa.int64()), *((name, pa.float64()) for name in names)]
    label = [("label", pa.float64())] if number == 0 else []
    path = folder / f"{party}.parquet"
    with parquet.ParquetWriter(path, pa.schema([*fields, *label]), compression="zstd") as writer:
        for start in range(0, rows, GROUP):
            some = ids[start : start + GROUP]
            x = generator.normal(size=(len(some), columns))
            arrays = [some, *x.T]
            if label:
                arrays.append((generator.random(len(some)) < 1 / (1 + np.exp(-(x @ weights)))).astype(float))
            writer.write_table(pa.table([pa.array(array) for array in arrays], schema=writer.schema))
    return TableSettings(path=path, id="id", label="label" if label else None)


if __name__ == "__main__":
    main()
