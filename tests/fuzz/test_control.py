"""Parties that say what they should not, at any moment and validly sealed: each job ends once, and is explained.

The agents are real, and so is every seal; only what is said is drawn at random. TERCET_FUZZ_EXAMPLES=200 draws more.
"""

import asyncio
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tercet.agents.core.error_codes import all_codes
from tercet.agents.core.problems import BROKER, UNDECIDED
from tercet.agents.core.states import TERMINAL, State
from tercet.agents.messaging.inbox import Deadline
from tercet.broker.interface.base import Envelope
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.messages.kinds import Cancel, Failure, Message, Outcome, Progress
from tests import virtual_time
from tests.agents.scenes import BANK, CARD, NOTARY, QUICK, Scene, job, off, scene, three
from tests.agents.scenes import quick_switches as quick_switches  # a fixture
from tests.schemas.strategies import EACH, messages

EXAMPLES = int(os.environ.get("TERCET_FUZZ_EXAMPLES", "2"))
TOGETHER = 3  # jobs of one example, each with agents of its own
PARTIES = (BANK, CARD, NOTARY)
AS_DRAWS = [Phase.explicit, Phase.generate]  # to shrink an example of seconds would take many minutes
# Long enough for a busy machine, on which what nobody meddles with must end well.
DEADLINES = QUICK.model_copy(
    update={"accept": 2.0, "ready": 2.0, "start": 4.0, "handshake": 2.0, "alignment": 2.0, "fit": 2.0, "terms": 4.0}
    | {"step": 4.0, "release": 2.0, "verdict": 0.8, "heartbeat": 0.2, "recover": 2.5, "takeover": 1.0}
)
RECOVERIES = (Recovery(attempts=1), Recovery(attempts=3))
SOON = Deadline("verdict", 0.4)
LONG = 60.0  # seconds: several attempts, each to its last deadline

parties = st.sampled_from(PARTIES)
places = st.integers(0, 10**10 - 1)  # in an address; control messages count lives of agents there


def changed(message: Message, **changes: object) -> Message:
    """A message with some other fields."""
    return message.model_copy(update=changes)


progress = st.builds(
    changed,
    EACH[Progress],
    state=st.sampled_from(State),
    waits_for=st.lists(parties, max_size=3).map(tuple),
    interval=st.sampled_from([0.001, 0.1, 3600.0]),
    overdue=st.none() | st.sampled_from(["step", "recover", "approve", "nothing"]),
    helper=st.sampled_from(PARTIES),
)
failures = st.builds(
    Failure,
    code=st.sampled_from(["party.silent", "agent.restarted", "transport.lost", "table.label", "job.plan"]),
    stage=st.text(max_size=20),
    culprit=st.sampled_from([*PARTIES, BROKER, UNDECIDED]),
    reason=st.text(max_size=40),
    verdict=st.booleans(),
)


@dataclass(frozen=True)
class Saying:
    """When so many envelopes have been handed over, one party says something to another."""

    after: int
    sender: str
    receiver: str
    message: Message
    epoch: int
    step: int


sayings = st.builds(
    Saying,
    after=st.integers(0, 250),
    sender=parties,
    receiver=parties,
    message=progress | failures | st.just(Cancel()) | messages,
    epoch=st.integers(0, 4) | places,
    step=st.integers(0, 4) | places,
)


def meddle(stage: Scene, said: list[Saying]) -> list[Saying]:
    """Let what is to be said be said when it is time; returns what is still to be said."""
    waiting, handed, look = sorted(said, key=lambda one: one.after), 0, stage.memory_broker.tap

    def tap(envelope: Envelope) -> None:
        nonlocal handed
        look(envelope)
        handed += 1
        while waiting and waiting[0].after <= handed and envelope.job in stage.agents[BANK].jobs.runs:
            stage.tasks.create_task(say(stage, waiting.pop(0), envelope.job))

    stage.memory_broker.tap = tap
    return waiting


async def say(stage: Scene, saying: Saying, job_id: str) -> None:
    """In the name of a party that is at work on the job, under its keys."""
    run = stage.agents[saying.sender].jobs.runs.get(job_id)
    if run is None or saying.sender == saying.receiver:
        return
    mailbox = run.context.mailbox
    if mailbox._session is None and saying.message.round not in {"control", "handshake"}:
        return  # there is no key to seal it with
    with suppress(RuntimeError):  # the run has said its last word
        await mailbox.send(
            saying.message, [saying.receiver], SOON, epoch=saying.epoch, step=saying.step, required=False
        )


async def one_job(folder: Path, said: list[Saying], recovery: Recovery) -> None:
    """A job among meddlers, and another one after it."""
    async with scene(three(folder, DEADLINES), folder) as stage:
        for party in PARTIES:
            stage.change(party, recovery=recovery)
        waiting = meddle(stage, said)
        await stage.start()
        ended = await stage.ended(stage.submit(job()), seconds=LONG)
        waiting.clear()
        for party, status in ended.items():
            assert status.state in TERMINAL, (party, status.state)
            assert (status.state == "failed") == (status.failure is not None)
            if status.failure is not None:
                assert status.failure.code in all_codes(), status.failure
                assert status.failure.culprit in (*PARTIES, BROKER, UNDECIDED), status.failure
        again = await stage.ended(stage.submit(job("afterwards")), seconds=LONG)
        assert {status.state for status in again.values()} == {"done"}, [status.failure for status in again.values()]


def test_an_end_that_is_blamed_on_somebody_else_is_blamed_on_who_says_so(tmp_path: Path) -> None:
    """Found by what follows: how a job has ended is heard with as little trust as that it ends."""
    virtual_time.run(blame_somebody_else(tmp_path))


async def blame_somebody_else(folder: Path) -> None:
    """Say three times how a job has ended, while it trains."""
    blamed = Failure(code="party.silent", stage="", culprit="nobody", reason="they say", verdict=True)
    outcome = Outcome(state="failed", failure=blamed, attempt=1)
    said = [Saying(after, BANK, CARD, outcome, 9_999_999_999, 0) for after in (60, 200, 400)]  # a queue may be late
    async with scene(three(folder, DEADLINES), folder) as stage:
        meddle(stage, said)
        await stage.start()
        ended = await stage.ended(stage.submit(job(epochs=400)), seconds=LONG)
        off(ended, "message.malformed", BANK)


@settings(max_examples=EXAMPLES, deadline=None, database=None, phases=AS_DRAWS, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.lists(sayings, min_size=1, max_size=4), st.sampled_from(RECOVERIES)),
                min_size=TOGETHER, max_size=TOGETHER))  # fmt: skip
def test_whatever_is_said_a_job_ends_once_and_is_explained(plots: list[tuple[list[Saying], Recovery]]) -> None:
    """No agent meets an error of its own, none is left waiting, and the next job finds them well."""

    async def example(folder: Path) -> None:
        jobs = (one_job(folder / str(n), said, recovery) for n, (said, recovery) in enumerate(plots))
        await asyncio.gather(*jobs)

    with tempfile.TemporaryDirectory() as folder, capture_logs() as logs:
        virtual_time.run(example(Path(folder)))
    assert not [line for line in logs if "error of our own" in line["event"]]
