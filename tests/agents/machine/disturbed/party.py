"""One party in virtual time: its agent over all lives, and what stands for the shell of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from tercet.agents.core.problems import BROKER, JobProblem
from tercet.agents.core.states import TERMINAL, UNKNOWN, State
from tercet.agents.machine import actions, events
from tercet.agents.machine.blame import Report
from tercet.agents.machine.heartbeat import Position, make_heartbeat
from tercet.agents.machine.machine import RunMachine
from tercet.agents.machine.modes import Mode
from tercet.agents.machine.outcomes import Done
from tercet.agents.machine.peers import MISSED_HEARTBEATS
from tercet.agents.machine.recovery import SavedRun
from tercet.agents.machine.run_config import RunConfig
from tercet.agents.runs.broker_problems import connection_lost
from tercet.schemas.messages.address import Address, Round
from tercet.schemas.messages.kinds import Failure, Message, Outcome
from tests.agents.machine.disturbed.work import Cast, Enter, Hear, Save, Say, Script, Value, play

if TYPE_CHECKING:
    from tests.agents.machine.disturbed.world import World

JOB = "credit-1"
CONTROL, WORK = "control", "work"
RETRY_SECONDS = 0.25
ROUNDS = (CONTROL, WORK)  # in the order in which a party opens their queues


@dataclass
class Agent:
    """A party's agent, with what it keeps on its disk."""

    world: "World"
    config: RunConfig
    is_up: bool = False
    life: int = 0
    record: SavedRun | None = None
    failure: Failure | None = None
    cancelled_by: str = ""
    model: int | None = None
    held: dict[int, int] = field(default_factory=dict)
    has_queues: bool = False
    run: "Run | None" = None
    cut_off_since: float | None = None

    @property
    def name(self) -> str:
        """The party."""
        return self.config.me

    @property
    def state(self) -> State | None:
        """Of the job, as far as this party knows of it."""
        return None if self.record is None else self.record.state

    @property
    def is_at_work(self) -> bool:
        """Whether the job is not over here."""
        return not self.is_up or self.run is not None or (self.record is not None and self.state not in TERMINAL)

    def begin(self) -> None:
        """Begin another life."""
        self.world.has_changed = True
        self.is_up = True
        if self.record is not None and self.state not in TERMINAL:
            self.begin_run(self.record)
        self.world.broker.flush(self)

    def kill(self) -> None:
        """End this life without a word."""
        self.world.has_changed = True
        self.is_up = False
        if self.run is not None:
            self.run.is_dead, self.run = True, None

    def begin_run(self, saved: SavedRun) -> None:
        """Begin a run, or go on with one."""
        self.life += 1
        self.record = replace(saved, life=self.life)
        self.run = Run(self, saved)
        self.run.feed(events.Started())

    def hear_standing(self, kind: str, sender: str) -> None:
        """Take a message from the standing queue."""
        if kind == "job":
            if self.record is None:
                self.begin_run(SavedRun())
        elif self.record is None:
            self.world.broker.say_control(self, sender, Outcome(state=UNKNOWN), 1, 0, 0)
        elif self.run is None and self.state in TERMINAL:
            assert self.record.attempts is not None
            outcome = Outcome(
                state=self.record.state,
                failure=self.failure,
                attempt=self.record.attempts.number,
                cancelled_by=self.cancelled_by or None,
            )
            self.world.broker.say_control(self, sender, outcome, 1, int(self.world.clock.now), 0)


