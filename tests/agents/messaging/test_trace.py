"""What a step was spent on: bounded, told by the step of median length, and printed for people."""

import asyncio
import io
import time

import pytest
from rich.console import Console

from tercet.agents.cli.timeline import timeline
from tercet.agents.core.problems import DeadlinePassed
from tercet.agents.messaging.inbox import Deadline, Inbox
from tercet.agents.messaging.trace import MOST_EVENTS, MOST_STEPS, Trace, loop, step_of_all
from tercet.schemas.core.trace import StepTrace, TraceEvent
from tercet.schemas.files.settings import Limits
from tercet.schemas.messages.kinds import Accept
from tests.agents.networks import mlp
from tests.agents.world import HELPER, run


def traced(*lengths: float) -> Trace:
    """Steps that pretend to have lasted so long, each with one event."""
    trace = Trace()
    trace.note_finished_step(0)
    for step, seconds in enumerate(lengths, 1):
        assert trace._since is not None
        trace._since = time.perf_counter() - seconds
        trace.note("maths", f"of {step}", time.perf_counter(), step=step)
        trace.note_finished_step(step)
    return trace


def test_the_step_of_median_length_is_told() -> None:
    """Neither the quickest nor one that the machine was busy in."""
    found = traced(0.1, 5.0, 0.2, 0.3, 9.0).median_step("bank")
    assert found is not None
    assert (found.step, found.steps, found.party) == (4, 5, "bank")
    assert [event.what for event in found.events] == ["of 4"]


def test_nothing_is_told_before_a_whole_step_was_seen() -> None:
    """The first one began before anybody looked."""
    trace = Trace()
    assert trace.median_step("bank") is None
    trace.note_finished_step(0)
    assert trace.median_step("bank") is None
    assert step_of_all({"bank": trace}, "bank") == step_of_all({"bank": trace}, "card") == {}


def test_what_is_remembered_is_bounded() -> None:
    """In steps, and in the events of one step."""
    trace = traced(*[0.1] * (MOST_STEPS + 10))
    for _ in range(MOST_EVENTS + 10):
        trace.note("send", "masked inputs", time.perf_counter(), step=0)
    trace.note_finished_step(99)
    found = trace.step_trace("bank", 99)
    assert found is not None
    assert found.steps == MOST_STEPS
    assert len(found.events) == MOST_EVENTS
    assert trace.step_trace("bank", 1) is None


def test_all_parties_tell_of_the_same_step() -> None:
    """The one that is the median at the party that leads; who does not remember it is left out."""
    traces = {"bank": traced(0.1, 0.2, 0.3), "card": traced(9.0, 0.1, 0.2), "notary": traced(0.1)}
    reported = step_of_all(traces, "bank")
    assert {party: step.step for party, step in reported.items()} == {"bank": 2, "card": 2}


def test_an_event_belongs_to_the_loop_that_noted_it() -> None:
    """Each loop says so in its own task."""
    trace = Trace()
    trace.note_finished_step(0)

    async def work(name: str) -> None:
        loop.set(name)
        await asyncio.sleep(0)
        trace.note("maths", name, time.perf_counter(), step=1)

    async def both() -> None:
        await asyncio.gather(work("online"), work("ahead"))

    asyncio.run(both())
    trace.note("open", "inbox", time.perf_counter(), step=1)
    trace.note_finished_step(1)
    found = trace.median_step("bank")
    assert found is not None
    assert all(event.loop == event.what for event in found.events)
    assert {event.loop for event in found.events} == {"online", "ahead", "inbox"}


@pytest.mark.real_time
async def test_a_wait_is_noted_with_whom_it_was_for() -> None:
    """Also one that was in vain."""
    inbox = Inbox("bank", ["card", "notary"], Limits())
    inbox.trace.note_finished_step(0)
    with pytest.raises(DeadlinePassed):
        await inbox.receive(Accept, ["notary", "card"], Deadline("step", 0.01))
    inbox.trace.note_finished_step(1)
    found = inbox.trace.median_step("bank")
    assert found is not None
    (event,) = found.events
    assert (event.kind, event.what, event.whom) == ("wait", "accept", ("card", "notary"))
    assert event.seconds >= 0.01


async def test_maths_of_a_network_are_named_by_what_they_make(tmp_path):
    """Or by what they take in; not one of them by the script that it belongs to."""
    simulation = await run(mlp((4, 4), 5, 3, rows=128, batch=32, epochs=2, activation="tanh"), tmp_path)
    made = {party: maths_of(one.context.trace, party) for party, one in simulation.runs.items()}
    assert made[HELPER] >= {"dealt", "hidden answer", "output answer"}
    sent = {"masked inputs", "weight opening", "narrow opening", "hidden share", "output share", "masked error"}
    for party in sorted(made.keys() - {HELPER}):
        assert made[party] >= sent | {"truncation opening", "slope opening", "error opening"}
        assert made[party] >= {"take in masked error", "take in dealt"}
        assert not made[party] & {"online", "openings", "preparing", "receiving"}


def maths_of(trace: Trace, party: str) -> set[str]:
    """What the maths of all steps that are remembered are called."""
    reported = [trace.step_trace(party, stored.step) for stored in trace._steps]
    return {event.what for step in reported if step for event in step.events if event.kind == "maths"}


def printed(trace: StepTrace, width: int) -> str:
    """As on a terminal of this width."""
    console = Console(file=io.StringIO(), width=width)
    console.print(timeline(trace))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_timeline_says_when_how_long_for_whom_and_in_which_loop() -> None:
    """And in the end whom the online loop waited for."""
    events = (
        TraceEvent(
            kind="wait", what="masked activation", whom=("notary",), loop="online", step=7, start=0.01, seconds=0.03
        ),
        TraceEvent(kind="wait", what="look-ahead", loop="ahead", step=10, start=-0.02, seconds=0.03),
        TraceEvent(kind="maths", what="update", loop="online", where="thread", step=7, start=0.04, seconds=0.002),
        TraceEvent(kind="send", what="[b]markup[/b]", whom=("card",), loop="ahead", step=10, start=0.0, seconds=0.001),
    )
    text = printed(StepTrace(party="bank", step=7, steps=64, seconds=0.05, events=events), 120)
    lines = text.splitlines()
    assert "bank, step 8: 50.00 ms, the median of the last 64" in lines[0]
    assert [line.split()[0] for line in lines[2:6]] == ["-20.00", "0.00", "10.00", "40.00"]
    assert "wait: masked activation for notary" in text
    assert "maths: update (thread)" in text
    assert "send: [b]markup[/b] to card" in text
    assert "+3" in text
    assert "waited, in ms, for: notary 30.00." in text.replace("\n", " ")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_timeline_fits_any_terminal(width: int) -> None:
    """Long texts are folded and not cut."""
    events = tuple(
        TraceEvent(kind="open", what="masked inputs", whom=("card",), loop="inbox", step=3, start=at, seconds=0.5)
        for at in (-9.0, 0.0, 0.99, 1.0)
    )
    text = printed(StepTrace(party="bank", step=3, steps=1, seconds=1.0, events=events), width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("from") == len(events)
