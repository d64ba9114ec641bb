"""Jobs that seeds disturb, in virtual time: they end, alike everywhere, with the undisturbed model.

`make disturbed` runs 100,000 of them.
"""

from collections.abc import Callable

import pytest

from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State
from tercet.agents.machine import actions, agreement, events, modes, peers, recovery
from tercet.agents.machine.machine import RunMachine
from tercet.agents.machine.outcomes import RemoteFailure, Restart, RunFailure, RunOutcome, Suspended
from tercet.agents.machine.recovery import SavedRun
from tercet.schemas.messages.kinds import Failure
from tests.agents.machine.disturbed.__main__ import run_seed
from tests.agents.machine.disturbed.world import FOREVER, SHORT, Broken, Fault, World

SEEDS = (*range(200), 287)  # the last one finds `Holding`
MESSAGES = range(1, 16)  # of a party in an attempt
WORLDS = (0, 1)  # seeds: two helpers and one, slow messages and quick ones, either data party with the label


def verified(world: World) -> World:
    """Run a world; all that must hold does."""
    world.run()
    world.verify()
    return world


def test_disturbed_jobs_end_alike_everywhere() -> None:
    """With the undisturbed model where they are done."""
    assert [what for what in (run_seed(seed)[1] for seed in SEEDS) if what] == []


def test_undisturbed_jobs_are_done() -> None:
    assert all(verified(World(seed, [])).states == {State.DONE} for seed in range(8))


# --- one party, at every message


@pytest.mark.parametrize("number", MESSAGES)
def test_a_party_that_hangs_for_good_is_named_by_everybody(number: int) -> None:
    """Whoever it is, before whatever message, and nobody else."""
    hung, seed = 0, WORLDS[number % 2]
    for party in World(seed, []).agents:
        world = verified(World(seed, [Fault("hang", party, number, FOREVER)]))
        if world.states == {State.DONE}:  # it has less to say
            continue
        hung += 1
        reasons = {(agent.failure and (agent.failure.code, agent.failure.culprit)) for agent in world.living}
        assert reasons == {("party.busy", party)}, world.describe()
    assert hung > 0 or number > 12


@pytest.mark.parametrize("kind", ["kill", "stop", "cut"])
def test_a_party_that_is_away_for_a_moment_changes_nothing(kind: str) -> None:
    """At any time of the job."""
    for half in range(8):
        for party in World(seed := WORLDS[half % 2], []).agents:
            world = World(seed, [Fault(kind, party, half / 2, SHORT / 2)])
            assert verified(world).states == {State.DONE}, world.describe()


@pytest.mark.parametrize("seed", WORLDS)
def test_a_lost_message_changes_nothing(seed: int) -> None:
    for number in MESSAGES:
        for party in World(seed, []).agents:
            world = World(seed, [Fault("lose", party, number, 0.0)])
            assert verified(world).states == {State.DONE}, world.describe()


def test_a_party_that_is_gone_for_good_is_named_by_those_who_are_left() -> None:
    """But for a helper where another one stands by: that one helps."""
    for seed in range(6):
        for party in World(seed, []).agents:
            world = verified(World(seed, [Fault("kill", party, 1.2, FOREVER)]))
            config = world.label.config
            if party in config.helpers and len(config.helpers) > 1:
                assert world.states == {State.DONE}
            elif world.states != {State.DONE}:  # it was not over by then
                named = {agent.failure and (agent.failure.code, agent.failure.culprit) for agent in world.living}
                assert named == {("party.silent", party)}, world.describe()


def test_a_cancelled_job_is_cancelled_everywhere_or_done_everywhere() -> None:
    """At any time of the job, by anybody who takes part."""
    found = set[State | None]()
    for seed in WORLDS:
        for party in World(seed, []).label.config.data_parties:
            for tenth in range(1, 40, 2):
                found |= verified(World(seed, [Fault("cancel", party, tenth / 10, 0.0)])).states
    assert found == {State.DONE, State.CANCELLED}


def test_a_refusal_is_everybodys_reason() -> None:
    """Whoever refuses; and two that do are both named in it."""
    for seed in range(6):
        for party in (parties := list(World(seed, []).agents)):
            world = verified(World(seed, [Fault("refuse", party, 0.0, FOREVER)]))
            if party in world.label.config.parties(world.label.config.helpers[0]):
                assert {agent.failure and agent.failure.culprit for agent in world.living} == {party}
        world = verified(World(seed, [Fault("refuse", party, 0.0, FOREVER) for party in parties[:2]]))
        assert world.label.failure is not None
        assert all(f"{party} refuses" in world.label.failure.reason for party in parties[:2])