class Run:
    """What stands for a run's shell: it answers every action of the machine after a while."""

    def __init__(self, agent: Agent, saved: SavedRun) -> None:
        self.agent, self.world, self.me = agent, agent.world, agent.name
        attempts = None if saved.attempts is None else replace(saved.attempts)
        saved = replace(saved, attempts=attempts)
        self.machine: RunMachine = self.world.make_machine(agent.config, saved, self.world.clock.now)
        self.consumed: set[str] = set()
        self.is_dead = self.is_closed = False
        self.mailbox: dict[tuple[str, str], Value] = {}
        self.work: Work | None = None
        self._latest: dict[tuple[str, str], tuple[int, int]] = {}
        self._numbers, self._token, self._opening = 0, 0, 0

    # --- events

    def feed(self, event: events.Event) -> None:
        """Tell the machine, do what it wants, and be back when it wants that."""
        if self.is_dead:
            return
        now = self.world.clock.now
        self.machine.on(events.Observed(self._wait(), self._stuck(now)), now)
        for action in self.machine.on(event, now):
            self._perform(action)
        self.world.check(self)
        wakeup = self.machine.wakeup
        if wakeup is not None and not self.is_dead:
            self._token += 1
            self.world.clock.after(max(0.0, wakeup - now), partial(self._tick, self._token))

    def _tick(self, token: int) -> None:
        if token == self._token:
            self.feed(events.Tick())

    def _wait(self) -> Report:
        return Report("", ()) if self.work is None else self.work.report()

    def _stuck(self, now: float) -> JobProblem | None:
        since = self.agent.cut_off_since
        lost = since is not None and now - since > MISSED_HEARTBEATS * self.agent.config.deadlines.heartbeat
        return connection_lost(self.me) if lost else None

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call, unless this life is over by then."""
        self.world.clock.after(seconds, lambda: None if self.is_dead else call())

    def answer(self, event: events.Event, *, most: float = 0.2) -> None:
        """Tell the machine of something after a while."""
        self.later(self.world.random.uniform(0.0, most), partial(self.feed, event))

    def hear_control(self, address: Address, message: Message) -> None:
        """Take a control message, if it is its sender's newest of this kind."""
        place, key = (address.epoch, address.step), (message.kind, address.sender)
        if place > self._latest.get(key, (-1, -1)):
            self._latest[key] = place
            self.feed(events.ControlArrived(address, message))

    def hear_work(self, attempt: int, kind: str, sender: str, value: Value) -> None:
        """Take a message of the attempt."""
        if attempt == self.machine.attempts.number and not self.is_closed:
            self.mailbox.setdefault((kind, sender), value)
            if self.work is not None:
                self.work.go_on()

    # --- actions

    def _perform(self, action: actions.Action) -> None:
        match action:
            case actions.SendHeartbeat():
                checkpoint = max(self.agent.held, default=0)
                self._say(make_heartbeat(self.machine, Position(checkpoint=checkpoint)))
            case actions.Send(message, _):
                self._say(message)
            case actions.Drain(deadline):
                self.later(self.world.drain_seconds(self.agent, deadline), partial(self.feed, events.Drained()))
            case actions.OpenQueues(deadline):
                self._opening += 1
                self._open(self._opening, getattr(self.agent.config.deadlines, deadline))
            case actions.EnterState() | actions.RecordAttempt():
                self._record()
            case actions.End():
                self._end()
            case _:
                self._perform_request(action)

    def _perform_request(self, action: actions.Action) -> None:
        match action:
            case actions.StartAttempt():
                self.work = Work(self)
                self.later(0.0, self.work.begin)
            case actions.StopWork():
                self._stop_work()
            case actions.AbandonAttempt():
                self.is_closed = True
            case actions.ReplaceAttempt():
                self.later(self.world.random.uniform(0.0, 0.3), self._replace)
            case actions.Inquire() | actions.Announce():
                self._say_standing(action)
            case actions.AskRefusal():
                self.answer(events.RefusalDecided(self.refusal))
            case actions.KeepResult():
                self.answer(events.ResultStored())
            case actions.WriteReport():
                self.answer(events.ReportWritten())

    @property
    def refusal(self) -> JobProblem | None:
        """This party's reason against the job, if it has one."""
        return JobProblem("policy.purpose", self.me, f"{self.me} refuses") if self.world.refuses(self.agent) else None

    def _say_standing(self, action: actions.Inquire | actions.Announce) -> None:
        inquires = isinstance(action, actions.Inquire)
        for party in action.parties if isinstance(action, actions.Inquire) else (action.party,):
            self.world.broker.say_standing(self.agent, party, "inquiry" if inquires else "job")

    def _say(self, message: Message) -> None:
        self._numbers += 1
        for party in self.agent.config.everybody:
            if party != self.me:
                number = self.machine.attempts.number
                self.world.broker.say_control(self.agent, party, message, number, self.agent.life, self._numbers)

    def _open(self, opening: int, patience: float) -> None:
        """Consume one queue after the other."""
        if self.agent.cut_off_since is not None:
            problem = JobProblem("transport.broker", BROKER, "the broker is away")
            again = partial(self._open, opening, patience - RETRY_SECONDS)
            self.later(RETRY_SECONDS, again if patience > 0 else partial(self._refuse, opening, problem))
            return
        if opening != self._opening:
            return
        seconds = 0.0
        self.agent.has_queues = True
        for round_ in ROUNDS:
            seconds += self.world.random.uniform(0.0, 0.3)
            self.later(seconds, partial(self._consume, opening, round_))

    def _refuse(self, opening: int, problem: JobProblem) -> None:
        if opening == self._opening:
            self.feed(events.QueuesRefused(problem))

    def _consume(self, opening: int, round_: str) -> None:
        if opening != self._opening:
            return
        self.consumed.add(round_)
        self.world.broker.flush(self.agent)
        if round_ == ROUNDS[-1] and opening == self._opening:
            self.feed(events.QueuesOpened())

    def _stop_work(self) -> None:
        """Cancel what is under way; an opening that is cancelled gives its consumers back."""
        self.work = None
        self._opening += 1
        if self.consumed != set(ROUNDS):
            self.consumed = set()

    def _replace(self) -> None:
        self.mailbox, self.is_closed = {}, False
        self.feed(events.AttemptReplaced())

    def _record(self) -> None:
        machine = self.machine
        self.agent.record = SavedRun(machine.state, replace(machine.attempts), machine.released, life=self.agent.life)
        if machine.state in TERMINAL:
            self.agent.failure, self.agent.cancelled_by = machine.failure, machine.cancelled_by

    def _end(self) -> None:
        self.world.has_changed = True
        self.is_dead, self.agent.run = True, None
        if self.machine.state in TERMINAL:
            self.agent.has_queues = False
            self.world.broker.purge(self.agent)
        else:
            self.agent.is_up = False  # suspended, until it begins another life


