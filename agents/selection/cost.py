"""Counts beforehand what a selection may cost, and refuses one beyond known bounds.

Bounds of a party whose settings are not here hold all the same: its agent refuses the job that would pass them.
"""

from collections.abc import Iterable, Mapping

from tercet.agents.core.problems import JobProblem
from tercet.agents.policy import budget_file
from tercet.agents.policy.budget import Budget
from tercet.agents.policy.budget_file import Spending
from tercet.agents.policy.exposure import exposures
from tercet.agents.selection.selection_file import SelectionFile
from tercet.agents.selection.space import SearchSpace, trial_job
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.files.settings import Settings


def check_jobs(most: int, selection: SelectionFile, space: SearchSpace) -> None:
    """Check that a selection stays within its own bound.

    Raises:
        Invalid: it may take more jobs than `max_jobs`.
    """
    if most > selection.search.max_jobs:
        raise Invalid(
            f"the selection of {len(space.candidates)} candidates may take {most} jobs, and max_jobs under [search] is "
            f"{selection.search.max_jobs}: name fewer candidates, filter more, use fewer max_steps, or raise max_jobs"
        )


def costs(selection: SelectionFile, settings: Settings, most: int) -> dict[str, float]:
    """Count by name what so many jobs may tell of a party's table, at least."""
    total = dict[str, float]()
    for job, times in ((trial_job(selection), most - 1), (selection.job, 1)):
        for name, amount in _amounts(job, settings).items():
            total[name] = total.get(name, 0.0) + times * amount
    return {name: amount for name, amount in total.items() if amount}


def check_costs(selection: SelectionFile, parties: Iterable[Settings], most: int) -> None:
    """Check that the budgets of parties whose settings are here bear so many jobs more.

    Raises:
        Invalid: all together would tell more than one of them allows, and it names the setting; or a budget cannot be
            read.
    """
    job = selection.job
    for settings in parties if most > 0 else ():
        if settings.party not in job.data_parties or job.table_of(settings.party) not in settings.tables:
            continue
        spent = _spent(settings)
        counts = costs(selection, settings, most)
        asked = Spending(job.id, "a selection", job.table_of(settings.party), job.label, counts)
        try:
            Budget.from_spendings(spent).check_spending(asked, settings)
        except JobProblem as problem:
            raise Invalid(f"the selection may take {most} jobs more: {problem.reason}") from None


def _spent(settings: Settings) -> list[Spending]:
    path = settings.state / budget_file.FILE
    try:
        return budget_file.read(path) or []
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}; run this as the user of {settings.party}'s agent") from None


def _amounts(job: TrainingJob, settings: Settings) -> Mapping[str, float]:
    return {name: amount for stage in exposures(job, settings).values() for name, amount in stage.items()}
