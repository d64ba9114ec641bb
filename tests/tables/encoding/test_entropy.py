"""The bits of a record count how much rows differ, whatever the columns that hold it look like."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.tables.encoding.entropy import SAMPLE, collision_bits, record_bits, round_cells, sample_rows
from tests.tables.made_up import fit, table

RNG = np.random.default_rng(4)


def bits_of(one):
    """What a table's rows hold, encoded as a job encodes them."""
    return record_bits(fit(one), iter([one]))


def choices(levels, rows=4000):
    return RNG.choice([f"level {i}" for i in range(levels)], rows).astype(object)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 30), st.integers(0, 2**32))
def test_collision_entropy_is_that_of_the_counts_of_equal_rows(counts, columns, seed):
    """By definition, to a quarter of a bit; however wide rows are, and however regular the numbers in them."""
    words = np.random.default_rng(seed).integers(0, 3, (len(counts), columns)) << 10
    rows = np.repeat(words, counts, axis=0)
    numbers = Counter(map(tuple, rows.tolist())).values()
    equal, pairs = sum(n * (n - 1) // 2 for n in numbers), len(rows) * (len(rows) - 1) // 2
    assert collision_bits(rows) == (round(4 * np.log2(pairs / max(equal, 1))) / 4 if pairs else 0.0)


def test_constant_and_repeated_columns_hold_nothing_more():
    """The first version counted columns: this table had eleven, and its records are of two kinds."""
    answer = choices(2)
    narrow = table({f"none {i}": np.zeros(4000) for i in range(5)},
                   {"answer": answer, **{f"again {i}": answer for i in range(5)}})  # fmt: skip
    found = bits_of(narrow)
    assert found.collision == found.record == 1.0


def test_three_variables_of_ten_levels_hold_ten_bits():
    """As many as their product of levels, whatever the number of encoded columns is."""
    found = bits_of(table({}, {name: choices(10, 20_000) for name in "abc"}))
    assert found.collision == found.record == 10.0


def test_numbers_hold_as_much_as_noise_leaves_of_them():
    """Rows of numbers are all different; what there is to learn of them is bounded for each column."""
    found = bits_of(table({name: RNG.normal(size=4000) for name in "abcd"}, {}))
    assert found.collision > 20.0
    assert 4 * 6.0 < found.record <= 4 * 8.0


def test_a_number_that_is_nearly_always_the_same_holds_little():
    """A bill of zero in most rows."""
    rare = np.where(RNG.random(4000) < 0.01, RNG.normal(size=4000), 0.0)
    assert bits_of(table({"rare": rare}, {})).record < 0.5


def test_a_sample_of_a_long_table_tells_the_same():
    """Evenly spaced, so that an order of the rows does no harm."""
    long = table({}, {"a": np.sort(choices(8, 3 * SAMPLE)), "b": choices(4, 3 * SAMPLE)})
    parts = list(sample_rows(iter([long]), long.rows))
    assert sum(part.rows for part in parts) == SAMPLE
    assert record_bits(fit(long), iter(parts)).collision == pytest.approx(5.0, abs=0.25)


def test_what_is_finer_than_noise_is_no_difference():
    """Two numbers in one cell count as equal."""
    assert collision_bits(round_cells(np.full((50, 1), 0.5) + RNG.uniform(-0.01, 0.01, (50, 1)))) == 0.0
