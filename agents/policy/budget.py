"""Counts what jobs told each label party about each table, and limits the next job.

It reads no table. It writes a count to its file before the job tells what is counted.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from tercet.agents.core.problems import JobProblem
from tercet.agents.policy.audit_log import Entry
from tercet.agents.policy.budget_file import BudgetFile, Spending
from tercet.agents.policy.disclosure_table import ALIGNMENT, RELEASE, SCORING, TRAINING
from tercet.agents.policy.exposure import COUNTS, NAMES, SCORE_BITS, ExposureCount, exposures
from tercet.schemas.files.job import canonical_digest
from tercet.schemas.files.settings import Settings, TableSettings
from tercet.schemas.messages.kinds import Job, Terms

ROUNDING = 1e-6  # of sums of bits

BudgetKey = tuple[str, str]  # a table and a label party


class BudgetEntry(NamedTuple):
    """Holds one count over one table for one label party.

    The bound is None where there is none, or where only a job knows it.
    """

    table: str
    label: str
    name: str
    setting: str
    spent: float
    bound: float | None

    @property
    def left(self) -> float | None:
        """The amount that jobs may still tell."""
        return None if self.bound is None else max(0.0, self.bound - self.spent)


def spending_of(job: Job, me: str, amounts: dict[str, float]) -> Spending:
    """Make a job's spending of a party's table."""
    return Spending(job.id, job.run.hex(), job.description.table_of(me), job.description.label, amounts)


class Budget:
    """Counts what one agent's jobs told; without a file, as in tests, counts are not stored."""

    def __init__(self, file: BudgetFile | None = None) -> None:
        self._file = file
        self._runs: dict[BudgetKey, dict[str, dict[str, float]]] = {}
        self._totals: dict[BudgetKey, dict[str, float]] = {}

    @classmethod
    def from_spendings(cls, spendings: Iterable[Spending]) -> "Budget":
        """Make a budget from spendings."""
        budget = cls()
        for one in spendings:
            budget._count_spending(one)
        return budget

    def open(self, audited: Iterable[Entry]) -> None:
        """Count earlier spendings from the file, or, if there is none, from the audit log.

        Raises:
            Invalid: the file is damaged.
            OSError: a new file cannot be written.
        """
        known = None if self._file is None else self._file.open()
        if known is None:
            known = list(audited_spendings(audited))
            if self._file is not None:
                self._file.start_with(known)
        for one in known:
            self._count_spending(one)

    def check(self, job: Job, settings: Settings, terms: Terms | None = None, record_bits: float | None = None) -> None:
        """Check that the settings allow all that the job would tell, without counting it.

        Args:
            job: what its earlier attempts have told counts once.
            settings: of this party; a helper has no table.
            terms: if they are known; otherwise the description alone counts.
            record_bits: what a record of the table holds; None where it is not known.

        Raises:
            JobProblem: the job would tell more; it names the count, the setting and whom to ask.
        """
        description = job.description
        if settings.party in description.helpers:
            return
        for amounts in exposures(description, settings, terms).values():
            self.check_spending(spending_of(job, settings.party, amounts), settings, record_bits)

    def check_spending(self, asked: Spending, settings: Settings, record_bits: float | None = None) -> None:
        """Check that the settings allow what a run would tell in all, without counting it.

        Raises:
            JobProblem: as `check`.
        """
        for count in COUNTS:
            amount, had = asked.counts.get(count.name, 0), self.spent(asked, count.name)
            bound = _bound(count, settings.tables[asked.table], record_bits, own=settings.party == asked.label)
            before = self._total((asked.table, asked.label), count.name) - had
            if bound is not None and amount > had and before + amount > bound + ROUNDING:
                raise _budget_problem(asked, settings, count, before, bound)

    def spent(self, asked: Spending, name: str) -> float:
        """Return one count of what the asked run has told before."""
        return self._runs.get((asked.table, asked.label), {}).get(asked.run, {}).get(name, 0)

    def spend(self, asked: Spending) -> None:
        """Write to the disk what a run is about to tell in all; what it has told before counts once.

        Raises:
            OSError: the disk cannot be written; nothing is counted.
        """
        more = {name: amount for name, amount in asked.counts.items() if amount > self.spent(asked, name)}
        if more:
            self._spend(asked._replace(counts=more))

    def _spend(self, spending: Spending) -> None:
        if self._file is not None:
            self._file.append(spending)
        self._count_spending(spending)

    def spend_profile(self, job: Job, settings: Settings, columns: Iterable[str] | None) -> bool:
        """Count a set of columns that a job asks for; tell whether it may be judged before approval.

        Entropies of many sets would tell how frequent values are. A set counts once.

        Raises:
            OSError: the disk cannot be written; nothing is counted.
        """
        name = job.description.table_of(settings.party)
        asked = "all" if columns is None else canonical_digest("tercet columns", sorted(columns)).hex()
        place, bound = (name, job.description.label), settings.tables[name].max_profiles
        if asked not in self._runs.get(place, {}):
            if self._total(place, "profiles") >= bound:
                return False
            self._spend(Spending(job.id, asked, *place, {"profiles": 1}))
        return True

    def entries(self, settings: Settings) -> Iterator[BudgetEntry]:
        """Yield every count of every table and label party, by name."""
        for table, label in sorted(self._totals):
            own, of_table = label == settings.party, settings.tables.get(table)
            for count in COUNTS:
                bound = None if of_table is None else _bound(count, of_table, None, own=own)
                spent = self._total((table, label), count.name)
                yield BudgetEntry(table, label, count.name, count.setting, spent, bound)

    def _total(self, place: BudgetKey, name: str) -> float:
        return self._totals.get(place, {}).get(name, 0)

    def _count_spending(self, spending: Spending) -> None:
        place = (spending.table, spending.label)
        of_run = self._runs.setdefault(place, {}).setdefault(spending.run, {})
        totals = self._totals.setdefault(place, {})
        for name, amount in spending.counts.items():
            more = max(0, amount - of_run.get(name, 0))
            of_run[name] = of_run.get(name, 0) + more
            totals[name] = totals.get(name, 0) + more


