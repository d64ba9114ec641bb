"""Writes one run's lines to the audit log and the budget, before anything happens.

A job reveals nothing before both hold it: if a line cannot be written, the job fails.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import TERMINAL
from tercet.agents.policy.audit_log import AuditLog
from tercet.agents.policy.budget import Budget, spending_of
from tercet.agents.policy.budget_file import FILE
from tercet.agents.policy.disclosures import revelations
from tercet.agents.policy.exposure import exposures
from tercet.agents.policy.job import accepts_exposure
from tercet.agents.policy.known_job import JobFacts
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import Job, JobStatus, Terms


class JobAudit:
    """Writes the lines of one run; without a log, as in tests, it writes the budget only.

    `record_bits` is the entropy of a record of this party's table, once it is known; it limits scores.
    """

    def __init__(self, job: Job, settings: Settings, budget: Budget, log: AuditLog | None = None) -> None:
        self._job, self._settings, self._budget, self._log = job, settings, budget, log
        self.record_bits: float | None = None

    def write_event(self, event: str, **fields: Any) -> None:
        """Write a line.

        Raises:
            JobProblem: the disk cannot be written.
        """
        if self._log is None:
            return
        try:
            self._log.append(event, self._job.id, self._job.run.hex(), fields)
        except OSError as error:
            raise self._disk_problem("audit log", str(self._log.path), error) from None

    def _disk_problem(self, what: str, where: str, error: OSError) -> JobProblem:
        me = self._settings.party
        reason = f"{me} cannot write its {what}, and takes part in nothing that it does not record"
        return JobProblem("disk.write", me, reason, f"{where}: {error.strerror}")

    def note_received(self, who: str = "") -> None:
        """Note that a job has arrived; at the submitter `who` is the person's account."""
        job, description = self._job, self._job.description
        fields = {"by": who} if who else {}
        fields |= {"submitter": job.submitter, "kind": description.kind, "purpose": description.purpose}
        self.write_event(
            "received", **fields, description=description.digest.hex(), issued=job.issued, expires=job.expires
        )

    def note_decision(self, problem: JobProblem | None = None, withheld: int = 0) -> None:
        """Note this party's decision, and the number of earlier refusals that have no line."""
        if problem is None:
            self.write_event("decided", accepted=True)
        else:
            more = {"withheld": withheld} if withheld else {}
            self.write_event("decided", accepted=False, code=problem.code, culprit=problem.culprit, **more)

    def note_start(self, attempt: int, version: int) -> None:
        """Note that all parties take part, and an attempt begins."""
        self.write_event("begun", attempt=attempt, version=version)

    def note_revelations(self, stage: str, terms: Terms | None = None) -> None:
        """Note what this stage is about to tell whom; some stages need `terms`.

        Raises:
            JobProblem: the stage would tell more than the table's settings allow, or the disk cannot be written. The
                stage has told nothing.
        """
        description = self._job.description
        fields: dict[str, Any] = {"stage": stage, "label": description.label}
        if self._settings.party not in description.helpers:
            fields["table"] = description.table_of(self._settings.party)
            fields["counts"] = self._spend_budget(stage, terms)
        if terms is not None:
            fields |= {"rows": terms.rows, "held_out": terms.held_out, "columns": list(terms.columns)}
        revealed = revelations(description, JobFacts.of(description, terms), stage)
        what = [{"to": one.party, "what": one.what} for one in revealed]
        self.write_event("revealing", **fields, revelations=what)

    def bound_score_bits(self, record_bits: float) -> None:
        """Limit what scores tell by the entropy of a record, unless this party accepts more.

        Raises:
            JobProblem: this job and those before it would tell more.
        """
        if not accepts_exposure(self._job, self._settings):
            self.record_bits = record_bits
            self._budget.check(self._job, self._settings, None, record_bits)

    def may_judge(self, columns: Iterable[str] | None) -> bool:
        """Count a set of this party's columns; tell whether it may be judged before approval.

        Raises:
            JobProblem: the disk cannot be written.
        """
        with self._spending():
            return self._budget.spend_profile(self._job, self._settings, columns)

    def _spend_budget(self, stage: str, terms: Terms | None) -> dict[str, float]:
        """Spend the budget on this stage and return its counts; a helper has no budget."""
        job, settings = self._job, self._settings
        self._budget.check(job, settings, terms, self.record_bits)
        amounts = exposures(job.description, settings, terms).get(stage, {})
        asked = spending_of(job, settings.party, amounts)
        if "statistics" in amounts:
            # Another attempt may count other labels: after its sums the label party has no check.
            earlier = self._budget.spent(asked, "statistics")
            asked = asked._replace(counts={**amounts, "statistics": amounts["statistics"] + earlier})
            self._budget.check_spending(asked, settings)
        with self._spending():
            self._budget.spend(asked)
        return {name: amount for name, amount in asked.counts.items() if amount}

    @contextmanager
    def _spending(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._disk_problem("record of what jobs were told", FILE, error) from None

    def note_end(self, status: JobStatus) -> None:
        """Note the job's end or suspension at this party, and how many steps it has done."""
        failure = status.failure
        fields: dict[str, Any] = {"state": status.state, "steps": status.step, "rows": status.rows}
        if failure is not None:
            fields |= {"code": failure.code, "culprit": failure.culprit, "stage": failure.stage}
        if status.cancelled_by:
            fields["cancelled_by"] = status.cancelled_by
        self.write_event("ended" if status.state in TERMINAL else "suspended", **fields)
