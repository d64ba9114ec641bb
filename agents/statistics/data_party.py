"""Plays a data party in a statistics job: bins its columns, and counts with the others.

Every attempt counts anew, over the same rows and in the same secret order of bins, so that nothing is told twice
in two ways.
"""

from dataclasses import dataclass

from tercet.agents.alignment.aligned_table import AlignedTable, align_table
from tercet.agents.alignment.own_table import OwnTable, Reading, read_table, report_disk
from tercet.agents.alignment.row_counts import check_split
from tercet.agents.alignment.table_problems import unfit_label
from tercet.agents.core.states import State
from tercet.agents.roles.exposure_profile import check_label_classes, label_kind
from tercet.agents.roles.release import hidden_folder, write_hidden
from tercet.agents.session.agreed import Session
from tercet.agents.session.context import JobContext
from tercet.agents.statistics.disclosing import Products, announce_unit, exchange_names, inflation_of, map_correlations
from tercet.agents.statistics.driving import StatisticsDriver
from tercet.agents.statistics.measured import Learnt, make_result
from tercet.agents.statistics.own_columns import OwnColumns, bin_columns
from tercet.agents.statistics.own_targets import OwnTargets, fit_targets
from tercet.agents.statistics.terms import StatisticsContext, agree_on_statistics
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.randomness.secret_order import derive_subkey
from tercet.mpc.statistics.data_party import StatisticsParty, encode_targets
from tercet.schemas.files.job import StatisticsJob
from tercet.schemas.messages.kinds import Sizes
from tercet.tables.encoding.label import UnfitLabel
from tercet.tables.encoding.store import FeatureView


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Counting:
    """Holds all that a data party counts by.

    Attributes:
        context: what all parties have agreed on.
        columns: this party's, with the bin of each row.
        targets: at the label party.
        numbers: the columns that are correlated, as words; None where there are none.
        party: this party's side of the arithmetic.
        driver: runs its scripts.
    """

    context: StatisticsContext
    columns: OwnColumns
    targets: OwnTargets | None
    numbers: FeatureView | None
    party: StatisticsParty
    driver: StatisticsDriver


class StatisticsRole:
    """Plays `phases.Role` for a party that holds columns."""

    working = State.COUNTING

    def __init__(self, context: JobContext, job: StatisticsJob) -> None:
        self._context, self._job = context, job

    async def prepare(self) -> OwnTable:
        """Read and check the table; nothing has been sent yet.

        Raises:
            JobProblem: the table, its columns or its labels cannot be used; this party is named.
        """
        context = self._context
        own = await read_table(context, Reading(context.is_label_party, label_kind(self._job)))
        check_label_classes(context, own.table.classes, own.table.chosen.positive, own.table.name)
        return own

    async def align(self, own: OwnTable) -> AlignedTable:
        """Find the rows that all data parties have."""
        return await align_table(self._context, own)

    async def set_up(self, own: AlignedTable, session: Session) -> Counting:
        """Bin the columns by the rows that are not held out, and agree on what is counted.

        Raises:
            JobProblem: columns, label or sizes do not fit the job, or the parties do not agree.
        """
        context, job = self._context, self._job
        held_out = await own.split_rows(job.evaluation)
        check_split(context, job.evaluation, held_out)
        columns = await bin_columns(context, job, own, held_out)
        targets = await context.compute(fit_targets, context, job, own, held_out)
        counts = columns.counts(0 if targets is None else targets.classes)
        sizes = Sizes(rows=int((~held_out).sum()), held_out=int(held_out.sum()), columns=len(columns.bins))
        agreed = await agree_on_statistics(context, job, session, (counts, sizes))
        await own.confirm_order(agreed, held_out)
        with report_disk(context):
            numbers = await context.compute(columns.encode_numbers, context, agreed.plan.fx)
        party, driver = await _make_party(agreed, columns, targets, numbers), StatisticsDriver(agreed)
        return Counting(
            context=agreed, columns=columns, targets=targets, numbers=numbers, party=party, driver=driver
        )  # fmt: skip

    async def run_steps(self, counting: Counting) -> Counting:
        """Add up shares of all sums, batch by batch; nothing is opened."""
        await counting.driver.run_pass(counting.party.run_step)
        return counting

    async def release(self, counting: Counting) -> None:
        """Check which cells have enough rows, open what the job says, and write the result."""
        context, driver, party = counting.context, counting.driver, counting.party
        await driver.run_all(context.plan.check_steps(), party.check_cells)
        own, partners = await driver.run(party.open_cells(), context.plan.opening_step())
        products = await driver.run(party.open_correlations(), context.plan.opening_step())
        factors = await _share_inflation(counting, products)
        names = await exchange_names(context, counting.columns)
        exponent = await announce_unit(context, counting.targets)
        learnt = Learnt(own, partners, names, exponent, map_correlations(context, products, names), factors)
        result = await context.compute(make_result, context, counting.columns, counting.targets, learnt)
        folder = hidden_folder(context)
        await write_hidden(context, folder, lambda: result.save(folder))


async def _share_inflation(counting: Counting, products: Products) -> dict[int, Floats]:
    """Return by party number the variance inflation that this party knows."""
    context, me = counting.context, counting.context.number(counting.context.me)
    if context.plan.correlations != "label":
        return {}
    factors = await context.compute(inflation_of, context, products) if context.is_label_party else None
    mine = await counting.driver.run(counting.party.share_inflation(factors), context.plan.opening_step())
    return {me: mine} if factors is None else factors


async def _make_party(
    context: StatisticsContext, columns: OwnColumns, targets: OwnTargets | None, numbers: FeatureView | None
) -> StatisticsParty:
    plan, own = context.plan, columns.own
    try:
        words = None if targets is None else await context.compute(encode_targets, plan, targets.labels)
    except ValueError as problem:
        table = context.description.table_of(context.me)
        unfit = UnfitLabel(f"the label of table {table!r}: {problem}", "leave out rows with large labels", table)
        raise unfit_label(context, context.description.model, unfit) from None
    return StatisticsParty(
        context.number(context.me),
        plan,
        columns.indexes,
        columns.ordered,
        masks=context.masks(context.description.helper, "statistics"),
        key=derive_subkey(own.private, "bins"),
        targets=words,
        numbers=numbers,
    )