def audited_spendings(entries: Iterable[Entry]) -> Iterator[Spending]:
    """Derive spendings from an audit log, also of earlier releases.

    Those gave scores without noise.
    """
    for entry in entries:
        fields = entry.fields
        if entry.event != "revealing" or "table" not in fields:
            continue
        counts = fields.get("counts", _counts_of_earlier_release(entry))
        counts = {name: amount for name, amount in counts.items() if name in NAMES and amount > 0}
        yield Spending(entry.job, entry.run, str(fields["table"]), str(fields.get("label", "")), counts)


def _counts_of_earlier_release(entry: Entry) -> dict[str, float]:
    fields = entry.fields
    scorings, held_out, rows = (int(fields.get(name, 0)) for name in ("scorings", "held_out", "rows"))
    scored = {"scorings": scorings, "bits": scorings * SCORE_BITS, "scored_rows": scorings * held_out}
    by_stage: dict[str, dict[str, float]] = {
        ALIGNMENT: {"alignments": 1},
        TRAINING: {"models": 1, **scored},
        SCORING: {"predictions": 1, "scorings": 1, "bits": SCORE_BITS, "scored_rows": rows},
        RELEASE: {"releases": int(bool(fields.get("released")))},
    }
    return by_stage.get(str(fields.get("stage")), {})


def _bound(count: ExposureCount, table: TableSettings, record_bits: float | None, *, own: bool) -> float | None:
    if own and not count.own:
        return None  # the label party learns nothing new about its own columns
    bound: float | None = getattr(table, count.setting)
    return record_bits if bound is None else bound


NO_SCORES: Final = 'compare by held_out_loss = true and metrics = "none", which tells no score, or '


def _budget_problem(
    asked: Spending, settings: Settings, count: ExposureCount, before: float, bound: float
) -> JobProblem:
    me, table = settings.party, asked.table
    set_by_hand = getattr(settings.tables[table], count.setting) is not None
    scores_rows_held_out = count.name == "bits" and "predictions" not in asked.counts
    return JobProblem(
        "policy.exposure",
        me,
        f"{_excess(asked, me, count, before, bound if set_by_hand else None)}: "
        f"{NO_SCORES if scores_rows_held_out else ''}ask {me} whether it raises {count.setting} under [tables.{table}]",
        None if set_by_hand else f"a record holds {bound:.10g} bits",
    )


def _excess(asked: Spending, me: str, count: ExposureCount, before: float, bound: float | None) -> str:
    """Say what goes beyond the bound; None if that is what a record holds, which is not said."""
    label, table = asked.label, f"table {asked.table!r} of {me}"
    if before:
        allowed = "as many as a record holds" if bound is None else f"{bound:.10g}"
        return (
            f"{label} has had {before:.10g} {count.words} by jobs over {table}, which allows {allowed} in all, and "
            f"this one goes beyond, as repeated jobs tell more of its rows"
        )
    allowed = f"a record of {table} holds" if bound is None else f"the {bound:.10g} that {table} allows"
    return f"this job alone would give {label} more {count.words} than {allowed}"
