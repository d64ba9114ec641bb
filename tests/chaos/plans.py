"""What is to go wrong in one run: chances for single messages, points at which somebody dies, and what happens there.

Nothing here makes it happen; that is for `faults` in the agents and for `fleet` beside them. All of it follows from the
seed.
"""

import random
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from tercet.broker.interface.base import Envelope
from tercet.schemas.messages.address import Address

Way = Literal["out", "in"]
When = Literal["before", "between", "after"]  # its handing over; its confirm or its handler; both


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Plain):
    """The n-th message of some rounds that a party sends or receives, counted from its start or from another point.

    Attributes:
        kind: of the job.
        rounds: "activations", or "control/released": a round, or an item of one.
        kills: whether the party's process dies there. Otherwise the point is told to whoever watches.
        after: the number of a point that must have been reached before this one is counted for.
    """

    party: str
    kind: Literal["training", "prediction"] = "training"
    rounds: tuple[str, ...]
    way: Way = "out"
    count: int = 1
    when: When = "before"
    kills: bool = True
    after: int | None = None

    def fits(self, party: str, way: Way, address: Address) -> bool:
        """Whether this is one of the messages that are counted."""
        here = (address.round, f"{address.round}/{address.item}")
        return (self.party, self.way) == (party, way) and any(place in here for place in self.rounds)


class Deed(_Plain):
    """What the one who watches does to others once a point is reached.

    Attributes:
        point: the number of the point.
        what: "kill" or "stop" processes (SIGSTOP, and SIGCONT later), "cut" or "stall" their lines to the broker, or
            kill the "broker" itself, which is started again on the same data.
        seconds: how long it lasts.
    """

    point: int
    what: Literal["kill", "stop", "cut", "stall", "broker"]
    parties: tuple[str, ...] = ()
    seconds: float = 0.0


class Chances(_Plain):
    """How likely each fault of a message between agents is.

    Attributes:
        drops: the most messages that one agent loses in a job; each may cost a deadline.
        droppable: the rounds (or items, as for `Point`) whose messages may be lost.
        longest: seconds; of a delay.
        latest: seconds, until the second of two copies.
    """

    drop: float = 0.0
    double: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    drops: int = 1
    droppable: tuple[str, ...] = ()
    longest: float = 0.3
    latest: float = 0.3


class Fate(NamedTuple):
    """What befalls one message."""

    lost: bool = False
    delay: float = 0.0  # seconds
    behind: int = 0  # so many of its sender's later messages go first
    again: float | None = None  # a second copy, so many seconds later


class Plan(_Plain):
    """One run's."""

    seed: int
    chances: Chances = Chances()
    points: tuple[Point, ...] = ()
    deeds: tuple[Deed, ...] = ()

    def fate(self, address: Address, times: int) -> Fate:
        """What befalls a message that is handed over for the n-th time: the same whatever else is sent, and when."""
        source, chances = random.Random(f"{self.seed} {address} {times}"), self.chances
        rolls = [source.random() for _ in range(4)]
        delay, again = source.uniform(0, chances.longest), source.uniform(0, chances.latest)
        behind, places = source.randint(1, 4), (address.round, f"{address.round}/{address.item}")
        return Fate(
            lost=rolls[0] < chances.drop and any(place in places for place in chances.droppable),
            delay=delay if rolls[1] < chances.delay else 0.0,
            behind=behind if rolls[2] < chances.reorder else 0,
            again=again if rolls[3] < chances.double else None,
        )


def plan_file(folder: Path, job: str) -> Path:
    """Where an agent finds the plan of a job."""
    return folder / f"{job}.json"


def marker(folder: Path, job: str, number: int) -> Path:
    """A file that is there once a point has been reached, so that an agent's next life does not die there again."""
    return folder / f"{job}.{number}.reached"


def read_plan(folder: Path, envelope: Envelope) -> Plan | None:
    """The plan of the job that an envelope belongs to. Consoles have none."""
    path = plan_file(folder, envelope.job)
    return Plan.model_validate_json(path.read_bytes()) if path.exists() else None
