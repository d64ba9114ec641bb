"""Finds out who is not heard of any more, and what follows from that. Pure."""

from typing import NamedTuple, Protocol

from tercet.agents.core.states import State
from tercet.agents.machine.modes import Mode
from tercet.agents.machine.outcomes import FinalFailure, Restart, silent_label_party
from tercet.agents.machine.peers import MISSED_HEARTBEATS, PeerMonitor
from tercet.agents.machine.recovery import Attempts, choose_helper
from tercet.agents.machine.run_config import RunConfig


class Watch(Protocol):
    """Knows what a watch needs of a machine."""

    config: RunConfig
    peers: PeerMonitor
    attempts: Attempts
    mode: Mode
    state: State
    is_abandoned: bool
    waiting_since: float  # for the label party, or when the run began


class Watched(NamedTuple):
    """Says who is silent, and what follows, if anything does."""

    silent: tuple[str, ...] = ()
    outcome: FinalFailure | Restart | None = None


def watch_label_party(run: Watch, now: float) -> Watched:
    """Look after the label party: its last word may be lost, or it does not come back.

    Who works for it has deadlines of its own, but for a helper that stands by.
    """
    label, deadlines, waits = run.config.label, run.config.deadlines, run.mode == Mode.WAITING
    silence = min(run.peers.seconds_silent(label, now), now - run.waiting_since)
    if silence > deadlines.recover and (waits or not run.config.takes_part(run.attempts.helper)):
        return Watched(outcome=FinalFailure(silent_label_party(label).failure(run.state, verdict=False)))
    if silence <= MISSED_HEARTBEATS * deadlines.heartbeat:
        return Watched()
    return Watched(run.config.others(run.attempts.helper) if waits else (label,))


def watch_helper(run: Watch, now: float) -> Watched:
    """Look after those who have not come to a later attempt; replace a helper that stays away.

    Only the label party does.
    """
    helper, reports, takeover = run.attempts.helper, run.peers.reports(now), run.config.deadlines.takeover
    other = choose_helper(run.config.helpers, reports, helper)
    if run.peers.seconds_silent(helper, now) > takeover and other != helper and not run.is_abandoned:
        return Watched(outcome=Restart(run.attempts.number + 1, other))
    return Watched(run.peers.silent_parties(run.config.others(helper), now))
