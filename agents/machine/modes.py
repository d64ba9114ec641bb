"""Defines the modes of a run at one party, and the table of ways between them.

Theory. A run is one job at one party, over all its attempts. First its queues are opened. Nothing else begins before
all of them are consumed: what is heard meanwhile is held, unless it is the end. Then an attempt works, until it is done
or something ends it. After a fault that may pass, the label party begins another attempt, after a pause. Everybody else
waits for the heartbeat that tells of it, as long as the label party is heard of or may come back. The old attempt lets
go of its thread and files before the next one begins. Any other end is final: the run concludes. Where the agent itself
leaves, the run is suspended until the agent's next life.

What is heard twice, late or of an earlier attempt changes nothing. Every mode but `working` has a deadline of the
machine; `working` has those of the attempt, which tells when one has passed.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from tercet.agents.core.states import IllegalMove


class Mode(StrEnum):
    """Names what a run is at."""

    OPENING = "opening"  # its queues
    WORKING = "working"  # an attempt
    PAUSING = "pausing"  # at the label party, before another attempt
    WAITING = "waiting"  # at the others, for the label party's next attempt
    REPLACING = "replacing"  # the old attempt lets go of its thread and files
    SUSPENDING = "suspending"  # until the agent's next life
    CONCLUDING = "concluding"
    OVER = "over"


M = TypeVar("M", bound=StrEnum)
Table = Mapping[M, Mapping[str, M]]
"""For each mode the causes by which it ends, and what follows."""

OPENED, REPLACED = "queues are open", "the old attempt is gone"
LABEL_FAULT, FAULT = "a fault, at the label party", "a fault, at another party"
NEXT_ATTEMPT, END_KNOWN, LEAVES = "another attempt", "the end is known", "the agent leaves"
LOST, SAID = "the result is lost", "the others know"

_EXITS: Final = {NEXT_ATTEMPT: Mode.REPLACING, END_KNOWN: Mode.CONCLUDING, LEAVES: Mode.SUSPENDING}
_FAULTS: Final = {LABEL_FAULT: Mode.PAUSING, FAULT: Mode.WAITING}
TRANSITIONS: Final[Table[Mode]] = {
    Mode.OPENING: {OPENED: Mode.WORKING} | _FAULTS | _EXITS,
    Mode.WORKING: _FAULTS | _EXITS,
    Mode.PAUSING: _EXITS,
    Mode.WAITING: _EXITS,
    Mode.REPLACING: {REPLACED: Mode.OPENING},
    Mode.SUSPENDING: {SAID: Mode.OVER},
    Mode.CONCLUDING: {LOST: Mode.CONCLUDING, SAID: Mode.OVER},
    Mode.OVER: {},
}
BEGUN: Final = frozenset({Mode.OPENING, Mode.WORKING})  # something is under way for the attempt
FREE: Final = frozenset({Mode.OPENING, Mode.WORKING, Mode.PAUSING, Mode.WAITING})  # any outcome can be handled


def follow(table: Table[M], mode: M, cause: str) -> M:
    """Return the mode that follows by a table.

    Raises:
        IllegalMove: the table has no such transition; a bug of ours.
    """
    try:
        return table[mode][cause]
    except KeyError:
        raise IllegalMove(f"{mode} does not end by {cause!r}") from None
