"""What agents and broker hold at a moment, and whether that has grown by more than it may.

It counts and compares; it neither starts nor ends anything.
"""

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

from tests.deployment import Deployment
from tests.rabbitmq_node import Node

PATIENCE = 30.0  # seconds until an agent has answered, or the broker has cleared what was closed
BROKER = {  # in Erlang, all in one question
    "queues": 'length(rabbit_amqqueue:list(<<"/">>))',
    "exchanges": 'length(rabbit_exchange:list(<<"/">>))',
    "bindings": 'length(rabbit_binding:list(<<"/">>))',
    "connections": "length(rabbit_networking:connections())",
    "channels": "length(rabbit_channel:list())",
    "consumers": 'length(rabbit_amqqueue:consumers_all(<<"/">>))',
    "messages": 'lists:sum([Count || [{messages, Count}] <- rabbit_amqqueue:info_all(<<"/">>, [messages])])',
}


@dataclass(frozen=True)
class Allowed:
    """By how much a figure may grow: so much for a run, and so much more for each job between two looks."""

    once: float = 0
    each: float = 0


# A heap is never given back to the last page. What an agent knows of an ended job takes some 20 KiB, of the latest two
# hundred jobs; from then on 400 more jobs have cost under 3 MiB and no object.
ALLOWED = {
    "memory KiB": Allowed(once=8 * 1024, each=16),
    "objects": Allowed(once=4000, each=40),
    "threads": Allowed(once=min(32, (os.cpu_count() or 1) + 4)),  # those that asyncio starts as they are needed
}
Figures = dict[tuple[str, str], int]  # by party or `broker`, and by what is counted


def look(deployment: Deployment, node: Node) -> Figures:
    """What everybody holds now: a job that has ended has some time to delete its queues."""
    end = time.monotonic() + PATIENCE
    while any(".soak-" in name for name in node.queues()) and time.monotonic() < end:
        time.sleep(0.2)
    found = {(party, name): count for party in deployment.parties for name, count in _of(deployment, party).items()}
    return found | {("broker", name): count for name, count in broker(node).items()}


def _of(deployment: Deployment, party: str) -> dict[str, int]:
    path = deployment.settings(party).with_suffix(".figures.json")
    path.unlink(missing_ok=True)
    deployment.processes[party].send_signal(signal.SIGUSR1)
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end, f"{party} does not tell what it holds"
        time.sleep(0.02)
    figures: dict[str, int] = json.loads(path.read_text())
    return figures


def broker(node: Node) -> dict[str, int]:
    """What the broker has of ours, and how many messages wait in all queues."""
    reported = node.evaluate(f"{{{', '.join(BROKER.values())}}}")
    return dict(zip(BROKER, map(int, reported.strip("{}").split(",")), strict=True))


def growth_of(before: Mapping[tuple[str, str], int], after: Figures, jobs: int) -> Figures:
    """The figures that have grown by more than they may in so many jobs, and by how much."""
    more = {where: count - before.get(where, 0) for where, count in after.items()}
    return {where: by for where, by in more.items() if by > allowed(where[1], jobs)}


def allowed(name: str, jobs: int) -> float:
    """By how much a figure may grow in so many jobs."""
    most = ALLOWED.get(name, Allowed())
    return most.once + most.each * jobs