def test_queues_that_are_refused_for_good_are_asked_for_now_and_then() -> None:
    """A party that may not have them does not ask as fast as the broker answers."""
    config = next(agent.config for agent in World(0, []).agents.values() if not agent.config.is_label_party)
    run, asked = RunMachine(config, SavedRun(), 0.0), 0
    todo, refused = list(run.on(events.Started(), 0.0)), JobProblem("transport.broker", "broker", "no right")
    for second in range(1, 13):
        while any(isinstance(one, actions.OpenQueues) for one in todo):
            asked += 1
            todo = list(run.on(events.QueuesRefused(refused), second - 0.5))
        todo = list(run.on(events.Tick(), float(second)))
    assert run.mode == modes.Mode.WAITING
    assert 3 <= asked <= 4


def test_an_end_that_was_held_does_not_wait_for_queues() -> None:
    """An agent that leaves while the old attempt lets go, and the broker is away."""
    config = next(agent.config for agent in World(0, []).agents.values() if agent.config.is_label_party)
    run = RunMachine(config, SavedRun(), 0.0)
    run.on(events.Started(), 0.0)
    run.on(events.QueuesRefused(JobProblem("transport.broker", "broker", "away")), 1.0)
    assert run.mode == modes.Mode.REPLACING
    run.on(events.Ordered(Suspended()), 1.1)
    assert actions.Drain("verdict") in run.on(events.AttemptReplaced(), 1.2)


# --- faults of ours, which the seeds find


class Hasty(RunMachine):
    """Counts queues as open while they are being opened, and begins another attempt in between."""

    def _open_queues(self) -> None:
        super()._open_queues()
        self._are_queues_open = True

    def _take_outcome(self, outcome: RunOutcome) -> None:
        if self.mode == modes.Mode.OPENING:
            self._handle(outcome)
        else:
            super()._take_outcome(outcome)


class Holding(RunMachine):
    """Holds what it has heard of the old attempt against the next one."""

    def _begin_attempt(self) -> None:
        held, self._held = self._held, None
        super()._begin_attempt()
        if isinstance(held, RemoteFailure):
            self._take_outcome(held)


class Endless(RunMachine):
    """Never gives up on a label party that is gone."""

    def _watch(self) -> None:
        if self.config.is_label_party:
            super()._watch()


class Stubborn(RunMachine):
    """Tells nobody a verdict, and sees every fault as its own."""

    def _do(self, *todo: actions.Action) -> None:
        super()._do(*(one for one in todo if not isinstance(one, actions.Send)))

    def _diagnose(self, outcome: RunFailure, now: float) -> Failure:
        return super()._diagnose(outcome, now).model_copy(update={"culprit": self.config.me})


class Forgetful(RunMachine):
    """Begins every attempt with the number of the last."""

    def _begin_attempt(self) -> None:
        self._next = Restart(self.attempts.number, self._next.helper)
        super()._begin_attempt()


def is_found(what: str, make: Callable[..., RunMachine] = RunMachine, first: int = 0) -> bool:
    """Tell whether a property does not hold at one of a thousand seeds, by the words that say which."""
    for seed in range(first, first + 1000):
        try:
            verified(World(seed, make=make))
        except Broken as broken:
            if what in str(broken):
                return True
    return False


@pytest.mark.parametrize(
    ("make", "what", "first"),  # the last is where the search begins, just before what it finds
    [
        (Hasty, "consumes only", 28),
        (Holding, "after faults that have passed", 287),
        (Endless, "hangs", 54),
        (Stubborn, "different reasons", 2),
        (Forgetful, "hangs", 1),
    ],
)
def test_a_planted_fault_is_found_within_a_thousand_runs(make: type[RunMachine], what: str, first: int) -> None:
    assert is_found(what, make, first)


def test_blaming_whoever_waits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the chain instead of its end."""
    monkeypatch.setattr(peers, "culprits", lambda _, start: [start])
    monkeypatch.setattr("tercet.agents.machine.blame.culprits", lambda _, start: [start])
    with pytest.raises(AssertionError):
        test_a_party_that_hangs_for_good_is_named_by_everybody(3)


def test_a_wait_without_an_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A party that waits for a verdict for ever."""
    monkeypatch.setattr(agreement.Agreement, "_wait", lambda *_: None)
    assert is_found("hangs")


def test_a_fault_that_counts_for_no_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after which a job could go on ends it."""
    monkeypatch.setattr(recovery, "RECOVERABLE", recovery.RECOVERABLE - {"agent.restarted"})
    assert is_found("after faults that have passed")
