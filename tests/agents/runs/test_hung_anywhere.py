"""One party hangs at any message at all: every other party names it and nobody else, in time, and waits for it alone.

The points are taken from a run that went well: before and after the first and the last message of each kind that a
party sends. A part of them is run; TERCET_HUNG=all runs every one.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tercet.broker.interface.base import Envelope
from tercet.schemas.files.job import Evaluation, Network, TrainingJob
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.address import parse_address
from tests.agents.scenes import (
    BANK,
    CARD,
    NOTARY,
    QUICK,
    Scene,
    job,
    make_table,
    off,
    party_settings,
    prediction,
    scene,
    three,
)
from tests.agents.scenes import quick_switches as quick_switches  # a fixture
from tests.agents.world import NOTHING

TELCO = "telco"
PART = 61  # of so many points one is run
AT_ONCE = 6  # scenes in one event loop: all that they do is wait, but heartbeats must not
# A busy machine must be able to keep them; the helper's step is half a data party's.
DEADLINES = QUICK.model_copy(
    update={"accept": 1.2, "ready": 1.2, "start": 2.4, "handshake": 1.2, "alignment": 1.2, "fit": 1.2, "terms": 2.4}
    | {"step": 4.0, "release": 1.2, "verdict": 0.8, "heartbeat": 0.2, "recover": 2.5, "takeover": 1.0}
)
OVERDUE = 10.0  # seconds: who wakes up asks the others after some heartbeats
EVALUATED = Evaluation(holdout=0.25, metrics="epoch", loss=True)
NETWORK = Network(hidden=(5, 4), activation="tanh")
FOUR = ((BANK, "customers"), (CARD, "customers"), (TELCO, "customers"))


class Point(NamedTuple):
    """The `number`th message of a kind that a party sends; `after` it, or just before."""

    party: str
    kind: str
    receiver: str
    number: int
    after: bool

    def __str__(self) -> str:
        return f"{self.party} {'after' if self.after else 'before'} {self.kind} {self.number} to {self.receiver}"


@dataclass(frozen=True)
class Shape:
    """A job to hang parties in."""

    changes: dict[str, Any]
    parties: Sequence[str] = (BANK, CARD, NOTARY)
    predicts: bool = False

    def job(self) -> TrainingJob:
        """The training."""
        return job(accept_narrow=True, **self.changes)

    def settings(self, folder: Path) -> dict[str, Settings]:
        """Everybody's."""
        settings = three(folder, DEADLINES)
        if TELCO in self.parties:
            make_table(folder / f"{TELCO}.csv", seed=3)
            settings[TELCO] = party_settings(folder, TELCO, DEADLINES)
        return settings


SHAPES = {
    "linear": Shape({"epochs": 2, "evaluation": EVALUATED}),
    "ecdh": Shape({"epochs": 1, "alignment": "ecdh", "release": "shared"}),
    "blind": Shape({"epochs": 2, "evaluation": EVALUATED, "privacy": NOTHING}),
    "network": Shape({"epochs": 2, "model": "mlp", "network": NETWORK, "evaluation": EVALUATED}),
    "three": Shape({"epochs": 2, "tables": FOUR}, (BANK, CARD, TELCO, NOTARY)),
    "prediction": Shape({"epochs": 1}, predicts=True),
    "shared-prediction": Shape({"epochs": 1, "release": "shared"}, predicts=True),
}


def points(envelopes: Sequence[Envelope]) -> list[Point]:
    """Before and after the first and the last of what each party says to each other one, but for heartbeats."""
    counts: dict[tuple[str, str, str], int] = {}
    for envelope in envelopes:
        if envelope.kind not in {"progress", "job"}:
            key = (envelope.sender, envelope.kind, parse_address(envelope.address).receiver)
            counts[key] = counts.get(key, 0) + 1
    return [
        Point(party, kind, receiver, number, after)
        for (party, kind, receiver), count in counts.items()
        for number in sorted({1, count})
        for after in (False, True)
    ]


def hang_at(stage: Scene, point: Point) -> None:
    """Let a party hang there."""
    seen, look = 0, stage.memory_broker.tap

    def tap(envelope: Envelope) -> None:
        nonlocal seen
        look(envelope)
        if (envelope.sender, envelope.kind, parse_address(envelope.address).receiver) != point[:3]:
            return
        seen += 1
        if seen == point.number and point.after:
            asyncio.get_running_loop().call_soon(stage.hang, point.party)
        elif seen == point.number:
            stage.hang(point.party)

    stage.memory_broker.tap = tap


