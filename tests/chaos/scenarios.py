"""Fifty-one ways in which a run may be disturbed, each drawn from a seed: who dies where, what is lost, cut or held up.

A scenario says what is to happen and nothing of how it has to end: they all end in the same way.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal, NamedTuple

from tests.chaos.plans import Chances, Deed, Plan, Point, Way, When

BANK, CARD, NOTARY = "bank", "card", "notary"  # the label party, the other data party, the helper
PARTIES = (BANK, CARD, NOTARY)
DATA = ("handshake", "alignment", "masked-inputs", "dealt", "pre-activations", "activations", "openings", "metrics")
SAID = tuple(  # beside the steps; an announcement is persistent, and no restart of a broker loses it
    f"control/{item}"
    for item in (
        *("received", "approvers", "accept", "ready", "start", "sizes", "terms", "checkpoints", "go-on"),
        *("progress", "released", "failure", "inquiry", "outcome"),
    )
)
STEP_SECONDS = 2.0  # the deadline of a step in `runs`, which a process that is stopped for long has to miss

Model = Literal["logistic", "mlp"]
Kind = Literal["training", "prediction"]


class Stage(NamedTuple):
    """Where in the life of a model something may happen, and how many messages each party has there at least."""

    kind: Kind
    rounds: tuple[str, ...]
    data_party: int  # messages each way
    helper: int


STAGES = {
    "handshake": Stage("training", ("handshake",), 4, 4),
    "alignment": Stage("training", ("alignment",), 4, 2),
    "training": Stage("training", ("masked-inputs", "pre-activations", "activations"), 100, 80),
    "release": Stage("training", ("release", "control/released"), 3, 2),
    "prediction": Stage("prediction", ("handshake", "alignment", "metrics", "control/released"), 7, 6),
}


class Scenario(NamedTuple):
    """One run's disturbance, under a name that a job can have."""

    name: str
    what: str
    plan: Plan
    model: Model = "logistic"


class _Draw:
    """Draws one scenario's details; the same from the same seed and name."""

    def __init__(self, seed: int, name: str) -> None:
        self.source = random.Random(f"{seed} {name}")
        self.seed = self.source.getrandbits(32)

    def point(self, stage: str, party: str, *, kills: bool = True, after: int | None = None) -> Point:
        """A message of a stage, coming or going, and a moment of it."""
        kind, rounds, data_party, helper = STAGES[stage]
        ways: Sequence[Way] = ("out", "in")
        moments: Sequence[When] = ("before", "between", "after")
        return Point(
            party=party,
            kind=kind,
            rounds=rounds,
            way=self.source.choice(ways),
            count=self.source.randint(1, helper if party == NOTARY else data_party),
            when=self.source.choice(moments),
            kills=kills,
            after=after,
        )

    def plan(self, *points: Point, deeds: tuple[Deed, ...] = (), chances: Chances | None = None) -> Plan:
        """A plan of these."""
        return Plan(seed=self.seed, points=points, deeds=deeds, chances=chances or Chances())


def _killed(seed: int, stage: str, party: str, times: str = "", model: Model = "logistic") -> Scenario:
    name = f"{party}-{stage}{times}" if model == "logistic" else f"{model}-{party}-{stage}"
    draw = _Draw(seed, name)
    return Scenario(name, f"{party} killed in {stage}", draw.plan(draw.point(stage, party)), model)


def _broker_killed(seed: int, stage: str) -> Scenario:
    name = f"broker-{stage}"
    draw = _Draw(seed, name)
    point = draw.point(stage, draw.source.choice((BANK, CARD)), kills=False)
    seconds = draw.source.uniform(0, 1)
    plan = draw.plan(point, deeds=(Deed(point=0, what="broker", seconds=seconds),))
    return Scenario(name, f"broker killed in {stage}", plan)


DISTURBANCES = {
    "doubled": Chances(double=0.4),
    "delayed": Chances(delay=0.1, longest=0.2),
    "reordered": Chances(reorder=0.3),
    "lost": Chances(drop=0.02, drops=2, droppable=DATA),
    "lost-at-the-end": Chances(drop=0.5, drops=1, droppable=("release", "control/released")),
    "lost-control": Chances(drop=0.3, drops=2, droppable=SAID),
    "all-at-once": Chances(
        drop=0.01, double=0.2, delay=0.05, reorder=0.2, drops=1, droppable=(*DATA, "release", "control/released")
    ),
}


