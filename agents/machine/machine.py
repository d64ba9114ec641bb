"""Decides what one party does about one run, as a pure machine: no I/O, no clock, no task.

`modes` has its theory and its table of transitions. Each event is answered by actions, which the shell carries out.
"""

from collections.abc import Sequence

from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State, move
from tercet.agents.machine import actions, events
from tercet.agents.machine.agreement import Agreement
from tercet.agents.machine.blame import Report
from tercet.agents.machine.conclusion import Conclusion
from tercet.agents.machine.control_reader import read_control
from tercet.agents.machine.modes import (
    BEGUN,
    END_KNOWN,
    FAULT,
    FREE,
    LABEL_FAULT,
    LEAVES,
    LOST,
    NEXT_ATTEMPT,
    OPENED,
    REPLACED,
    SAID,
    TRANSITIONS,
    Mode,
    follow,
)
from tercet.agents.machine.outcomes import (
    Cancelled,
    DeadlineMissed,
    Done,
    RemoteFailure,
    Restart,
    RunFailure,
    RunOutcome,
    Superseded,
    Suspended,
    restarted_here,
)
from tercet.agents.machine.peers import PeerMonitor
from tercet.agents.machine.recovery import Attempts, SavedRun, choose_helper, may_pass
from tercet.agents.machine.run_config import RunConfig
from tercet.agents.machine.watching import watch_helper, watch_label_party
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Failure, Message

INQUIRE_BEATS = 5  # heartbeats between two inquiries after somebody who is not heard of
LastOutcome = RunFailure | Done | Cancelled | Superseded
FINAL = (2, 0)  # the rank of an outcome after which no attempt follows
ANOTHER_ATTEMPT = "another attempt"  # what a report says that a party waits for


