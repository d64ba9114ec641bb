"""What one label party's jobs have learned of each table so far: repeated scorings and releases add up.

Each score of a row is an equation about its columns, by a model of its own, so that enough of them can be solved. It
counts; it reads no table.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from agents.audit import Entry
from agents.problems import JobProblem
from agents.revelations import RELEASE, TRAINING
from schemas.job import TrainingJob
from schemas.messages import Job
from schemas.settings import Settings


@dataclass(slots=True)
class Exposure:
    """By table and label party: the scorings and the releases of each run that has got so far."""

    scorings: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    releases: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Exposure":
        """As an audit log tells it."""
        exposure = cls()
        for entry in entries:
            exposure.note(entry)
        return exposure

    def note(self, entry: Entry) -> None:
        """Count what a line of the audit log says; a later attempt of the same run counts once."""
        if entry.event != "revealing":
            return
        place = (str(entry.fields.get("table", "")), str(entry.fields.get("label", "")))
        if entry.fields.get("stage") == TRAINING:
            of_runs = self.scorings.setdefault(place, {})
            of_runs[entry.run] = max(of_runs.get(entry.run, 0), int(entry.fields.get("scorings", 0)))
        elif entry.fields.get("stage") == RELEASE and entry.fields.get("released"):
            self.releases.setdefault(place, set()).add(entry.run)

    def check(self, job: Job, settings: Settings, outputs: int = 1) -> None:
        """Raises JobProblem if the job would go beyond what its table's settings allow; nothing is counted yet.

        Of a model with several `outputs` each scoring tells as many equations.
        """
        me, description = settings.party, job.description
        if not isinstance(description, TrainingJob) or me in description.helpers:
            return
        name, run = description.table_of(me), job.run.hex()
        table, place = settings.tables[name], (name, description.label)
        if me != description.label:  # of its own columns the label party learns nothing new
            before = sum(count for other, count in self.scorings.get(place, {}).items() if other != run)
            if description.scorings and before + description.scorings * outputs > table.max_total_scorings:
                raise _beyond(job, settings, "held-out rows scored", before, "max_total_scorings")
        released = self.releases.get(place, set()) - {run}
        if description.release != "shared" and len(released) >= table.max_releases:
            raise _beyond(job, settings, "models released", len(released), "max_releases")


def _beyond(job: Job, settings: Settings, what: str, before: int, setting: str) -> JobProblem:
    me, label = settings.party, job.description.label
    table = job.description.table_of(me)
    return JobProblem(
        "policy.exposure",
        me,
        f"{label} has had {what} {before} times by jobs over table {table!r} of {me}, and this one goes beyond what "
        f"{me} allows, as repeated jobs tell more of its rows: ask {me} whether it raises {setting} under "
        f"[tables.{table}]",
    )
