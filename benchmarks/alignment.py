"""`python -m benchmarks.alignment`: how long it takes to find the rows that two tables have in common.

A whole job over RabbitMQ with a process for each party: two Parquet files of ids and one column each, in unrelated
orders, nine tenths of the ids in both. The figure is the time between the handshake and the aligned rows at the label
party: hashing or blinding, sorting, sending, matching and comparing. Reading the files and the training that follows
are told beside it.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.deployed import parties
from benchmarks.report import report
from tercet.schemas.files.job import Training, TrainingJob
from tercet.schemas.files.settings import TableSettings

PARTIES, HELPER = ("bank", "card"), "notary"
OVERLAP = 0.9
BATCH = 2**16  # of the training behind what is measured
DEADLINES = (
    '[policy]\nnarrow = true\nhelper_sees = "scores"\n'
    "[deadlines]\nready = 1800\nstart = 2400\nalignment = 1800\nfit = 1800\nterms = 3600\n"
)


def main() -> None:
    """Measure and print."""
    arguments = parse()
    result: dict[str, Any] = {}
    for mode, rows in (("helper", arguments.helper), ("ecdh", arguments.ecdh)):
        if rows:
            result[mode] = measured(mode, rows, arguments.url)
    report(result)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alignment", description=__doc__)
    parser.add_argument("--helper", type=int, default=10_000_000, help="ids of each party, matched by the helper")
    parser.add_argument("--ecdh", type=int, default=100_000, help="ids of each party, matched between the two")
    parser.add_argument("--url", help="a RabbitMQ to use instead of a private node")
    return parser.parse_args()


def measured(mode: str, rows: int, url: str | None) -> dict[str, Any]:
    """One job: seconds of its stages, rates, bytes, processor time and memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = write_tables(folder, rows)
        training = Training(epochs=1, batch=BATCH, rate=0.01)
        job = TrainingJob.model_validate(
            {
                "name": "alignment",
                "model": "linear",
                "label": PARTIES[0],
                "helper": HELPER,
                "tables": tuple((party, "table") for party in PARTIES),
                "alignment": mode,
                "training": training,
                "privacy": {"helper_sees": "scores"},
                "accept_narrow": True,
            }
        )
        with parties(folder, tables, HELPER, url=url, extra=DEADLINES) as around:
            statuses, broker = around.run(job)
            peaks = {party: around.peak_mib(party) for party in around.deployment.parties}
    label = statuses[PARTIES[0]]
    seconds = label["stage_seconds"]["alignment"]
    sent = sum(status["sent_bytes"].get(kind, 0) for status in statuses.values() for kind in KINDS)
    return {
        "ids_of_each_party": rows,
        "rows_in_common": label["rows"],
        "seconds": seconds,
        "ids_per_second": round(rows / seconds),
        "bytes_an_id": round(sent / (2 * rows), 1),
        "stage_seconds": label["stage_seconds"],
        "broker_processor_seconds": None if broker is None else round(broker, 1),
        "peak_mib": peaks,
    }


KINDS = ("pseudonyms", "presence", "blinded ids", "twice blinded ids")


def write_tables(folder: Path, rows: int) -> dict[str, TableSettings]:
    """Whole numbers as ids, drawn from a range so that nine tenths are in both; a label at the first party."""
    generator, tables = np.random.default_rng(0), {}
    apart = round(rows * (1 - OVERLAP))
    for number, party in enumerate(PARTIES):
        ids = generator.permutation(rows) + number * apart
        columns = {"id": pa.array(ids), "amount": pa.array(generator.normal(size=rows))}
        if number == 0:
            columns["label"] = pa.array(generator.normal(size=rows))
        path = folder / f"{party}.parquet"
        parquet.write_table(pa.table(columns), path, compression="zstd", row_group_size=2**20)
        tables[party] = TableSettings(path=path, id="id", label="label" if number == 0 else None)
    return tables


if __name__ == "__main__":
    main()
