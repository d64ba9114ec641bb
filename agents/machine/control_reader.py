"""Reads what other parties say about a run in control messages."""

from typing import Protocol, TypeAlias

from tercet.agents.core.problems import NO_PARTIES, JobProblem
from tercet.agents.core.states import UNKNOWN, State
from tercet.agents.machine import actions
from tercet.agents.machine.outcomes import Cancelled, Done, FinalFailure, RunOutcome, unknown_party
from tercet.agents.machine.peers import PeerMonitor
from tercet.agents.machine.recovery import Attempts
from tercet.agents.machine.run_config import RunConfig
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Cancel, Failure, Message, Outcome


class Hearer(Protocol):
    """Knows what is needed to read a message."""

    config: RunConfig
    peers: PeerMonitor
    attempts: Attempts
    state: State
    released: bool
    is_resumed: bool


Meaning: TypeAlias = RunOutcome | actions.Action | None
"""An outcome of this run, what to do, or nothing."""


def read_control(run: Hearer, address: Address, message: Message, now: float) -> Meaning:
    """Read a control message, and note what it says of its sender.

    A party that is done ends the run where this one has released too: then all have. A helper has nothing to release,
    and another one may have helped; it follows the label party.
    """
    takes_part = address.sender in run.config.parties(run.attempts.helper)
    if run.state == State.RELEASED and not takes_part and isinstance(message, Cancel | Failure):
        return None  # whoever takes part has released, or nobody is done yet; who stands by knows nothing of that
    if isinstance(message, Outcome):
        meaning = _read_outcome(run, address.sender, message)
    else:
        meaning = run.peers.note_message(address, message, run.config.parties(run.attempts.helper), now)
    if not isinstance(meaning, Done):
        return meaning
    is_idle = run.config.is_helper and run.state in {State.RECEIVED, State.RECOVERING}
    return meaning if run.released or (address.sender == run.config.label and is_idle) else None


def _read_outcome(run: Hearer, sender: str, outcome: Outcome) -> Meaning:
    """Read how a run has ended at a party that was asked."""
    config = run.config
    if outcome.state == State.DONE:
        return Done()
    if outcome.state == UNKNOWN:
        return actions.Announce(sender)
    if outcome.state == State.CANCELLED:
        by = outcome.cancelled_by or ""
        return Cancelled(by) if by in ("", *config.everybody) else unknown_party(sender)
    if outcome.failure is None:
        return None
    is_older = outcome.attempt < run.attempts.number and run.is_resumed and config.is_label_party
    return _read_failure(config, sender, outcome.failure, is_older=is_older)


def _read_failure(config: RunConfig, sender: str, failure: Failure, *, is_older: bool) -> Meaning:
    """Read a failure: the label party's word counts, and any word to the label party."""
    counts = config.label in {config.me, sender}
    if (failure.code, failure.culprit) == ("job.resume", sender):
        # A party that declines may still follow the label party.
        return JobProblem("job.resume", sender, failure.reason) if counts else actions.TellOperator(failure.reason)
    if not counts:
        return None
    if failure.culprit not in {*config.everybody, *NO_PARTIES}:
        return unknown_party(sender)
    return actions.Resume(sender) if is_older else FinalFailure(failure)  # it was away when a person resumed the run
