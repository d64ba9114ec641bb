"""Reads what a statistics job has told this party of the candidates: IV, correlations, VIF.

It reads the label party's file alone, and knows partners' columns by the names that their settings allow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tercet.agents.selection.space import Candidate
from tercet.agents.statistics.own_columns import MOST_BITS, number_bits
from tercet.agents.statistics.result import CorrelationMap, read_statistics


@dataclass(frozen=True, slots=True)
class Measures:
    """Holds what is known of columns; what a job did not tell is not there.

    Attributes:
        iv: by column.
        vif: by column.
        correlations: by two columns, both ways; of one and itself where it is known, 1 but for rounding.
        fx: fractional bits of the columns that were correlated.
    """

    iv: Mapping[Candidate, float] = field(default_factory=dict)
    vif: Mapping[Candidate, float] = field(default_factory=dict)
    correlations: Mapping[tuple[Candidate, Candidate], float] = field(default_factory=dict)
    fx: int = MOST_BITS


def read_measures(path: Path) -> Measures:
    """Read the file of a statistics job.

    Raises:
        Invalid: there is none, or it is damaged.
    """
    found = read_statistics(path)
    columns = [(Candidate(found.party, one.name), one.power, one.vif) for one in found.own]
    columns += [(Candidate(one.party, one.name), one.power, one.vif) for one in found.partners if one.name is not None]
    return Measures(
        {column: power.iv for column, power, _ in columns if power is not None and power.iv is not None},
        {column: vif for column, _, vif in columns if vif is not None},
        {} if found.correlations is None else _correlations(found.correlations),
        number_bits(found.rows),
    )


def _correlations(found: CorrelationMap) -> dict[tuple[Candidate, Candidate], float]:
    names = [None if axis.name is None else Candidate(axis.party, axis.name) for axis in found.columns]
    return {
        (one, other): value
        for one, row in zip(names, found.matrix, strict=True)
        for other, value in zip(names, row, strict=True)
        if one is not None and other is not None and value is not None
    }
