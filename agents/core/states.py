"""Holds a job's state table: which state may follow which.

No I/O and no reasons here: `runs` decides why a job moves.
"""

from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Final


class State(StrEnum):
    """Names the states of a job at one party."""

    RECEIVED = "received"
    ACCEPTED = "accepted"  # this party's own policy allows it
    READY = "ready"  # the table is read, the queues are bound
    ALIGNED = "aligned"  # keys and rows are agreed
    TRAINING = "training"
    SCORING = "scoring"  # in a prediction job
    COUNTING = "counting"  # in a statistics job
    RECOVERING = "recovering"  # after a fault, until the next attempt has everybody
    RELEASED = "released"  # what this party gets is on its disk
    DONE = "done"  # so is everybody's
    FAILED = "failed"
    CANCELLED = "cancelled"


APPROVAL: Final = "approval"  # what a report says a party is at while its operator is asked
UNKNOWN: Final = "unknown"  # what an agent says of a job that it has no record of
TERMINAL: Final = frozenset({State.DONE, State.FAILED, State.CANCELLED})

_BEFORE: Final = (State.RECEIVED, State.ACCEPTED, State.READY, State.ALIGNED)
_AFTER: Final = (State.RELEASED, State.DONE)
_PATHS: Final = tuple((*_BEFORE, work, *_AFTER) for work in (State.TRAINING, State.SCORING, State.COUNTING))
_EARLY_ENDS: Final = frozenset({State.FAILED, State.CANCELLED})
_RESTART: Final = (State.RECOVERING, State.ACCEPTED)
# Whoever comes back may learn that the others were done before it knew; a helper that stands by learns nothing else.
_LATE_DONE: Final = {(here, State.DONE) for here in (State.RECOVERING, State.RECEIVED)}
_PAIRS: Final = {*(pair for path in _PATHS for pair in pairwise(path)), _RESTART, *_LATE_DONE}


def _next(here: State) -> frozenset[State]:
    if here in TERMINAL:
        return frozenset()
    onward = frozenset(there for h, there in _PAIRS if h == here) | _EARLY_ENDS
    return onward if here in {State.RECEIVED, State.RECOVERING} else onward | {State.RECOVERING}


NEXT: Final[Mapping[State, frozenset[State]]] = {here: _next(here) for here in State}


class IllegalMove(RuntimeError):
    """Reports a bug of ours: a step between states that the table does not have."""


def move(here: State, there: State) -> State:
    """Return the state `there`, if it may follow `here`.

    Raises:
        IllegalMove: it may not.
    """
    if there not in NEXT[here]:
        raise IllegalMove(f"a job cannot go from {here} to {there}")
    return there
