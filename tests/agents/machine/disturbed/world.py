"""All parties of a job and the broker between them, disturbed by faults that a seed draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import NamedTuple

from tercet.agents.core.states import State
from tercet.agents.machine.events import Ordered
from tercet.agents.machine.machine import RunMachine
from tercet.agents.machine.outcomes import Cancelled, Suspended
from tercet.agents.machine.recovery import SavedRun
from tercet.agents.machine.run_config import RunConfig
from tercet.schemas.files.settings import Deadlines
from tercet.schemas.messages.kinds import Message
from tests.agents.machine.disturbed.clock import Clock
from tests.agents.machine.disturbed.party import CONTROL, WORK, Agent, Run, control_address, is_consumed
from tests.agents.machine.disturbed.work import STEPS, undisturbed_model

DEADLINES = Deadlines(
    accept=6, ready=6, start=12, handshake=5, alignment=5, fit=5, terms=10, step=10, release=5,
    recover=15, takeover=4, verdict=4, heartbeat=1, drain=2,
)  # fmt: skip
WAITS = ("accept", "ready", "start", "handshake", "alignment", "fit", "terms", "step", "release", "recover", "verdict")
LONGEST = sum(getattr(DEADLINES, name) for name in WAITS)  # of an attempt, if one wait came after the other
ATTEMPTS = 5
FOREVER = 1e9
SHORT = 3.0  # seconds of a fault that passes before anybody's deadline for coming back

MakeMachine = Callable[[RunConfig, SavedRun, float], RunMachine]


class Fault(NamedTuple):
    """Something that goes wrong: at a time, or at the `number`th message that a party sends, for some seconds."""

    kind: str  # kill, stop, cut, hang, lose, cancel, late, refuse
    party: str
    at: float
    seconds: float

    @property
    def passes(self) -> bool:
        """Tell whether a job goes on after it, to the same model."""
        return self.kind not in {"cancel", "refuse"} and self.seconds <= SHORT

    def __str__(self) -> str:
        length = "for good" if self.seconds >= FOREVER else f"for {self.seconds:.2f} s"
        return f"{self.kind} {self.party} at {self.at:.2f} {length}"


class Broken(AssertionError):
    """Says that a property does not hold."""


class Sent(NamedTuple):
    """Waits in a queue of its receiver."""

    round: str
    deliver: Callable[[Run], None]


@dataclass
class Broker:
    """Carries messages, late, twice and in any order; loses what it is told to lose."""

    world: "World"
    queues: dict[str, list[Sent]] = field(default_factory=dict)
    held: dict[str, list[Callable[[], None]]] = field(default_factory=dict)  # by sender, while it is cut off
    unbound: list[tuple[str, Sent]] = field(default_factory=list)  # of receivers that have no queue yet

    def say_control(self, sender: Agent, receiver: str, message: Message, attempt: int, life: int, number: int) -> None:
        """Send a control message; it is dropped where its receiver has no queue."""
        address = control_address(sender.name, receiver, message, attempt, life, number)
        sent = Sent(CONTROL, lambda run: run.hear_control(address, message))
        self._send(sender, partial(self._arrive, receiver, sent, waits=False))

    def say_work(self, sender: Agent, receiver: str, attempt: int, kind: str, value: int | None) -> None:
        """Send a message of an attempt; it waits for its receiver's queue."""
        sent = Sent(WORK, lambda run: run.hear_work(attempt, kind, sender.name, value))
        if not self.world.loses(sender):
            self._send(sender, partial(self._arrive, receiver, sent, waits=True))

    def say_standing(self, sender: Agent, receiver: str, kind: str) -> None:
        """Put a message into an agent's standing queue, which is always there."""
        self._send(sender, partial(self._arrive_standing, receiver, sender.name, kind))

    def _send(self, sender: Agent, arrive: Callable[[], None]) -> None:
        if sender.cut_off_since is not None:
            self.held.setdefault(sender.name, []).append(arrive)
            return
        random = self.world.random
        for _ in range(1 if random.random() > self.world.repeats else 2):
            self.world.clock.after(random.uniform(0.001, self.world.latency), arrive)

    def _arrive(self, receiver: str, sent: Sent, *, waits: bool) -> None:
        agent = self.world.agents[receiver]
        if agent.has_queues:
            self.queues.setdefault(receiver, []).append(sent)
            self.flush(agent)
        elif waits:
            self.unbound.append((receiver, sent))

    def _arrive_standing(self, receiver: str, sender: str, kind: str) -> None:
        agent = self.world.agents[receiver]
        if agent.is_up and agent.cut_off_since is None:
            agent.hear_standing(kind, sender)
        else:
            self.world.clock.after(0.5, partial(self._arrive_standing, receiver, sender, kind))

    def flush(self, agent: Agent) -> None:
        """Deliver what is in the queues that an agent consumes."""
        if agent.has_queues and self.unbound:
            bound = [sent for receiver, sent in self.unbound if receiver == agent.name]
            self.unbound = [one for one in self.unbound if one[0] != agent.name]
            self.queues.setdefault(agent.name, []).extend(bound)
        waiting, run = self.queues.get(agent.name, []), agent.run
        if run is None or not agent.is_up or agent.cut_off_since is not None:
            return
        self.queues[agent.name] = [sent for sent in waiting if sent.round not in run.consumed]
        for sent in [sent for sent in waiting if sent.round in run.consumed]:
            sent.deliver(run)

    def reconnect(self, agent: Agent) -> None:
        """Carry what an agent has said while it was cut off."""
        for arrive in self.held.pop(agent.name, []):
            self._send(agent, arrive)
        self.flush(agent)

    def purge(self, agent: Agent) -> None:
        """Drop what is left in the queues of a job that is over."""
        self.queues.pop(agent.name, None)