def _disturbed(seed: int, name: str, times: str = "") -> Scenario:
    draw = _Draw(seed, name + times)
    return Scenario(f"{name}{times}", f"messages {name.replace('-', ' ')}", draw.plan(chances=DISTURBANCES[name]))


def _apart(seed: int, party: str, what: Literal["cut", "stall"]) -> Scenario:
    name = f"{what}-{party}"
    draw = _Draw(seed, name)
    point = draw.point("training", party, kills=False)
    seconds = draw.source.uniform(0.5, 2.5)
    reported = f"{party}'s line {'cut' if what == 'cut' else 'stalled'} for {seconds:.1f} s in training"
    return Scenario(
        name, reported, draw.plan(point, deeds=(Deed(point=0, what=what, parties=(party,), seconds=seconds),))
    )


def _stopped(seed: int, party: str) -> Scenario:
    name = f"stopped-{party}"
    draw = _Draw(seed, name)
    point = draw.point("training", party, kills=False)
    seconds = draw.source.uniform(1.2, 1.8) * STEP_SECONDS
    deed = Deed(point=0, what="stop", parties=(party,), seconds=seconds)
    return Scenario(name, f"{party} stopped for {seconds:.1f} s in training", draw.plan(point, deeds=(deed,)))


def _killed_again(seed: int, first: str, second: str, rounds: tuple[str, ...]) -> Scenario:
    """The second dies at a message of the attempt that the first one's death has brought about."""
    name = f"again-{first}-{second}"
    draw = _Draw(seed, name)
    again = draw.point("handshake", second, after=0).model_copy(update={"rounds": rounds, "count": 1})
    what = f"{first} killed in training, {second} while the job recovers"
    return Scenario(name, what, draw.plan(draw.point("training", first), again))


def _both_killed(seed: int, stage: str, *parties: str) -> Scenario:
    name = f"both-{'-'.join(parties)}"
    draw = _Draw(seed, name)
    point = draw.point(stage, parties[0], kills=False)
    plan = draw.plan(point, deeds=(Deed(point=0, what="kill", parties=parties),))
    return Scenario(name, f"{' and '.join(parties)} killed at once in {stage}", plan)


def _killed_among_disturbances(seed: int, party: str) -> Scenario:
    name = f"disturbed-{party}"
    draw = _Draw(seed, name)
    chances = Chances(double=0.2, delay=0.02, reorder=0.1, latest=6.0)  # copies come in the next attempt as well
    return Scenario(
        name, f"{party} killed among messages in disorder", draw.plan(draw.point("training", party), chances=chances)
    )


def everything(seed: int) -> list[Scenario]:
    """All scenarios of a seed; those that are listed first are the ones a short run should have."""
    return list(_everything(seed))


def _everything(seed: int) -> Iterator[Scenario]:
    yield Scenario("undisturbed", "nothing", _Draw(seed, "undisturbed").plan())
    for stage, party in product(STAGES, PARTIES):
        yield _killed(seed, stage, party)
    for stage in STAGES:
        yield _broker_killed(seed, stage)
    for name in DISTURBANCES:
        yield _disturbed(seed, name)
    yield _apart(seed, CARD, "cut")
    yield _apart(seed, NOTARY, "cut")
    yield _apart(seed, BANK, "stall")
    for party in PARTIES:
        yield _stopped(seed, party)
    yield _killed_again(seed, CARD, CARD, ("handshake",))
    yield _killed_again(seed, NOTARY, BANK, ("handshake", "alignment"))
    yield _killed_again(seed, BANK, NOTARY, ("handshake",))
    yield _both_killed(seed, "training", BANK, CARD)
    yield _both_killed(seed, "training", CARD, NOTARY)
    yield _both_killed(seed, "release", *PARTIES)
    for party in PARTIES:
        yield _killed_among_disturbances(seed, party)
    for party in PARTIES:
        yield _killed(seed, "training", party, model="mlp")
    for party in PARTIES:
        yield _killed(seed, "training", party, times="-2")
        yield _killed(seed, "release", party, times="-2")
