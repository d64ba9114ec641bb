"""Holds what a run's machine knows of its job and its party from the start."""

from dataclasses import dataclass

from tercet.schemas.files.settings import Deadlines


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Describes one party's place in one job.

    Attributes:
        me: This party.
        label: The label party.
        data_parties: In the job's order.
        helpers: The first one, and those that stand by.
        deadlines: This party's, in seconds.
        attempts: So many in a row may end in a fault without getting further; with 1 the first fault ends the job.
    """

    me: str
    label: str
    data_parties: tuple[str, ...]
    helpers: tuple[str, ...]
    deadlines: Deadlines
    attempts: int

    @property
    def everybody(self) -> tuple[str, ...]:
        """All parties, those that stand by included."""
        return (*self.data_parties, *self.helpers)

    @property
    def is_label_party(self) -> bool:
        """Tell whether this is the label party."""
        return self.me == self.label

    @property
    def is_helper(self) -> bool:
        """Tell whether this party holds no columns."""
        return self.me not in self.data_parties

    @property
    def recovers(self) -> bool:
        """Tell whether a fault need not be the job's end at this party."""
        return self.attempts > 1

    def takes_part(self, helper: str) -> bool:
        """Tell whether this party takes part in an attempt with this helper, and does not stand by."""
        return self.me in self.parties(helper)

    def parties(self, helper: str) -> tuple[str, ...]:
        """List the parties of an attempt with this helper."""
        return (*self.data_parties, helper)

    def others(self, helper: str) -> tuple[str, ...]:
        """List the other parties of an attempt with this helper."""
        return tuple(party for party in self.parties(helper) if party != self.me)
