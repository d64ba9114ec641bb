"""How much the rows of one party's table differ from one another: the bits of a record, which exposure goes by.

It sees a sample of a party's own rows, and gives two numbers; no value, category or column name is in them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tables.encoding import Encoding
from tables.moments import Floats
from tables.table import Table

SAMPLE = 2**16  # rows: enough to see an entropy of up to 31 bits
FINENESS = 5  # fractional bits of a standardised number that count: finer ones are lost in the noise on scores
NUMBER_BITS = 8.0  # of one numeric column at most
MANY_PAIRS = 100  # of equal rows: then their number is known to a tenth or so


class RecordBits(NamedTuple):
    """What one party's columns hold of one row.

    Attributes:
        collision: The collision entropy H2: two rows are equal with a chance of 2^-H2. As far as a sample can tell.
        record: What there is to learn of a row. H2 where the sample shows it, else the columns' own entropies added up.
    """

    collision: float
    record: float


def sampled(batches: Iterator[Table], rows: int) -> Iterator[Table]:
    """Take evenly spaced rows, SAMPLE of them or a few more, from tables that have so many rows in all."""
    every = max(1, rows // SAMPLE)
    for table in batches:
        yield table if every == 1 else thinned(table, every)


def thinned(table: Table, every: int) -> Table:
    """Take every so many-th row of a table."""
    numeric = {name: values[::every] for name, values in table.numeric.items()}
    categorical = {name: values[::every] for name, values in table.categorical.items()}
    return Table(table.name, -(-table.rows // every), table.columns, numeric, categorical)


def record_bits(encoding: Encoding, batches: Iterator[Table]) -> RecordBits:
    """Measure the entropy of a sample of rows, as they are encoded before whitening.

    Raises:
        ValueError: there is no row.
    """
    plain = Encoding(columns=encoding.columns, clip=encoding.clip)
    rows = np.concatenate([cells(plain.apply(table)) for table in batches])
    pairs, equal = pairs_of(rows)
    bits, start = [], 0
    for column in plain.columns:
        stop = start + len(column.names)
        own = collision_bits(rows[:, start:stop])
        bits.append(min(own, NUMBER_BITS) if column.kind == "numeric" else own)
        start = stop
    collision = entropy(pairs, equal)
    return RecordBits(collision, collision if equal >= MANY_PAIRS else max(collision, sum(bits)))


def cells(encoded: Floats) -> NDArray[np.int64]:
    """Round encoded numbers to what counts of them."""
    return np.rint(encoded * 2.0**FINENESS).astype(np.int64)


def collision_bits(rows: NDArray[np.int64]) -> float:
    """Compute H2 of some rows, (rows, columns): minus the base-2 logarithm of how often two of them are equal."""
    return entropy(*pairs_of(rows))


def entropy(pairs: int, equal: int) -> float:
    """Compute H2 from how many pairs of rows there are, and how many of them are equal; to a quarter of a bit.

    Where none is equal it is at least what this gives.
    """
    return round(4.0 * float(np.log2(pairs / max(equal, 1)))) / 4.0 if pairs else 0.0


def pairs_of(rows: NDArray[np.int64]) -> tuple[int, int]:
    """Count the pairs of rows, and those of equal ones."""
    counts = np.unique(hashed(rows), return_counts=True)[1].astype(object)
    return len(rows) * (len(rows) - 1) // 2, int((counts * (counts - 1) // 2).sum())


def hashed(rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash each row to a word: a combination of its numbers modulo 2^64, by factors that have no pattern."""
    factors = np.random.default_rng(0).integers(0, 2**64, rows.shape[1], dtype=np.uint64)
    words: NDArray[np.uint64] = (rows.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)
    return words
