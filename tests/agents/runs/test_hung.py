"""Who waits for whom: a hung party, a busy one and a lost message are told apart, and everybody names the right one.

Hung means here that nothing comes from the party and nothing reaches it, while the broker stays well.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tercet.agents.core.problems import BROKER
from tercet.agents.session.context import JobContext
from tercet.broker.interface.base import Envelope
from tercet.broker.memory.memory_queue import Delay, Drop, Fault
from tercet.schemas.files.job import Evaluation, Network
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.messages.address import parse_address
from tercet.schemas.messages.kinds import JobStatus
from tests.agents.scenes import BANK, CARD, NOTARY, QUICK, Scene, job, off, on, prediction, scene, three
from tests.agents.world import NOTHING

PARTIES = (BANK, CARD, NOTARY)
Trigger = Callable[[Envelope], bool]


def said_by(party: str, *kinds: str, epoch: int = 0) -> Trigger:
    """The party says something of these kinds for the first step of an epoch, which may be its only one."""

    def trigger(envelope: Envelope) -> bool:
        address = parse_address(envelope.address)
        return envelope.sender == party and envelope.kind in kinds and (address.epoch, address.step) == (epoch, 0)

    return trigger


def first_contact(party: str) -> Trigger:
    """The party is about to hear of the job; the label party, which announced it, to hear of an acceptance."""
    kind = "accept" if party == BANK else "job"
    return lambda envelope: envelope.kind == kind and parse_address(envelope.address).receiver == party


def item(name: str, sender: str | None = None) -> Trigger:
    """Something under this name within its round is said, by this party or by anybody."""

    def trigger(envelope: Envelope) -> bool:
        return parse_address(envelope.address).item.startswith(name) and sender in {None, envelope.sender}

    return trigger


STAGES: dict[str, Callable[[str], Trigger]] = {
    "accept": first_contact,
    "training": lambda party: said_by(party, "pre-activation share", "masked activation", epoch=1),
    "score opening": lambda party: said_by(party, "score opening", "dealt shares", epoch=1),
    "hidden share": lambda party: said_by(party, "hidden share", "hidden answer", epoch=1),
    "release": lambda _: item("block", CARD),
}
NETWORK = {"model": "mlp", "network": Network(hidden=(5, 4), activation="tanh")}
JOBS: dict[str, dict[str, Any]] = {"score opening": {"privacy": NOTHING}, "hidden share": NETWORK}
EVALUATED = Evaluation(holdout=0.25, metrics="epoch", loss=True)


def hang_when(stage: Scene, party: str, trigger: Trigger) -> None:
    """Let a party hang from the first envelope on that is so."""
    look = stage.memory_broker.tap

    def tap(envelope: Envelope) -> None:
        look(envelope)
        if trigger(envelope):
            stage.hang(party)

    stage.memory_broker.tap = tap


async def hang_one(folder: Path, party: str, when: str) -> None:
    """A run in which one party hangs at some stage, and what the others make of it."""
    async with scene(three(folder), folder) as stage:
        hang_when(stage, party, STAGES[when](party))
        await stage.start()
        job_id = stage.submit(job(evaluation=EVALUATED, **JOBS.get(when, {})))
        others = [other for other in PARTIES if other != party]
        ended = await stage.ended(job_id, *others, seconds=QUICK.start + 3 * QUICK.verdict + 1.0)
        reason = off(ended, "party.silent", party)
        assert f"waits for {party}" in reason
        assert "the deadline '" in reason
        if when != "accept" or party == BANK:  # elsewhere the one that hangs has never heard of the job
            await stage.ended(job_id)


@pytest.mark.parametrize(
    ("when", "parties"),
    [
        ("accept", (BANK, CARD)),
        ("training", PARTIES),
        ("score opening", (NOTARY,)),
        ("hidden share", (BANK,)),
        ("release", (CARD,)),
    ],
)
async def test_every_other_party_names_the_one_that_hangs(tmp_path: Path, when: str, parties: tuple[str, ...]) -> None:
    """Within the deadline of that wait and a verdict's; who only waits for it is innocent.

    Each party at each message hangs in `machine/test_disturbed.py`.
    """
    await asyncio.gather(*(hang_one(tmp_path / party, party, when) for party in parties))


RECOVERING: list[tuple[str, Trigger]] = [
    (NOTARY, item("presence", NOTARY)),
    (CARD, said_by(CARD, "pre-activation share", epoch=1)),
    (BANK, said_by(BANK, "released")),
]


@pytest.mark.parametrize(("party", "trigger"), RECOVERING, ids=("alignment", "training", "release"))
async def test_a_job_that_may_recover_waits_for_whoever_hangs_and_then_names_it(
    tmp_path: Path, party: str, trigger: Trigger
) -> None:
    """The state says so, and everywhere for it alone; after the deadline `recover` it has failed."""
    others = [other for other in PARTIES if other != party]
    settings = three(tmp_path, QUICK.model_copy(update={"recover": 2.5, "takeover": 1.0}))
    async with scene(settings, tmp_path) as stage:
        for one in PARTIES:
            stage.change(one, recovery=Recovery(attempts=3))
        hang_when(stage, party, trigger)
        await stage.start()
        job_id = stage.submit(job())

        def reported(other: str) -> tuple[str, tuple[str, ...]]:
            found = stage.agents[other].status(job_id)  # nothing while it is on its way there
            return (found[0].state, found[0].waits_for) if found else ("", ())

        await stage.until(lambda: all(reported(other) == ("recovering", (party,)) for other in others), 8.0)
        off(await stage.ended(job_id, *others), "party.silent", party)
        stage.wake()
        await stage.ended(job_id)  # and the one that hung ends with it, whatever it makes of that


async def test_a_party_that_wakes_up_late_shows_the_others_verdict(tmp_path: Path) -> None:
    """What was said meanwhile is in its queues."""
    deadlines = QUICK.model_copy(update={"step": 3.0})
    settings = three(tmp_path)
    async with scene(settings, tmp_path) as stage:
        stage.change(CARD, deadlines=deadlines)
        hang_when(stage, CARD, STAGES["training"](CARD))
        await stage.start()
        job_id = stage.submit(job())
        await stage.ended(job_id, BANK, NOTARY)
        stage.wake()
        off(await stage.ended(job_id), "party.silent", CARD)


async def test_a_message_lost_between_two_living_parties_is_the_brokers_fault(tmp_path: Path) -> None:
    """Everybody waits for somebody, in a circle."""
    lost = ("pre-activation share", 1, 1, NOTARY)

    def lose(envelope: Envelope, queue: str) -> Sequence[Fault]:
        address = parse_address(envelope.address)
        unlucky = (envelope.kind, address.epoch, address.step, address.receiver) == lost
        return [Drop()] if unlucky else []

    async with scene(three(tmp_path), tmp_path, faults=lose) as stage:
        reason = off(await stage.run(job()), "transport.lost", "broker")
        assert "lost" in reason


class Slow:
    """Lets one function take so many seconds more wherever one of the parties computes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, seconds: float, *parties: Path) -> None:
        """`parties` are state folders."""
        real = JobContext.compute

        async def compute(context: JobContext, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if context.settings.state in parties and getattr(function, "func", function).__name__ == name:
                await asyncio.sleep(seconds)
            return await real(context, function, *args, **kwargs)

        monkeypatch.setattr(JobContext, "compute", compute)


@pytest.mark.parametrize(
    ("name", "deadline", "parties"),
    [
        ("_read_snapshot", "ready", (CARD,)),
        ("ids_digest", "alignment", (CARD,)),
        ("_encode", "fit", (BANK, CARD)),
        ("_measure", "step", (BANK,)),
    ],
)
async def test_a_party_that_computes_for_ever_is_named_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, deadline: str, parties: tuple[str, ...]
) -> None:
    """Its agent still answers, so it is no matter of connections."""
    Slow(monkeypatch, name, 10.0, *(tmp_path / party / party for party in parties))

    async def busy(party: str) -> None:
        async with scene(three(tmp_path / party), tmp_path / party) as stage:
            reason = off(await stage.run(job(evaluation=EVALUATED)), "party.busy", party)
        assert "alive" in reason
        assert f"{party}'s log" in reason
        if party == CARD:
            assert f"'{deadline}'" in reason  # the others' waits for a label party have other names

    await asyncio.gather(*(busy(party) for party in parties))


