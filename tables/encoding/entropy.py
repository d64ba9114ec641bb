"""Measures the bits of a record: how much one party's rows differ from one another.

The exposure of a job goes by that.

It sees a sample of a party's own rows, and gives two numbers; no value, category or column name is in them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tercet.tables.core.moments import Floats
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding

SAMPLE = 2**16  # rows: enough to see an entropy of up to 31 bits
FINENESS = 5  # fractional bits of a standardised number that count: finer ones are lost in the noise on scores
NUMBER_BITS = 8.0  # of one numeric column at most
FEW_SINGLE = 0.1  # of the rows without an equal one: then a sample shows nearly all records that there are


class RecordBits(NamedTuple):
    """Holds the bits that one party's columns hold of one row.

    Attributes:
        collision: The collision entropy H2: two rows are equal with a chance of 2^-H2. As far as a sample can tell.
        record: What there is to learn of a row: Shannon's entropy. Where a sample cannot show that of whole records,
            since most of them are there once, the columns' own are added up.
    """

    collision: float
    record: float


def sample_rows(batches: Iterator[Table], rows: int) -> Iterator[Table]:
    """Take evenly spaced rows, SAMPLE of them or a few more.

    The tables have `rows` rows in all.
    """
    every = max(1, rows // SAMPLE)
    for table in batches:
        yield table if every == 1 else thin_table(table, every)


def thin_table(table: Table, every: int) -> Table:
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
    rows = np.concatenate([round_cells(plain.apply(table)) for table in batches])
    counts, bits, start = count_rows(rows), 0.0, 0
    for column in plain.columns:
        stop = start + len(column.names)
        own = shannon_entropy(count_rows(rows[:, start:stop]))
        bits += min(own, NUMBER_BITS) if column.kind == "numeric" else own
        start = stop
    whole = shannon_entropy(counts)
    shown = np.count_nonzero(counts == 1) < FEW_SINGLE * len(rows)
    return RecordBits(collision_bits(rows), round_to_quarter(whole if shown else max(whole, bits)))


def round_cells(encoded: Floats) -> NDArray[np.int64]:
    """Round encoded numbers to what counts of them."""
    return np.rint(encoded * 2.0**FINENESS).astype(np.int64)


def collision_bits(rows: NDArray[np.int64]) -> float:
    """Compute H2 of rows, (rows, columns).

    It is minus the base-2 logarithm of the part of their pairs that are equal.

    To a quarter of a bit. Where none is equal it is at least what this gives.
    """
    counts = count_rows(rows).astype(np.float64)
    pairs, equal = len(rows) * (len(rows) - 1) / 2.0, float((counts * (counts - 1.0)).sum()) / 2.0
    return round_to_quarter(float(np.log2(pairs / max(equal, 1.0)))) if pairs else 0.0


def shannon_entropy(counts: NDArray[np.int64]) -> float:
    """Compute Shannon's entropy of records from how often each was seen."""
    parts = counts / counts.sum()
    return float(-(parts * np.log2(parts)).sum())


def round_to_quarter(bits: float) -> float:
    """Round to a quarter of a bit."""
    return round(4.0 * bits) / 4.0


def count_rows(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count how often each different row is there."""
    counts: NDArray[np.int64] = np.unique(hash_rows(rows), return_counts=True)[1]
    return counts


def hash_rows(rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash each row to a word.

    It combines the row's numbers modulo 2^64, by factors that have no pattern.
    """
    factors = np.random.default_rng(0).integers(0, 2**64, rows.shape[1], dtype=np.uint64)
    words: NDArray[np.uint64] = (rows.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)
    return words
