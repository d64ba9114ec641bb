"""Counts by bin are those of the rows, whichever way they come in, and new rows are compared bin by bin."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tercet.agents.evaluation.stability import stability_index
from tercet.agents.models.model_part import load, save
from tercet.agents.models.population import (
    BinCounts,
    Population,
    compare_columns,
    compare_scores,
    count_columns,
    count_scores,
)
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding
from tests.agents.models.test_model_part import owned, part
from tests.agents.scorecards.made_up import table_of, woe_of

TRAINED = table_of("people", 500, 1)


def counted(*, woe: bool = False) -> dict[str, BinCounts]:
    """Of the made-up table, in two batches."""
    encoding = Encoding.fit(lambda: [TRAINED], clip=16.0, rare=20, whiten=False, woe=woe_of(TRAINED) if woe else {})
    found = count_columns(encoding, 500, 20, lambda: [rows_of(TRAINED, slice(300)), rows_of(TRAINED, slice(300, None))])
    return {one.bins.name: one for one in found}


def rows_of(table: Table, rows: slice) -> Table:
    """Some of them."""
    numbers = {name: values[rows] for name, values in table.numeric.items()}
    texts = {name: values[rows] for name, values in table.categorical.items()}
    return Table(table.name, len(range(*rows.indices(table.rows))), table.columns, numbers, texts)


def test_counts_are_those_of_the_rows() -> None:
    """Ten bins of a number, a bin of each level that is no rare one, and one of gaps."""
    found = counted()
    assert [sum(one.rows) for one in found.values()] == [500] * 5
    age, home = TRAINED.numeric["age"], Counter(TRAINED.categorical["home"])
    assert len(found["age"].rows) == 11
    assert found["age"].rows[-1] == np.isnan(age).sum()
    assert max(found["age"].rows[:-1]) - min(found["age"].rows[:-1]) <= 2
    labels = dict(zip(found["home"].bins.labels, found["home"].rows, strict=True))
    assert labels == {"lodger": home["lodger"], "owner": home["owner"], "tenant": home["tenant"],
                      "rare": home["boat"], "missing": home[None]}  # fmt: skip
    assert found["always"].rows == (500,)


def test_a_column_that_is_encoded_by_its_bins_is_counted_by_them() -> None:
    """So that the index is of what the model sees."""
    assert len(counted(woe=True)["age"].rows) == 5
    assert counted(woe=True)["age"].bins == woe_of(TRAINED)["age"].bins
    assert counted(woe=True)["income"] == counted()["income"]


def test_a_table_without_columns_or_rows_has_no_counts() -> None:
    """At a label party without columns, and while a fold is held out."""
    nothing = Table("people", 3, (), {}, {})
    empty = Encoding.fit(lambda: [nothing], clip=16.0, rare=0, whiten=False)
    assert count_columns(empty, 3, 0, lambda: [nothing]) == ()
    assert count_columns(Encoding(columns=()), 0, 0, list) == ()


def test_new_rows_are_compared_bin_by_bin_and_what_no_bin_has_is_unseen() -> None:
    """A castle was in no row of the training, and no gap in `sex`."""
    population = Population(columns=tuple(counted().values()))
    found = {one.name: one for one in compare_columns(population, [table_of("people", 300, 9, news=True)])}
    assert found["age"].verdict == "stable"
    assert found["sex"].labels == ("f", "m", "unseen")
    assert (found["sex"].before[-1], found["sex"].now[-1]) == (0, 4)
    assert all(one.psi == stability_index(one.before, one.now) for one in found.values())
    assert found["always"].psi == 0
    older = table_of("people", 300, 9)
    moved = Table("people", 300, older.columns, {**older.numeric, "age": older.numeric["age"] + 20}, older.categorical)
    assert {one.name for one in compare_columns(population, [moved]) if one.is_large} == {"age"}


def test_scores_are_compared_by_their_deciles_and_classes_by_the_likely_one() -> None:
    """As the held-out rows have them."""
    scores = np.random.default_rng(4).normal(size=400)
    known = Population(scores=count_scores(scores))
    assert known.scores is not None
    assert known.scores.rows == (40,) * 10
    for shape in ((400,), (400, 1)):
        same = compare_scores(known, scores.reshape(shape))
        assert same is not None
        assert (same.psi, same.name) == (0, "")
    other = compare_scores(known, scores + 1)
    assert other is not None
    assert other.is_large
    classes = count_scores(np.eye(4)[[0, 0, 1, 3]])
    assert classes.rows == (2, 1, 0, 1)
    of_classes = compare_scores(Population(scores=classes), np.eye(4)[[2, 2]])
    assert of_classes is not None
    assert of_classes.now == (0, 0, 2, 0, 0)
    assert compare_scores(Population(), scores) is None


def test_counts_travel_with_the_part_and_an_older_part_has_none(tmp_path: Path) -> None:
    """To the last digit; a count for each bin, or it is no part."""
    population = Population(columns=tuple(counted(woe=True).values()), scores=count_scores(np.arange(50.0)))
    save(tmp_path, part(population=population), owned())
    assert load(tmp_path)[0].population == population
    assert part().population is None
    assert "population" not in part().model_dump_json()
    with pytest.raises(ValueError, match="not a count for each bin"):
        BinCounts(bins=counted()["age"].bins, rows=(1, 2))