# Longer than a step may take, and within what reading and encoding a table may.
LONGER = QUICK.model_copy(update={"fit": 3.0, "terms": 4.0})


async def test_a_table_that_takes_longer_to_encode_than_a_step_does_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the helper too, whose next message is that of the first step."""
    Slow(monkeypatch, "_encode", 0.7, tmp_path / CARD)
    async with scene(three(tmp_path, LONGER), tmp_path) as stage:
        assert {status.state for status in (await stage.run(job())).values()} == {"done"}


@pytest.mark.parametrize(("release", "name"), [("owners", "_partial"), ("shared", "encode")])
async def test_a_table_that_takes_longer_to_score_than_a_step_does_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, name: str
) -> None:
    """The first message of a prediction comes when all rows are scored, or encoded."""
    async with scene(three(tmp_path, LONGER), tmp_path) as stage:
        trained = await stage.run(job(release=release))
        Slow(monkeypatch, name, 1.3, tmp_path / CARD)
        ended = await stage.run(prediction(trained[BANK].job))
        assert {status.state for status in ended.values()} == {"done"}


async def test_two_parties_that_hang_together_are_not_mistaken_for_a_lost_message(tmp_path: Path) -> None:
    """One of them is named: the first in the job's order, or the one for whom alone the label party waits by then."""
    async with scene(three(tmp_path), tmp_path) as stage:
        hang_when(stage, CARD, STAGES["training"](CARD))
        hang_when(stage, NOTARY, STAGES["training"](CARD))
        await stage.start()
        ended = await stage.ended(stage.submit(job()), BANK)
        failure = ended[BANK].failure
        assert failure is not None
        assert failure.code == "party.silent"
        assert failure.culprit in {CARD, NOTARY}