class RunMachine:
    """Decides about one run at one party.

    Args:
        config: This party's place in the job.
        saved: What an earlier life of the agent has left.
        now: Seconds, on the clock of all events.
    """

    def __init__(self, config: RunConfig, saved: SavedRun, now: float) -> None:
        self.config, self.state, self.released = config, saved.state, saved.released
        self.attempts = saved.attempts or Attempts(1, config.helpers[0])
        self.peers = PeerMonitor(config.label, config.everybody, config.helpers, config.me, now)
        self.peers.start_attempt(self.attempts.number)
        self.mode = Mode.OPENING
        self.fault: Failure | None = None  # which ended the last attempt
        self.is_abandoned = False  # the attempt: only control messages are taken in
        self._is_recalled, self.is_resumed = saved.life > 0, self.attempts.fruitless == 0
        self._are_queues_open = False
        self._obstacle: JobProblem | None = None  # why the run does not begin here
        self._held: RunOutcome | None = None  # until there are queues, or the old attempt is gone
        self._next = Restart(self.attempts.number, self.attempts.helper)
        self._observed, self._last_wait = events.Observed(Report("", ())), Report("", ())
        self.conclusion: Conclusion | Agreement | None = None  # how the run ends, once that is known
        self._now, self._todo = now, list[actions.Action]()
        self._next_beat, self._beats, self._pause_end = now, 0, now
        self.waiting_since = now  # for the label party

    # --- what it tells

    @property
    def wakeup(self) -> float | None:
        """The time at which the machine wants a `Tick`."""
        if self.mode == Mode.OVER:
            return None
        conclusion = None if self.conclusion is None else self.conclusion.wakeup
        pause = self._pause_end if self.mode == Mode.PAUSING else None
        return min(time for time in (self._next_beat, conclusion, pause) if time is not None)

    @property
    def failure(self) -> Failure | None:
        """The failure that every party shows, once it is known."""
        return self.conclusion.failure if isinstance(self.conclusion, Agreement) else None

    @property
    def detail(self) -> str | None:
        """Details of the failure for this party's own operator."""
        return self.conclusion.detail if isinstance(self.conclusion, Agreement) else None

    @property
    def cancelled_by(self) -> str:
        """The party that has cancelled the run, if one has and is known."""
        return self.conclusion.cancelled_by if isinstance(self.conclusion, Agreement) else ""

    @property
    def wait(self) -> Report:
        """The parties that this one waits for, or waited for when the attempt ended."""
        if self.mode == Mode.WAITING:
            return Report(ANOTHER_ATTEMPT, (self.config.label,))
        return self._observed.wait if self.mode in BEGUN else self._last_wait

    # --- events

    def on(self, event: events.Event, now: float) -> Sequence[actions.Action]:
        """Take an event; return what to do, in order.

        Raises:
            IllegalMove: a bug of ours.
        """
        self._now, self._todo = now, []
        conclusion = self.conclusion
        match event:
            case events.Observed():
                self._observed = event
                return ()
            case events.Started(problem):
                self._start(problem)
            case events.ControlArrived(address, message):
                self._hear(address, message)
            case events.Ordered(Cancelled()) if self.peers.may_be_done(self.state, self.config, self.attempts.helper):
                self._do(actions.TellOperator("cancelled too late: all have released, and others may be done"))
            case events.Ordered(outcome):
                self._take_outcome(outcome)
            case events.Tick():
                self._wake()
            case _:
                self._note_answer(event)
        if conclusion is not None and conclusion is self.conclusion:
            self._do(*conclusion.on(event, now))
        return self._todo

    def _note_answer(self, event: events.Event) -> None:
        """Note how something ended that this machine had asked for, if it still waits for that."""
        match self.mode, event:
            case Mode.OPENING | Mode.WAITING, events.QueuesOpened() | events.QueuesRefused():
                self._note_queues(event)
            case Mode.WORKING, events.PhaseEntered(state, first_step):
                if state in {State.TRAINING, State.SCORING, State.COUNTING}:
                    self.attempts.note_progress(first_step)
                self._do(actions.EnterState(state))
            case Mode.OPENING | Mode.WORKING, events.AttemptEnded(outcome):
                self._take_outcome(outcome)
            case Mode.WORKING, events.AttemptOverdue(deadline):
                self._take_outcome(self.peers.note_missed_deadline(self.config.me, deadline))
            case Mode.REPLACING, events.AttemptReplaced():
                self._begin_attempt()
            case Mode.SUSPENDING, events.Drained():
                self._do(actions.End())
            case Mode.CONCLUDING, events.ResultLost(problem):
                self._follow(LOST)
                self._end_with(problem)

    def _do(self, *todo: actions.Action) -> None:
        """Ask for actions, and note what they mean for the run."""
        for action in todo:
            self._todo.append(action)
            if isinstance(action, actions.EnterState):
                self._note_state(action.state)
            elif isinstance(action, actions.End):
                self._follow(SAID)

    def _note_state(self, state: State) -> None:
        self.state = move(self.state, state)
        if state in {State.ALIGNED, State.RELEASED}:  # what an earlier attempt has released counts until then
            self.released = state == State.RELEASED

    def _follow(self, cause: str) -> None:
        """Enter the mode that follows by the table."""
        before, self.mode = self.mode, follow(TRANSITIONS, self.mode, cause)
        if before in BEGUN and self.mode not in BEGUN:
            self._last_wait = self._observed.wait
        if cause != OPENED and (self._are_queues_open or self.mode != Mode.CONCLUDING):
            self._todo.append(actions.StopWork())  # but for queues by which the label party is to be heard yet

    def _start(self, problem: JobProblem | None) -> None:
        self._obstacle, self._next_beat = problem, self._now + self.config.deadlines.heartbeat
        if problem is None and self._is_recalled:
            self._abandon()
        self._do(actions.SendHeartbeat())
        self._open_queues()

    def _open_queues(self) -> None:
        self._do(actions.OpenQueues("accept" if self.state == State.RECEIVED else "recover"))

    def _note_queues(self, event: events.QueuesOpened | events.QueuesRefused) -> None:
        """Begin to work, or handle what keeps this party from it."""
        self._are_queues_open = isinstance(event, events.QueuesOpened)
        if self.mode == Mode.WAITING:
            return
        outcome, self._held = self._held, None
        is_recalled, self._is_recalled = self._is_recalled, False
        if self._obstacle is not None:
            self._conclude(self._obstacle)
        elif isinstance(event, events.QueuesRefused):
            self._handle(event.problem)
        elif is_recalled:
            if self.attempts.fruitless:  # after `resume`, do not ask: who has not heard yet would answer FAILED
                self._do(actions.Inquire(self.config.others(self.attempts.helper)))
            self._handle(restarted_here(self.config.me))
            if outcome is not None:
                self._take_outcome(outcome)
        elif outcome is not None:
            self._handle(outcome)
        else:
            self._follow(OPENED)
            self._do(actions.StartAttempt())

    def _wake(self) -> None:
        if self._now >= self._next_beat:
            self._beat()
        if self.mode == Mode.PAUSING and self._now >= self._pause_end:
            helper = choose_helper(self.config.helpers, self.peers.reports(self._now), self.attempts.helper)
            self._replace(Restart(self.attempts.number + 1, helper))

    def _beat(self) -> None:
        """Look after those who are not heard of, and send a heartbeat."""
        self._next_beat, self._beats = self._now + self.config.deadlines.heartbeat, self._beats + 1
        if self.mode in FREE:
            self._watch()
        self._do(actions.SendHeartbeat())

    def _watch(self) -> None:
        """Look after the label party, or at the label party after an attempt that has not begun yet."""
        asks_at_all = self.config.recovers and self._beats % INQUIRE_BEATS == 0
        if self.mode == Mode.WAITING and not self._are_queues_open and asks_at_all:
            self._open_queues()
        if not self.config.is_label_party:
            watched = watch_label_party(self, self._now)
        elif self.attempts.number > 1 and self.state in {State.RECEIVED, State.RECOVERING}:
            watched = watch_helper(self, self._now)
        else:
            return
        if watched.outcome is not None:
            self._take_outcome(watched.outcome)
        elif watched.silent and asks_at_all:
            self._do(actions.Inquire(watched.silent))

    # --- outcomes

    def _hear(self, address: Address, message: Message) -> None:
        meaning = read_control(self, address, message, self._now)
        if isinstance(meaning, RunOutcome):
            self._take_outcome(meaning)
        elif meaning is not None:
            self._do(meaning)

    def _take_outcome(self, outcome: RunOutcome) -> None:
        """Handle an outcome now, or hold the weightiest until that can be."""
        if self.mode == Mode.REPLACING or (self.mode == Mode.OPENING and self._rank(outcome) < FINAL):
            if self._held is None or self._rank(outcome) > self._rank(self._held):
                self._held = outcome
        elif self.mode in FREE:
            self._handle(outcome)

    def _rank(self, outcome: RunOutcome) -> tuple[int, int]:
        """Rank a fault before another attempt, a later one above it, and the end above all."""
        if isinstance(outcome, Restart):
            return 1, outcome.attempt
        return (0, 0) if self._may_pass(outcome) else FINAL

    def _handle(self, outcome: RunOutcome) -> None:
        match outcome:
            case Suspended():
                self._follow(LEAVES)
                self._abandon()
                self._do(actions.SendHeartbeat(), actions.Drain("verdict"))
            case Restart(attempt, _):
                if attempt > self.attempts.number:
                    self._replace(outcome)
            case JobProblem() | DeadlineMissed() | RemoteFailure() if self._may_pass(outcome):
                if self.mode in BEGUN:  # else it is the last attempt's, which is over
                    self._recover(outcome)
            case _:
                self._conclude(outcome)

    def _may_pass(self, outcome: RunOutcome) -> bool:
        return isinstance(outcome, RunFailure) and may_pass(
            outcome, self.config, self.attempts, lambda: self._diagnose(outcome, self._now).code
        )

    def _diagnose(self, outcome: RunFailure, now: float) -> Failure:
        """Give this party's own view of a failure, as if nobody else spoke."""
        return self.peers.diagnose(outcome, self.wait, self.state, now, self._observed.stuck)

    def _conclude(self, outcome: LastOutcome) -> None:
        self._follow(END_KNOWN)
        self._end_with(outcome)

    def _end_with(self, outcome: LastOutcome) -> None:
        if isinstance(outcome, RunFailure | Cancelled):
            self.conclusion = Agreement(outcome, self.state, self.config, self.peers, self._diagnose)
        else:
            self.conclusion = Conclusion(outcome)
        self._do(*self.conclusion.begin(self._now))

    # --- another attempt

    def _recover(self, outcome: RunFailure) -> None:
        """Give the attempt up after a fault."""
        fault = self.fault = self._diagnose(outcome, self._now)
        self._follow(LABEL_FAULT if self.config.is_label_party else FAULT)
        self._abandon(fault)
        self.waiting_since = self._now
        if self.config.is_label_party:
            self._pause_end = self._now + self.attempts.pause
            self._wake()
        else:
            self._do(actions.Send(fault.model_copy(update={"verdict": False})), actions.SendHeartbeat())
            if not self._are_queues_open:  # by which the next attempt is to be heard
                self._open_queues()

    def _abandon(self, fault: Failure | None = None) -> None:
        """Refuse all further messages of the attempt; another one follows."""
        self.is_abandoned = True
        self._do(actions.AbandonAttempt(fault))
        if self.state not in {State.RECEIVED, State.RECOVERING}:
            self._do(actions.EnterState(State.RECOVERING))

    def _replace(self, restart: Restart) -> None:
        self._follow(NEXT_ATTEMPT)
        if not self.is_abandoned:
            self._abandon()
        self._next = restart
        self._do(actions.ReplaceAttempt(restart.attempt, restart.helper))

    def _begin_attempt(self) -> None:
        """Begin the next attempt, once the old one is gone and the queues are open."""
        self._follow(REPLACED)
        if self._held is not None and self._rank(self._held) <= (1, self._next.attempt):  # the old attempt's
            self._held = None
        self.attempts.number, self.attempts.helper = self._next.attempt, self._next.helper
        self.peers.start_attempt(self.attempts.number)
        self.is_abandoned = False
        self._do(actions.RecordAttempt(), actions.SendHeartbeat())
        if self._are_queues_open:
            self._note_queues(events.QueuesOpened())
        elif self._held is not None:  # the end is known, or yet another attempt
            self._handle(self._held)
        else:
            self._open_queues()