class World:
    """A job of some parties, and the faults that disturb it."""

    def __init__(self, seed: int, faults: Sequence[Fault] | None = None, make: MakeMachine = RunMachine) -> None:
        self.random, self.clock, self.make_machine = Random(seed), Clock(), make
        self.seed, self.trace = seed, list[str]()
        data = [f"data{number}" for number in range(self.random.choice((2, 2, 3)))]
        helpers = [f"helper{number}" for number in range(self.random.choice((1, 2)))]
        label = self.random.choice(data)
        self.latency, self.repeats = self.random.choice((0.02, 0.3)), self.random.choice((0.0, 0.2))
        self.agents = {
            me: Agent(self, RunConfig(me, label, tuple(data), tuple(helpers), DEADLINES, ATTEMPTS))
            for me in (*data, *helpers)
        }
        self.label, self.broker = self.agents[label], Broker(self)
        self.faults = draw_faults(self.random, [*data, *helpers], label) if faults is None else list(faults)
        self._said: dict[str, int] = dict.fromkeys(self.agents, 0)  # messages of attempts
        self._sent: dict[str, int] = dict.fromkeys(self.agents, 0)  # likewise, by receiver
        self._is_cancelled_late = False  # by a party that has released
        self.has_changed = True  # whether a run has ended, say

    # --- what happens

    def run(self) -> None:
        """Run the job; raise Broken where a property does not hold."""
        delays = {fault.party: fault.seconds for fault in self.faults if fault.kind == "late"}
        for agent in self.agents.values():
            self.clock.after(delays.get(agent.name, 0.0), agent.begin)
        self.clock.after(0.01 + delays.get(self.label.name, 0.0), self._submit)
        for fault in self.faults:
            if fault.kind in {"kill", "stop", "cut", "cancel"}:
                self.clock.after(fault.at, partial(self._disturb, fault))
        self.clock.run(until=self.longest, is_over=self._is_over)

    @property
    def longest(self) -> float:
        """The time by which every job is over, whatever has happened."""
        lasting: list[float] = [fault.at + min(fault.seconds, LONGEST) for fault in self.faults if fault.kind != "hang"]
        hung = [min(fault.seconds, LONGEST) for fault in self.faults if fault.kind == "hang"]
        most: float = sum(lasting) + sum(hung) + ATTEMPTS * (len(self.faults) + 1) * LONGEST
        return most

    def _submit(self) -> None:
        if not self.label.is_up:
            self.clock.after(0.5, self._submit)
            return
        self.label.begin_run(SavedRun())
        for party in self.agents:
            if party != self.label.name:
                self.broker.say_standing(self.label, party, "job")

    def _is_over(self) -> bool:
        if not self.has_changed:
            return False
        self.has_changed = False
        return self.label.record is not None and not any(agent.is_at_work for agent in self.living)

    @property
    def living(self) -> list[Agent]:
        """The agents that are there, or will be."""
        gone = {fault.party for fault in self.faults if fault.kind == "kill" and fault.seconds >= FOREVER}
        return [agent for agent in self.agents.values() if agent.name not in gone]

    def _disturb(self, fault: Fault) -> None:
        agent = self.agents[fault.party]
        if not agent.is_up:
            return
        match fault.kind:
            case "kill":
                agent.kill()
                self.clock.after(fault.seconds, agent.begin)
            case "stop":
                if agent.run is not None:
                    agent.run.feed(Ordered(Suspended()))
                    self.clock.after(fault.seconds + DEADLINES.verdict, partial(self._begin_again, agent))
            case "cut":
                agent.cut_off_since = self.clock.now
                self.clock.after(fault.seconds, partial(self._reconnect, agent))
            case "cancel":
                self._is_cancelled_late |= agent.state == State.RELEASED
                if agent.run is not None:
                    agent.run.feed(Ordered(Cancelled(agent.name, here=True)))

    def _begin_again(self, agent: Agent) -> None:
        if not agent.is_up:
            agent.begin()

    def _reconnect(self, agent: Agent) -> None:
        agent.cut_off_since = None
        self.broker.reconnect(agent)

    def hang_seconds(self, agent: Agent) -> float:
        """Tell for how long a party hangs before the message that it is about to send."""
        self._said[agent.name] += 1
        said = self._said[agent.name]
        for fault in self.faults:
            if (fault.kind, fault.party) != ("hang", agent.name):
                continue
            if said == int(fault.at) or (fault.seconds >= FOREVER and said > fault.at):
                return fault.seconds
        return 0.0

    def loses(self, sender: Agent) -> bool:
        """Tell whether a message gets lost."""
        self._sent[sender.name] += 1
        return any(
            (fault.kind, fault.party, int(fault.at)) == ("lose", sender.name, self._sent[sender.name])
            for fault in self.faults
        )

    def refuses(self, agent: Agent) -> bool:
        """Tell whether a party's policy is against the job."""
        return any((fault.kind, fault.party) == ("refuse", agent.name) for fault in self.faults)

    def drain_seconds(self, agent: Agent, deadline: str) -> float:
        """Tell how long it takes until the broker has everything."""
        most: float = getattr(DEADLINES, deadline)
        return most if agent.cut_off_since is not None else self.random.uniform(0.0, 0.1)

    def check(self, run: Run) -> None:
        """Check what holds at any time."""
        if not is_consumed(run):
            raise Broken(f"{run.me} is at work, and consumes only {sorted(run.consumed)}")

    # --- what must hold at the end

    def verify(self) -> None:
        """Raise Broken where a job has ended as none may."""
        at_work = [agent.name for agent in self.living if agent.is_at_work]
        if at_work:
            raise Broken(f"the job hangs at {', '.join(at_work)} ({self.clock.now:.0f} s)")
        aware = [agent for agent in self.living if agent.record is not None and not self._is_excused(agent)]
        states = {agent.name: agent.state for agent in aware}
        if self._is_cancelled_late and set(states.values()) <= {State.DONE, State.CANCELLED}:
            return  # others may have been done in the same moment
        if len(set(states.values())) > 1:
            raise Broken(f"the job has ended in different states: {states}")
        reasons = {
            agent.name: agent.failure and (agent.failure.code, agent.failure.culprit)
            for agent in aware
            if not self._shows_own_refusal(agent) and not self._shows_silent_label(agent)
        }
        if len(set(reasons.values())) > 1:
            raise Broken(f"the parties show different reasons: {reasons}")
        if self.label.state == State.DONE:
            self._verify_models()
        elif all(fault.passes for fault in self.faults):
            raise Broken(f"the job is {self.label.state} after faults that have passed: {self.label.failure}")

    def _is_excused(self, agent: Agent) -> bool:
        """Tell whether an agent need not know the end.

        Who is cut off for longer than `recover` ends by itself. So does a helper that had no part in the last attempt,
        where others were away for long; and it may cancel or refuse what has ended elsewhere.
        """
        final = self.label.record
        away = [fault.seconds for fault in self.faults if (fault.kind, fault.party) == ("cut", agent.name)]
        if sum(away) > DEADLINES.recover - SHORT:
            return True
        if final is None or final.attempts is None or not agent.config.is_helper or agent.name == final.attempts.helper:
            return False
        is_long = any(fault.seconds > DEADLINES.recover / 2 for fault in self.faults)
        return is_long or any(fault.kind in {"cancel", "refuse"} and fault.party == agent.name for fault in self.faults)

    def _shows_own_refusal(self, agent: Agent) -> bool:
        """Tell whether an agent shows why it refuses: one that came when the others had given up heard no verdict."""
        return self.refuses(agent) and agent.failure is not None and agent.failure.culprit == agent.name

    def _shows_silent_label(self, agent: Agent) -> bool:
        """Tell whether an agent shows that the label party was away for too long, and another one refuses.

        One that starts late has not heard of the refusal, and trusts nobody else's word; it may answer the label party.
        """
        away = [fault for fault in self.faults if fault.kind in {"kill", "stop"} and fault.party == self.label.name]
        is_late = any((fault.kind, fault.party) == ("late", agent.name) for fault in self.faults)
        return (
            any(fault.seconds > DEADLINES.recover for fault in away)
            and any(map(self.refuses, self.agents.values()))
            and (is_late or agent is self.label)
            and agent.failure is not None
            and (agent.failure.code, agent.failure.culprit) == ("party.silent", self.label.name)
        )

    def _verify_models(self) -> None:
        data = self.label.config.data_parties
        models = {name: self.agents[name].held.get(STEPS) for name in data}
        if set(models.values()) != {undisturbed_model(data)}:
            raise Broken(f"the model is not the undisturbed one: {models}")

    @property
    def states(self) -> set[State | None]:
        """The states at which the job has ended."""
        return {agent.state for agent in self.living if agent.record is not None}

    def describe(self) -> str:
        """Tell what disturbed the job."""
        return f"seed {self.seed}, {len(self.agents)} parties: " + "; ".join(map(str, self.faults))


def draw_faults(random: Random, parties: Sequence[str], label: str) -> list[Fault]:
    """Draw up to three faults that pass, or that do not."""
    faults = []
    for _ in range(random.choice((0, 1, 1, 2, 2, 3))):
        kind = random.choice(
            ("kill", "kill", "stop", "cut", "hang", "hang", "lose", "lose", "late", "cancel", "refuse")
        )
        seconds = random.choice((random.uniform(0.1, SHORT), random.uniform(SHORT, 2 * DEADLINES.recover)))
        numbered = kind in {"hang", "lose"}
        at = float(random.randint(1, 20)) if numbered else random.uniform(0.0, 6.0)
        faults.append(Fault(kind, random.choice(parties), at, seconds))
    return faults
