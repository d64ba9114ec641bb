"""Plans a statistics job: shapes, batches, ring, and what is opened.

It holds public numbers only; every party makes it from the job's terms.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.plan.schedule import Step, batch_sizes

Correlations = Literal["none", "pairs", "label"]

DEFAULT_LEAST = 20  # rows of each class, for a cell to be opened
MOST_ROWS = 2**31
MESSAGE_WORDS = 2**19  # of masked bins of a batch, or of tables of a check: 4 MiB
MOST_BATCH = 2**14
LEAST_TABLE = 64  # bits: one word
MOMENTS = 2  # targets of counts and amounts: y and y^2


@dataclass(frozen=True, slots=True)
class StatisticsPlan:
    """Holds the agreed numbers of a statistics job.

    A *cell* is one bin of one column. Cells of a party are numbered through all its columns.

    Attributes:
        rows: Common rows that are counted.
        label: Index of the label party.
        bins: For each party the number of bins of each of its columns.
        classes: Classes of the label, 2 or more; 0 of a count or an amount.
        numbers: For each party the columns that are correlated, X; without them nothing is.
        target_bits: Fractional bits of a count or an amount; of its square twice as many.
        fx: Fractional bits of X.
        least: Rows of each class that a cell must have to be opened; of a count or an amount, rows.
        woe: Whether each party receives the sums of its own opened cells, hence its WOE.
        correlations: Who receives them: nobody, the two owners of each pair, or the label party.
        message_words: Words of a message of the pass or of the check, about.
        batch: Rows of a message of the pass.

    Raises:
        ValueError: numbers that do not go together, or sums that could wrap.
    """

    rows: int
    label: int
    bins: tuple[tuple[int, ...], ...]
    classes: int = 2
    numbers: tuple[int, ...] = ()
    target_bits: int = 0
    fx: int = 16
    least: int = DEFAULT_LEAST
    woe: bool = False
    correlations: Correlations = "none"
    message_words: int = MESSAGE_WORDS
    batch: int = field(init=False)

    def __post_init__(self) -> None:
        """Check the numbers, and choose the rows of a batch."""
        parties = len(self.bins)
        checks = {
            "at least two parties": parties >= 2,
            "a label party among them": 0 <= self.label < parties,
            "1 to 2^31 rows": 1 <= self.rows < MOST_ROWS,
            "columns of at least one bin": all(count >= 1 for columns in self.bins for count in columns),
            "two classes or more, or none": self.classes == 0 or self.classes >= 2,
            "a number of correlated columns for each party": len(self.numbers) in (0, parties),
            "a minimum of 1 or more": self.least >= 1,
            "messages of a word or more": self.message_words >= 1,
            "sums of products that do not wrap": self.rows.bit_length() + 2 * self.fx <= 62,
        }
        wrong = [what for what, holds in checks.items() if not holds]
        if wrong:
            raise ValueError(f"a statistics job needs {', '.join(wrong)}")
        object.__setattr__(self, "batch", int(np.clip(self.message_words // self._width, 1, MOST_BATCH)))

    # --- who has what

    @property
    def partners(self) -> tuple[int, ...]:
        """All parties but the label party."""
        return tuple(j for j in range(len(self.bins)) if j != self.label)

    def cells(self, j: int) -> int:
        """Count the cells of a party."""
        return sum(self.bins[j])

    def columns(self, j: int) -> list[slice]:
        """Return where the cells of each column of a party are."""
        return [slice(*edge) for edge in pairwise([0, *np.cumsum(self.bins[j]).tolist()])]

    @property
    def correlated(self) -> tuple[int, ...]:
        """For each party the columns that are correlated; all 0 where nobody receives any."""
        return self.numbers if self.numbers and self.correlations != "none" else (0,) * len(self.bins)

    @property
    def correlates(self) -> bool:
        """Tell whether there are columns to correlate that somebody receives."""
        return any(self.correlated)

    def pairs(self) -> list[tuple[int, int]]:
        """Return the pairs i < j of parties whose columns are correlated."""
        has = [i for i, count in enumerate(self.correlated) if count]
        return [(i, j) for i in has for j in has if i < j]

    # --- the ring

    @property
    def targets(self) -> int:
        """Columns of the label party's targets: classes but the first, or y and y^2."""
        return self.classes - 1 if self.classes else MOMENTS

    @property
    def word_bits(self) -> int:
        """Bits of a word of the ring in which sums by bin are shared: counts need 32."""
        return 32 if self.classes else 64

    def reduce(self, words: Words) -> Words:
        """Reduce words to that ring."""
        return words & np.uint64(2**self.word_bits - 1)

    def masked_words(self, j: int) -> int:
        """Count the words that a row's masked bins of party j take.

        Two cells share one in a ring of 32 bits.
        """
        return -(-self.cells(j) * self.word_bits // 64)

    @property
    def _width(self) -> int:
        """The most words of one row in a message."""
        return max(1, *(self.masked_words(j) for j in self.partners), *self.numbers)

    @property
    def largest_message(self) -> int:
        """The most words of one message.

        It has masked rows of a batch, truth tables of a step, or dealt sums.
        """
        cells, numbers = (max(counts) for counts in ([*map(self.cells, self.partners)], self.correlated))
        tables = max((step.stop - step.start for step in self.check_steps()), default=0) * self.tests * self.table // 64
        return max(min(self.batch, self.rows) * self._width, tables, cells * self.targets, numbers**2)

    # --- steps

    def steps(self) -> Iterator[Step]:
        """Yield the batches of the pass; rows come in the common order."""
        yield from _steps(batch_sizes(self.rows, self.batch))

    @property
    def last(self) -> int:
        """The index of the last batch, which the helper's dealt words go with."""
        return len(batch_sizes(self.rows, self.batch)) - 1

    @property
    def tests(self) -> int:
        """Numbers of rows of a cell that are compared with the minimum: one for each class."""
        return self.classes

    @property
    def table(self) -> int:
        """Entries of a dealt truth table, M: a power of two above the number of rows."""
        return max(LEAST_TABLE, 1 << self.rows.bit_length())

    def check_steps(self) -> Iterator[Step]:
        """Yield the steps of the check; start and stop are cells of every partner that has as many.

        There is none for a count or an amount.
        """
        cells = max((self.cells(j) for j in self.partners), default=0) if self.tests else 0
        size = max(1, self.message_words * 64 // (self.table * max(1, self.tests)))
        yield from _steps([min(size, cells - start) for start in range(0, cells, size)])

    def checked(self, j: int, step: Step) -> int:
        """Count the cells of a partner that a step of the check is about."""
        return max(0, min(step.stop, self.cells(j)) - step.start)

    @property
    def turns(self) -> int:
        """Rounds of the check in which masked bits are opened, one or more."""
        return max(1, (self.tests - 1).bit_length())

    def opening_step(self) -> Step:
        """Return the one step in which cells and correlations are opened."""
        return next(_steps([self.rows]))


def _steps(sizes: list[int]) -> Iterator[Step]:
    start = 0
    for index, size in enumerate(sizes):
        yield Step(index, 0, index, start, start + size, scale=1.0, alpha=1.0, after=1.0)
        start += size
