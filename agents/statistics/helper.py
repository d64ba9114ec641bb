"""Plays the helper in a statistics job: matches pseudonyms, and deals randomness.

It receives nothing of the counts.
"""

from dataclasses import dataclass

from tercet.agents.alignment.matching import help_align
from tercet.agents.core.states import State
from tercet.agents.session.agreed import Session
from tercet.agents.session.context import JobContext
from tercet.agents.statistics.driving import StatisticsDriver
from tercet.agents.statistics.terms import StatisticsContext, agree_on_statistics
from tercet.mpc.statistics.helper import StatisticsHelper
from tercet.schemas.files.job import StatisticsJob


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Dealing:
    """Holds all that the helper deals by."""

    context: StatisticsContext
    helper: StatisticsHelper
    driver: StatisticsDriver


class StatisticsHelperRole:
    """Plays `phases.Role` for the helper."""

    working = State.COUNTING

    def __init__(self, context: JobContext, job: StatisticsJob) -> None:
        self._context, self._job = context, job

    async def prepare(self) -> None:
        """Do nothing: a helper has no table."""

    async def align(self, _table: None) -> None:
        """Match pseudonyms, if the job wants that."""
        await help_align(self._context)

    async def set_up(self, _rows: None, session: Session) -> Dealing:
        """Agree on what is counted; rows, bins and labels stay unknown here."""
        agreed = await agree_on_statistics(self._context, self._job, session, None)
        helper = StatisticsHelper(agreed.plan, agreed.data_party_masks("statistics"))
        return Dealing(context=agreed, helper=helper, driver=StatisticsDriver(agreed))

    async def run_steps(self, dealing: Dealing) -> Dealing:
        """Deal for all batches."""
        await dealing.driver.run_pass(dealing.helper.deal_step)
        return dealing

    async def release(self, dealing: Dealing) -> None:
        """Deal the check of cells; of what is opened the helper gets nothing."""
        await dealing.driver.run_all(dealing.context.plan.check_steps(), dealing.helper.deal_check)
