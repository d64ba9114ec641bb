"""Reads what another party's agent says of the end of a run that it was asked about."""

from tercet.agents.core.problems import NO_PARTIES, JobProblem
from tercet.agents.core.states import UNKNOWN, State
from tercet.agents.runs import actions
from tercet.agents.runs.outcomes import Cancelled, Done, FinalFailure, RunOutcome, unknown_party
from tercet.agents.runs.run_config import RunConfig
from tercet.schemas.messages.kinds import Failure, Outcome

NOT_RESUMED = "job.resume"  # code of a party that declines to resume a run

Meaning = RunOutcome | actions.Action | None
"""An outcome of this run, what to do, or nothing."""


def read_outcome(config: RunConfig, sender: str, outcome: Outcome, attempt: int, *, is_resumed: bool) -> Meaning:
    """Read what an asked agent says.

    Args:
        config: This party's place in the job.
        sender: The party whose agent says it.
        outcome: What it says.
        attempt: Number of this party's attempt.
        is_resumed: Whether a person has resumed the run, after it had failed.
    """
    if outcome.state == State.DONE:
        return Done()
    if outcome.state == UNKNOWN:
        return actions.Announce(sender)
    if outcome.state == State.CANCELLED:
        by = outcome.cancelled_by or ""
        return Cancelled(by) if by in ("", *config.everybody) else unknown_party(sender)
    if outcome.failure is None:
        return None
    is_older = outcome.attempt < attempt and is_resumed and config.is_label_party
    return _read_failure(config, sender, outcome.failure, is_older=is_older)


def _read_failure(config: RunConfig, sender: str, failure: Failure, *, is_older: bool) -> Meaning:
    """Read a failure: the label party's word counts, and any word to the label party."""
    counts = config.label in {config.me, sender}
    if (failure.code, failure.culprit) == (NOT_RESUMED, sender):
        # A party that declines may still follow the label party.
        return JobProblem(NOT_RESUMED, sender, failure.reason) if counts else actions.TellOperator(failure.reason)
    if not counts:
        return None
    if failure.culprit not in {*config.everybody, *NO_PARTIES}:
        return unknown_party(sender)
    return actions.Resume(sender) if is_older else FinalFailure(failure)  # it was away when a person resumed the run
