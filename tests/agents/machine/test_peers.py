"""What a party makes of the heartbeats of others: whose word counts for what, and what nobody may say."""

import pytest

from tercet.agents.core.problems import JobProblem
from tercet.agents.machine.outcomes import Cancelled, DeadlineMissed, RemoteFailure, Restart, RunOutcome
from tercet.agents.machine.peers import MOST_ATTEMPTS, PeerMonitor
from tercet.schemas.messages.address import Address, Round
from tercet.schemas.messages.kinds import Cancel, Failure, Message, Progress

BANK, CARD, NOTARY, SECOND = "bank", "card", "notary", "second"
PARTIES, HELPERS = (BANK, CARD, NOTARY, SECOND), (NOTARY, SECOND)


def monitor(me: str, attempt: int = 3) -> PeerMonitor:
    """A party's, in an attempt of a job whose label is the bank's."""
    found = PeerMonitor(BANK, PARTIES, HELPERS, me, 0.0)
    found.start_attempt(attempt)
    return found


def said(by: PeerMonitor, sender: str, message: Message, attempt: int = 3) -> RunOutcome | None:
    """What follows from a message of a sender that is at some attempt."""
    address = Address("job-1", attempt, Round.CONTROL, message.item, 1, 1, sender, by.me)
    return by.note_message(address, message, (BANK, CARD, NOTARY), 1.0)


def beat(**changes: object) -> Progress:
    """A heartbeat in mid-training."""
    usual = {"state": "training", "epoch": 0, "step": 5, "steps": 9, "stage": "", "waits_for": (), "interval": 1.0}
    return Progress.model_validate({**usual, "helper": NOTARY, **changes})


def test_the_label_partys_heartbeat_tells_the_attempt_and_the_helper():
    """Everybody follows it forwards, and nobody backwards."""
    assert said(monitor(CARD), BANK, beat(helper=SECOND), 4) == Restart(4, SECOND)
    assert said(monitor(CARD), BANK, beat(helper=SECOND), 3) is None
    assert said(monitor(CARD), BANK, beat(helper=SECOND), 2) is None


@pytest.mark.parametrize("sender", [CARD, NOTARY])
def test_nobody_elses_heartbeat_begins_an_attempt(sender: str):
    """A party that is ahead of its label party is heard of, and that is all."""
    listening = monitor(SECOND)
    assert said(listening, sender, beat(), 4) is None
    assert sender in listening.reports(1.0)


@pytest.mark.parametrize("me", [BANK, CARD])
@pytest.mark.parametrize("helper", [BANK, CARD, "mallory"])
def test_nobody_helps_whom_the_job_does_not_name_as_a_helper(me: str, helper: str):
    """It would have the masks of all data parties; a data party that had them would read the others' rows."""
    sender = CARD if me == BANK else BANK
    outcome = said(monitor(me), sender, beat(helper=helper), 4)
    assert isinstance(outcome, JobProblem)
    assert (outcome.code, outcome.culprit) == ("message.malformed", sender)


@pytest.mark.parametrize("attempt", [MOST_ATTEMPTS, 2**32])
def test_a_number_that_counts_nothing_is_not_followed(attempt: int):
    """Neither by the label party nor by others."""
    assert said(monitor(CARD), BANK, beat(), attempt) is None
    assert said(monitor(BANK), CARD, beat(), attempt) is None


def test_a_label_party_that_has_lost_count_begins_an_attempt_that_nobody_has_seen():
    """Its record is older than what the others know, after a restore say."""
    assert said(monitor(BANK, 1), CARD, beat(), 7) == Restart(8, NOTARY)


def test_who_is_out_of_the_attempt_ends_it_at_the_label_party_only():
    """And only a party that takes part in it, and only this attempt."""
    outcome = said(monitor(BANK), CARD, beat(lost=True))
    assert isinstance(outcome, RemoteFailure)
    assert (outcome.failure.code, outcome.failure.culprit) == ("agent.restarted", CARD)
    assert said(monitor(BANK), SECOND, beat(lost=True)) is None
    assert said(monitor(BANK), CARD, beat(lost=True), 2) is None
    assert said(monitor(NOTARY), CARD, beat(lost=True)) is None


def test_complaints_and_failures_of_another_attempt_say_nothing_of_this_one():
    """But a verdict ends the run, and so does a person's cancel, whatever attempt its sender was at."""
    failure = Failure(code="party.busy", stage="training", culprit=CARD, reason="busy")
    assert isinstance(said(monitor(BANK), CARD, beat(overdue="step")), DeadlineMissed)
    assert said(monitor(BANK), CARD, beat(overdue="step"), 2) is None
    assert said(monitor(NOTARY), CARD, failure, 2) is None
    assert said(monitor(NOTARY), CARD, failure) == RemoteFailure(failure)
    verdict = failure.model_copy(update={"verdict": True})
    assert said(monitor(NOTARY), BANK, verdict, 2) == RemoteFailure(verdict)
    assert said(monitor(NOTARY), CARD, verdict) == RemoteFailure(failure)
    assert said(monitor(NOTARY), CARD, Cancel(), 2) == Cancelled(CARD)