class Work:
    """Plays one attempt."""

    def __init__(self, run: Run) -> None:
        config, machine = run.agent.config, run.machine
        self._run, self._attempt = run, machine.attempts.number
        cast = Cast(run.me, config.label, config.data_parties, machine.attempts.helper, dict(run.agent.held))
        self._script: Script | None = play(cast) if config.takes_part(machine.attempts.helper) else None
        self._wait: Hear | None = None
        self._answer: Mapping[str, Value] | None = None
        self._since, self._is_hung, self._is_late = 0.0, False, False

    def report(self) -> Report:
        """Whom this party waits for."""
        if self._wait is None:
            return Report("", ())
        return Report(self._wait.kind, tuple(sorted(self._missing(self._wait))))

    def _missing(self, wait: Hear) -> Sequence[str]:
        return [party for party in wait.senders if (wait.kind, party) not in self._run.mailbox]

    def begin(self) -> None:
        """Begin to play, unless this party refuses the job."""
        refusal = self._run.refusal
        if refusal is None or self._run.work is not self:
            self.go_on()
        else:
            self._script = None
            self._run.answer(events.AttemptEnded(refusal))

    def go_on(self) -> None:
        """Play on until something is missing."""
        while self._run.work is self and self._script is not None and not self._is_hung and not self._is_late:
            if self._wait is not None:
                if self._missing(self._wait):
                    return
                mailbox = self._run.mailbox
                self._answer = {party: mailbox[self._wait.kind, party] for party in self._wait.senders}
                self._wait = None
            try:
                event = self._script.send(self._answer)  # type: ignore[arg-type] # None at first
            except StopIteration as stop:
                self._run.agent.model = stop.value
                self._run.feed(events.AttemptEnded(Done()))
                return
            self._answer = None
            self._handle(event)

    def _handle(self, event: Say | Hear | Enter | Save) -> None:
        run = self._run
        match event:
            case Say(kind, to, value):
                hang = run.world.hang_seconds(run.agent)
                if hang:
                    self._is_hung = True
                    run.later(hang, partial(self._wake, event))
                    return
                for party in to:
                    run.world.broker.say_work(run.agent, party, self._attempt, kind, value)
            case Hear():
                self._wait, self._since = event, run.world.clock.now
                if self._missing(event):
                    run.later(self._deadline(event.deadline), partial(self._give_up, event))
            case Enter(state, first_step):
                run.feed(events.PhaseEntered(state, first_step))
            case Save(steps, model):
                run.agent.held[steps] = model

    def _wake(self, event: Say) -> None:
        self._is_hung = False
        if self._run.work is self:
            self._handle(event)
            self.go_on()

    def _give_up(self, wait: Hear) -> None:
        if self._run.work is self and self._wait is wait and self._missing(wait):
            self._is_late = True
            self._run.feed(events.AttemptOverdue(wait.deadline))

    def _deadline(self, name: str) -> float:
        """Seconds, as `JobContext.deadline` has them."""
        config = self._run.agent.config
        if name == "accept" and self._attempt > 1:
            name = "recover"
        seconds: float = getattr(config.deadlines, name)
        if name == "start" and self._attempt > 1:
            seconds += config.deadlines.recover
        return seconds / 2 if name == "step" and config.is_helper else seconds


def is_consumed(run: Run) -> bool:
    """Whether a run that works hears everything that is said to it."""
    return run.machine.mode != Mode.WORKING or run.consumed == set(ROUNDS)


def control_address(sender: str, receiver: str, message: Message, attempt: int, life: int, number: int) -> Address:
    """The address of a control message."""
    return Address(JOB, attempt, Round.CONTROL, message.item, life, number, sender, receiver)
