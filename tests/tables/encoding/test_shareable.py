"""A bare encoding encodes as the whole one does, and says nothing of how many rows lacked a value or had a rare one."""

import numpy as np
import pytest

from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.shareable import shareable_encoding


def table(rows: int = 60, seed: int = 0) -> Table:
    """Numbers with gaps, without any, all missing and constant; categories likewise."""
    rng = np.random.default_rng(seed)
    gaps = rng.random(rows) < 0.2
    numeric = {
        "full": rng.normal(5, 2, rows),
        "gaps": np.where(gaps, np.nan, rng.normal(-3, 7, rows)),
        "none": np.full(rows, np.nan),
        "constant": np.full(rows, 1234.5),
        "constant_gaps": np.where(gaps, np.nan, 678.9),
    }
    texts = rng.choice(["a", "b", "c", "rare", "rarer"], rows, p=[0.4, 0.3, 0.2, 0.06, 0.04]).astype(object)
    categorical = {
        "kind": texts,
        "kind_gaps": np.array([None if gap else text for gap, text in zip(gaps, texts, strict=True)], object),
        "no_kind": np.full(rows, None, object),
        "one_kind": np.full(rows, "only", object),
    }
    return Table("people", rows, (*numeric, *categorical), numeric, categorical)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("rare", [0, 8])
def test_it_gives_the_same_numbers_under_the_same_names(whiten, rare):
    """To the last bit, for rows of the training and for others."""
    whole = Encoding.fit(lambda: [table()], clip=4.0, rare=rare, whiten=whiten)
    stripped = Encoding.model_validate_json(shareable_encoding(whole).model_dump_json())
    assert stripped.names == whole.names
    assert stripped.column_names == whole.column_names
    assert stripped.kinds == whole.kinds
    for seed in (0, 1):
        assert stripped.apply(table(seed=seed)).tobytes() == whole.apply(table(seed=seed)).tobytes()


def test_shares_of_rows_counts_of_rare_categories_and_constants_are_not_in_it():
    """Two tables that differ in nothing else have one bare encoding."""
    whole = Encoding.fit(lambda: [table()], clip=4.0, rare=8, whiten=False)
    text = shareable_encoding(whole).model_dump_json()
    assert "1234.5" in whole.model_dump_json()
    assert "678.9" in whole.model_dump_json()
    assert "1234.5" not in text
    assert "678.9" not in text
    assert {column.missing for column in shareable_encoding(whole).columns} == {0.0, 0.5}
    assert {getattr(column, "rare", 0) for column in whole.columns} - {0, 1}
    assert {getattr(column, "rare", 0) for column in shareable_encoding(whole).columns} == {0, 1}
    assert shareable_encoding(shareable_encoding(whole)) == shareable_encoding(whole)
