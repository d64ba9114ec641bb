"""Writes what single rows tell a label party to budget and audit log, before it is told.

A model's serving is one run, in which a row counts once for each different answer. Rows are counted some at a time.
"""

import hashlib
from typing import Final

from tercet.agents.core.problems import JobProblem
from tercet.agents.models.manifest import ModelPart
from tercet.agents.policy.audit_log import AuditLog
from tercet.agents.policy.budget import Budget
from tercet.agents.policy.budget_file import Spending
from tercet.agents.policy.disclosure_table import SERVING
from tercet.agents.policy.disclosures import serving_revelations
from tercet.agents.policy.exposure import score_bits
from tercet.schemas.files.settings import Settings

BLOCK: Final = 64  # rows that are counted at a time: a line on the disk for each would take longer than an answer


def serving_run(part: ModelPart) -> bytes:
    """Make the run that all answers by one model belong to."""
    return hashlib.sha256(b"tercet serving" + part.digest).digest()


class ServingAudit:
    """Counts what one model tells of one table."""

    def __init__(self, settings: Settings, part: ModelPart, table: str, budget: Budget, log: AuditLog) -> None:
        self._settings, self._part, self._table, self._budget, self._log = settings, part, table, budget, log
        self._run = serving_run(part).hex()
        self._covered = (0, 0)  # rows, and answers for one of them, that are counted already

    def spend(self, before: int, new: int, most_answers: int, record_bits: float) -> None:
        """Count new rows beside those before; `most_answers` for one of them.

        Raises:
            JobProblem: the settings do not allow that, or the disk cannot be written; nothing may be told.
        """
        if before + new <= self._covered[0] and most_answers <= self._covered[1]:
            return
        settings = self._settings
        bound = None if settings.policy.narrow else record_bits
        ahead = self._spending(before + max(new, BLOCK), most_answers)
        try:
            self._budget.check_spending(ahead, settings, bound)
        except JobProblem:
            ahead = self._spending(before + new, most_answers)
            self._budget.check_spending(ahead, settings, bound)
        self._write(ahead)
        self._covered = int(ahead.counts["scored_rows"]), most_answers

    def _spending(self, rows: int, most_answers: int) -> Spending:
        scorings = self._part.outputs * most_answers
        bits = scorings * score_bits(self._settings.policy.score_noise)
        counts: dict[str, float] = {"predictions": 1, "scorings": scorings, "bits": bits, "scored_rows": rows}
        return Spending(self._part.job, self._run, self._table, self._part.label_party, counts)

    def _write(self, asked: Spending) -> None:
        me = self._settings.party
        lines = [{"to": one.party, "what": one.what} for one in serving_revelations(self._part.label_party, me)]
        fields = {"stage": SERVING, "label": asked.label, "table": asked.table, "counts": asked.counts}
        try:
            self._log.append("revealing", asked.job, asked.run, fields | {"revelations": lines})
            self._budget.spend(asked)
        except OSError as error:
            reason = f"{me} cannot write what it is about to tell, and takes part in nothing that it does not record"
            raise JobProblem("disk.write", me, reason, f"{error.filename}: {error.strerror}") from None
