"""Leaves columns out by information value, correlation and variance inflation.

It does so before anything is trained. A column of which nothing is known stays.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

import numpy as np

from tercet.agents.selection.measures import Measures
from tercet.agents.selection.selection_file import ColumnFilter
from tercet.agents.selection.space import Candidate, Columns
from tercet.mpc.statistics.measures import inflation_factors
from tercet.schemas.files.invalid import Invalid

MISSING: Final = {  # by limit: what a statistics job must tell for it
    "min_iv": "no IV of any candidate: leave min_iv out, or run one over a label of classes",
    "max_correlation": "no correlation of two candidates: leave max_correlation out, or run one with "
    'correlations = "label" or "pairs" under [statistics]',
    "max_vif": 'no VIF of any candidate: leave max_vif out, or run one with correlations = "label" under [statistics]',
}


class LeftOut(NamedTuple):
    """Names a column that is left out, or that no filter judges, and says why."""

    column: Candidate
    why: str


Leave = Callable[[Candidate, str], None]


def filter_columns(
    candidates: Sequence[Candidate], always: Columns, measures: Measures, limits: ColumnFilter
) -> tuple[list[Candidate], list[LeftOut]]:
    """Filter candidates; those of `always` stay.

    Returns the rest, the largest information value first, and what is left out.
    """
    rest, gone = list(candidates), list[LeftOut]()

    def leave(column: Candidate, why: str) -> None:
        rest.remove(column)
        gone.append(LeftOut(column, why))

    if limits.min_iv is not None:
        for one in [one for one in rest if one not in always and measures.iv.get(one, np.inf) < limits.min_iv]:
            leave(one, f"its IV is {measures.iv[one]:.4g}, below {limits.min_iv:g}")
    rest.sort(key=lambda one: -measures.iv.get(one, 0.0))
    if limits.max_correlation is not None:
        _leave_correlated(rest, always, measures, limits.max_correlation, leave)
    if limits.max_vif is not None:
        _leave_inflated(rest, always, measures, limits.max_vif, leave)
    return rest, gone


def find_unjudged(
    candidates: Sequence[Candidate], always: Columns, measures: Measures, limits: ColumnFilter
) -> list[LeftOut]:
    """List candidates that a limit does not judge, or not by all others.

    Raises:
        Invalid: the job told nothing that a limit needs.
    """
    known = {(one, other) for one, other in measures.correlations if {one, other} <= {*candidates} and one != other}
    correlated = {one for one, _ in known}
    judged: dict[str, Collection[Candidate]] = {
        "min_iv": measures.iv.keys() & {*candidates},
        "max_correlation": [one for one in correlated if all((one, other) in known for other in correlated - {one})],
        "max_vif": _factors(candidates, measures).keys(),
    }
    asked = [name for name in judged if getattr(limits, name) is not None]
    for name in asked:
        if not (correlated if name == "max_correlation" else judged[name]):
            partners = "a partner's columns have names where it writes column_names = true under [policy]"
            raise Invalid(f"[filter] {name}: {limits.statistics} told {MISSING[name]}; {partners}")
    missed = {one: [name for name in asked if one not in judged[name]] for one in candidates if one not in always}
    return [LeftOut(one, ", ".join(names)) for one, names in missed.items() if names]


def _leave_correlated(
    rest: Sequence[Candidate], always: Columns, measures: Measures, most: float, leave: Leave
) -> None:
    stay: list[Candidate] = [one for one in rest if one in always]
    for one in [one for one in rest if one not in always]:
        found = [(abs(measures.correlations.get((one, other), 0.0)), other) for other in stay]
        size, other = max(found, default=(0.0, one))
        if size > most:
            leave(one, f"its correlation with {other} is {size:.3f} in size, above {most:g}")
        else:
            stay.append(one)


def _leave_inflated(rest: Sequence[Candidate], always: Columns, measures: Measures, most: float, leave: Leave) -> None:
    while True:
        factors = _factors(rest, measures)
        free = [one for one in reversed(factors) if one not in always]  # of equal ones the lowest information value
        worst = max(free, key=factors.__getitem__, default=None)
        if worst is None or factors[worst] <= most:
            return
        leave(worst, f"its VIF is {factors[worst]:.4g}, above {most:g}")


def _factors(rest: Sequence[Candidate], measures: Measures) -> dict[Candidate, float]:
    """Compute variance inflation factors among the columns that are left.

    Where not all their correlations are known, those that the job told are taken.
    """
    correlated = {one for one, _ in measures.correlations}
    known = [one for one in rest if one in correlated]
    pairs = [(one, other) for one in known for other in known if one != other]
    if len(known) < 2 or any(pair not in measures.correlations for pair in pairs):
        return {one: measures.vif[one] for one in rest if one in measures.vif}
    matrix = np.array([[measures.correlations.get((one, other), 1.0) for other in known] for one in known])
    return dict(zip(known, inflation_factors(matrix, measures.fx).tolist(), strict=True))
