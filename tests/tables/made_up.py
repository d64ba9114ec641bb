"""Tables made up for tests of encodings, and ways to split them into batches; nothing here reads a file."""

import itertools

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from tercet.tables.core.spelling import spell
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SPECIAL = st.sampled_from(["missing", "rare", '"missing"', "b=c", "é"])
CHARACTERS = [chr(code) for code in (*range(0x250), 0x3B1, 0x2028, 0x4E00, 0xFF11, 0x1F600)]
SPELLING = spell(pa.array([*CHARACTERS, "ab", "aB", "01", "=a"], pa.large_string())).drop_null().unique()
TEXT = SPECIAL | st.sampled_from(SPELLING.to_pylist())  # as categories are spelt


def table(numeric=None, categorical=None, columns=None) -> Table:
    """A table of these columns; None or NaN is missing."""
    numeric = {name: np.array(values, dtype=np.float64) for name, values in (numeric or {}).items()}
    categorical = {name: objects(values) for name, values in (categorical or {}).items()}
    rows = len(next(iter((numeric | categorical).values())))
    order = tuple(columns or [*numeric, *categorical])
    return Table(name="customers", rows=rows, columns=order, numeric=numeric, categorical=categorical)


def objects(values):
    """An array of texts and None, one for each value."""
    array = np.empty(len(values), dtype=np.object_)
    array[:] = list(values)
    return array


def rows_of(whole: Table, rows) -> Table:
    """Some rows of a table: a slice, a mask or an index."""
    return table(
        {name: values[rows] for name, values in whole.numeric.items()},
        {name: values[rows] for name, values in whole.categorical.items()},
        whole.columns,
    )


def split(whole: Table, cuts) -> list[Table]:
    """The table in batches that begin at these rows as well; some may be empty."""
    edges = [0, *sorted(min(cut, whole.rows) for cut in cuts), whole.rows]
    return [rows_of(whole, slice(start, stop)) for start, stop in itertools.pairwise(edges)]


def fit(*batches: Table, clip=16.0, rare=0, whiten=False) -> Encoding:
    """The encoding of all their rows."""
    return Encoding.fit(lambda: iter(batches), clip=clip, rare=rare, whiten=whiten)


def loaded(encoding: Encoding) -> Encoding:
    """What a stored encoding is when it is read again."""
    return Encoding.model_validate_json(encoding.model_dump_json())


CUTS = st.lists(st.integers(0, 12), max_size=4)


@st.composite
def tables(draw, numbers=FINITE) -> Table:
    """Any table: one to twelve rows, up to three columns of each kind, mixed, some values missing."""
    rows = draw(st.integers(1, 12))

    def columns(names, values):
        chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=3))
        return {name: draw(st.lists(values, min_size=rows, max_size=rows)) for name in chosen}

    numeric = columns(["a", "a=missing", '"a"'], numbers | st.just(np.nan))
    categorical = columns(["x", "a=b", "z"], TEXT | st.none())
    if not numeric and not categorical:
        numeric = {"a": [1.0] * rows}
    return table(numeric, categorical, draw(st.permutations([*numeric, *categorical])))


def ordinary(rows=2000, seed=1) -> Table:
    """A table like many: correlated numbers, categories of all frequencies, some of each missing."""
    generator = np.random.default_rng(seed)
    common = generator.normal(size=rows)
    numeric = {
        "age": 40 + 12 * common + 5 * generator.normal(size=rows),
        "limit": np.exp(9 + common / 2),
        "debt": np.where(generator.random(rows) < 0.2, np.nan, 100 * generator.normal(size=rows)),
    }
    jobs = generator.choice(
        ["none", "rare", "missing", "baker", "cooper", "smith"], rows, p=[0.5, 0.3, 0.17, 0.02, 0.005, 0.005]
    )
    regions = objects(generator.choice(["north", "south"], rows).tolist())
    regions[generator.random(rows) < 0.1] = None
    return table(numeric, {"job": jobs.tolist(), "region": regions}, ["age", "job", "limit", "region", "debt"])