async def test_a_broker_that_is_short_of_memory_is_blamed_and_no_party(tmp_path: Path) -> None:
    """Nobody hears anybody, and each knows why by itself."""
    async with scene(three(tmp_path), tmp_path) as stage:
        with ExitStack() as shortage:
            trigger = said_by(CARD, "masked inputs", epoch=1)
            on(stage, trigger, lambda: shortage.enter_context(stage.memory_broker.shortage("low on disk")))
            ended = await stage.run(job())
        assert "it is low on disk; have its operator" in off(ended, "transport.broker", BROKER)


async def test_a_party_that_has_left_the_broker_is_named(tmp_path: Path) -> None:
    """Its queues are gone, so messages to it come back; if all wait before that shows, the broker has lost them."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.start()

        def leave(envelope: Envelope) -> None:
            if said_by(CARD, "masked inputs", epoch=1)(envelope):
                for name in [name for name in stage.memory_broker.queues if name.startswith("tercet.card.")]:
                    stage.memory_broker.delete(name)

        stage.memory_broker.tap = leave
        ended = await stage.ended(stage.submit(job()), BANK, NOTARY)
        failure = ended[BANK].failure
        assert failure is not None
        assert (failure.code, failure.culprit) in {("party.unreachable", CARD), ("transport.lost", BROKER)}
        assert ended[NOTARY].failure == failure


async def test_a_envelope_that_comes_late_but_in_time_changes_nothing(tmp_path: Path) -> None:
    """Deadlines are for waits, not for the whole job."""
    slow = {"masked weights", "masked activation"}

    def overdue(envelope: Envelope, queue: str) -> Sequence[Fault]:
        return [Delay(0.05)] if envelope.kind in slow else []

    async with scene(three(tmp_path), tmp_path, faults=overdue) as stage:
        ended: dict[str, JobStatus] = await stage.run(job())
        assert {status.state for status in ended.values()} == {"done"}


async def test_status_says_at_which_party_the_waiting_ends(tmp_path: Path) -> None:
    """Not the helper, for whose answer the bank waits, but the card processor, for whose share the helper waits."""
    settings = three(tmp_path, QUICK.model_copy(update={"step": 5.0}))
    async with scene(settings, tmp_path) as stage:
        await stage.start()
        job_id = stage.submit(job(epochs=2000))
        await stage.until(lambda: stage.state(BANK, job_id) == "training")
        stage.hang(CARD)
        await stage.until(lambda: stage.agents[BANK].status(job_id)[0].waits_for == (CARD,))
        stage.agents[BANK].cancel(job_id)
        stage.wake()
        await stage.ended(job_id)
