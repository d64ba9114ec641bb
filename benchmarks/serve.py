"""`python -m benchmarks.serve`: how long a customer waits for a score while two parties serve a model.

A process for each agent, one for `tercet serve`, and RabbitMQ, all on this machine. Requests go out when they are due,
so many a second, whether earlier ones are answered or not: a latency counts from then. Each asks for one row, which is
new, or for a row again.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import HELPER, PARTIES, Logistic
from benchmarks.deployed import TICKS, Parties, parties
from benchmarks.report import report
from tercet.agents.core import logs

EXTRA = '[policy]\nnarrow = true\nhelper_sees = "scores"\n'
READY = "Scores are at "
WARM = 20  # requests before those that are measured
PATIENCE = 10.0  # seconds for one answer


def main() -> None:
    """Measure and print."""
    arguments = parse()
    logs.configure("error")
    case = Logistic(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        consents = {PARTIES[1]: 'serving_table = "table"\n'}
        with parties(
            folder, case.write_tables(folder), HELPER, url=arguments.url, extra=EXTRA, consents=consents
        ) as agents:
            job = case.job()
            agents.run(job)
            with server(agents, job.id) as (process, port):
                watched = {party: agents.deployment.processes[party].pid for party in PARTIES} | {"serve": process.pid}
                result = measured(watched, port, arguments)
    report({"model": case.name} | result)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="for which they go out, of new rows and again")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=100, help="of both parties together")
    parser.add_argument("--url", help="a RabbitMQ to use instead of a private node")
    arguments = parser.parse_args()
    vars(arguments).update({"batch": 1024, "epochs": 2, "helper_sees": "nothing", "checks": 2})
    return arguments


@contextmanager
def server(agents: Parties, model: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A server at the label party, and its port."""
    console = agents.deployment.console("serve", model, "--port", "0", party=PARTIES[0])
    try:
        yield console, _port(console)
    finally:
        console.terminate()
        console.communicate()


def _port(console: "subprocess.Popen[bytes]") -> int:
    assert console.stderr is not None
    for line in console.stderr:
        text = line.decode()
        if READY in text:
            return int(text.partition("/scores")[0].rpartition(":")[2])
    sys.exit("the server has not started")


def measured(watched: Mapping[str, int], port: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Latencies of new rows, and of the same again; processor time of each process (by its id) for a request."""
    count = int(arguments.rate * arguments.seconds)
    ids = [str(row) for row in np.random.default_rng(0).permutation(arguments.rows)[: count + WARM]]
    result: dict[str, Any] = {"requests_per_second": arguments.rate, "requests": len(ids) - WARM}
    asyncio.run(send(port, ids[:WARM], arguments.rate))  # what loads once is loaded
    for name in ("new_rows", "the_same_again"):
        before = {party: _processor_seconds(process) for party, process in watched.items()}
        result[name] = percentiles(asyncio.run(send(port, ids[WARM:], arguments.rate)))
        spent = {party: _processor_seconds(process) - before[party] for party, process in watched.items()}
        result[name]["processor_ms_per_request"] = {
            party: round(seconds * 1000 / (len(ids) - WARM), 2) for party, seconds in spent.items()
        }
    return result


async def send(port: int, ids: Sequence[str], rate: float) -> list[float]:
    """Send a request for each id when it is due; milliseconds from then to each answer."""
    start = time.perf_counter() + 0.1

    async def one(number: int, row: str) -> float:
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        async with asyncio.timeout(PATIENCE):
            await _ask(port, row)
        return (time.perf_counter() - due) * 1000

    found = await asyncio.gather(*(one(number, row) for number, row in enumerate(ids)), return_exceptions=True)
    failed = [one for one in found if isinstance(one, BaseException)]
    if failed:
        sys.exit(f"{len(failed)} of {len(ids)} requests have failed, such as by {failed[0]!r}")
    return [one for one in found if isinstance(one, float)]


async def _ask(port: int, row: str) -> None:
    body = json.dumps({"ids": [row]}).encode()
    head = f"POST /scores HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + b"\r\n\r\n" + body)
    answer = await reader.read()
    writer.close()
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    if [*found.get("scores", {})] != [row]:
        raise ValueError(f"no score: {found}")


def percentiles(milliseconds: Sequence[float]) -> dict[str, Any]:
    """What half, nine tenths and ninety-nine hundredths of all stay below, and the worst."""
    names = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99, "most_ms": 100}
    return {name: round(float(np.percentile(milliseconds, part)), 2) for name, part in names.items()}


def _processor_seconds(process: int) -> float:
    path = Path(f"/proc/{process}/stat")
    if not path.exists():
        return 0.0
    fields = path.read_text().rpartition(")")[2].split()  # from the third field on
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