async def well(shape: Shape, folder: Path) -> list[Point]:
    """The points of a run that nothing befalls."""
    async with scene(shape.settings(folder), folder) as stage:
        ended = await stage.run(shape.job())
        if shape.predicts:
            stage.envelopes.clear()
            ended = await stage.run(prediction(ended[BANK].job))
        assert {status.state for status in ended.values()} == {"done"}, ended
        return points(stage.envelopes)


async def hang(shape: Shape, point: Point, folder: Path) -> str | None:
    """What the others make of a run in which a party hangs; empty if they need nothing more of it.

    None if it has not hung: what goes alone and what goes along depends on who is quick.
    """
    others = [party for party in shape.parties if party != point.party]
    async with scene(shape.settings(folder), folder) as stage:
        await stage.start()
        if shape.predicts:
            trained = (await stage.run(shape.job()))[BANK].job
        hang_at(stage, point)
        job_id = stage.submit(prediction(trained) if shape.predicts else shape.job())
        ended = await stage.ended(job_id, *others, seconds=DEADLINES.start + 4 * DEADLINES.verdict + 4.0)
        if {status.state for status in ended.values()} == {"done"}:
            return "" if stage.memory_broker.is_held(point.party) else None
        return off(ended, "party.silent", point.party)


def chosen(every: list[tuple[str, Point]]) -> list[tuple[str, Point]]:
    """Those that are run today."""
    if os.environ.get("TERCET_HUNG") == "all":
        return every
    return every[::PART]


@pytest.mark.parametrize(
    "names", [("linear", "ecdh", "three", "blind"), ("network", "prediction", "shared-prediction")]
)
async def test_whoever_hangs_at_any_message_is_named_by_every_other_party(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Within the deadlines; where nothing more is needed of it the others are done."""
    places, wrong = asyncio.Semaphore(AT_ONCE), list[str]()

    async def one(name: str, point: Point) -> None:
        try:
            async with places:
                reported = await hang(SHAPES[name], point, tmp_path / f"{name} {point}")
            needless = point.after or point.kind == "released"
            assert reported is None or f"waits for {point.party}" in reported or (reported == "" and needless), reported
        except* (AssertionError, TimeoutError) as errors:
            wrong.append(f"{name}, {point}: {errors.exceptions}")

    every = [(name, point) for name in names for point in await well(SHAPES[name], tmp_path / name)]
    await asyncio.gather(*(one(*which) for which in chosen(every)))
    assert not wrong, "\n".join(wrong)


RECOVERING = [
    Point(party, kind, receiver, number, after=False)
    for party, kind, receiver, number in (
        (CARD, "handshake", NOTARY, 1),
        (NOTARY, "presence", CARD, 1),
        (CARD, "pre-activation share", NOTARY, 4),
        (NOTARY, "masked activation", BANK, 4),
        (CARD, "weight share", BANK, 1),
        (BANK, "masked inputs", CARD, 4),
        (BANK, "released", CARD, 1),
    )
]


async def wait_to_recover(point: Point, folder: Path) -> None:
    """The job waits for the party, everywhere for it alone, and then fails, or goes on when it is back."""
    others = [party for party in (BANK, CARD, NOTARY) if party != point.party]
    async with scene(three(folder, DEADLINES), folder) as stage:
        for party in (BANK, CARD, NOTARY):
            stage.change(party, recovery=Recovery(attempts=3))
        hang_at(stage, point)
        await stage.start()
        job_id = stage.submit(job(epochs=4))

        def reported(party: str) -> tuple[str, tuple[str, ...]]:
            found = stage.agents[party].status(job_id)  # nothing while it is on its way there
            return (found[0].state, found[0].waits_for) if found else ("", ())

        await stage.until(lambda: all(reported(party) == ("recovering", (point.party,)) for party in others), 8.0)
        ended = await stage.ended(job_id, *others, seconds=4 * DEADLINES.recover + 10)
        off(ended, "party.silent", point.party)
        stage.wake()
        await stage.ended(job_id, seconds=OVERDUE)  # and the one that hung ends with it, whatever it makes of that


@pytest.mark.parametrize("half", [0, 1])
async def test_a_job_that_may_recover_waits_for_whoever_hangs_and_then_names_it(tmp_path: Path, half: int) -> None:
    """The state says so, and whom it waits for; after the deadline `recover` it has failed."""
    some = RECOVERING[half::2]
    await asyncio.gather(*(wait_to_recover(point, tmp_path / str(n)) for n, point in enumerate(some)))
