"""Frames of any library become the same tables, and what is no frame is refused by name."""

from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import tercet
from tercet.agents.api.frames import find_label, table_of, unused_name

COLUMNS: dict[str, Any] = {"customer": ["a", "b", "c"], "limit": [1.5, None, 3.0], "kind": ["x", "y", "x"]}


@pytest.mark.parametrize("frame", [COLUMNS, pa.table(COLUMNS), pl.DataFrame(COLUMNS), pd.DataFrame(COLUMNS)], ids=type)
def test_every_library_gives_the_same_table(frame: object) -> None:
    """By Arrow's C stream alone: nothing of any of them is imported."""
    found = table_of("frame", frame)
    assert found.column_names == [*COLUMNS]
    assert [found.column(name).to_pylist() for name in COLUMNS] == [*COLUMNS.values()]


@pytest.mark.parametrize("wanted", [True, False])
def test_the_index_of_pandas_is_no_column_unless_it_is_the_id(wanted: bool) -> None:
    """A frame whose rows were chosen has one, as in every fold of a search."""
    chosen = pd.DataFrame(COLUMNS).iloc[[2, 0]]
    assert table_of("frame", chosen).column_names == [*COLUMNS]
    indexed = pd.DataFrame(COLUMNS).set_index("customer")
    names = table_of("frame", indexed, ("customer",) if wanted else ()).column_names
    assert ("customer" in names) == wanted
    assert {"limit", "kind"} <= {*names}


def test_a_frame_of_another_machine_is_not_changed() -> None:
    frame = pd.DataFrame(COLUMNS)
    before = frame.copy(deep=True)
    table_of("frame", frame)
    pd.testing.assert_frame_equal(frame, before)


def test_texts_as_views_and_columns_without_values_can_be_stored() -> None:
    table = pa.table({"text": pa.array(["a", None], pa.string_view()), "none": pa.array([None, None], pa.null())})
    assert [str(kind) for kind in table_of("frame", table).schema.types] == ["large_string", "double"]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (5, "int is no data frame"),
        ([[1.0]], "list is no data frame"),
        ({"a": [1, "secret"]}, "no type for a column"),
        ({"a": [1], "b": [1, 2]}, "no type for a column"),
        (pa.table([[1], [2]], names=["a", "a"]), "'a' is there more than once"),
    ],
)
def test_what_is_no_frame_is_refused(frame: object, said: str) -> None:
    """Without a value of it."""
    with pytest.raises(tercet.Invalid) as caught:
        table_of("frames['bank']", frame)
    assert str(caught.value).startswith("frames['bank']: ")
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


TABLES = {
    "bank": pa.table({"id": [1], "default": [0], "card.x": [0]}),
    "card": pa.table({"id": [1], "delay": [0], "x": [0]}),
}


def test_a_label_is_named_with_its_party_or_alone() -> None:
    assert find_label(TABLES, "bank.default") == ("bank", "default")
    assert find_label(TABLES, "default") == ("bank", "default")
    assert find_label(TABLES, "delay") == ("card", "delay")


@pytest.mark.parametrize(
    ("label", "said"), [("id", "of bank and of card"), ("card.x", "of bank and of card"), ("limit", "no party has")]
)
def test_a_label_that_could_be_two_is_none(label: str, said: str) -> None:
    with pytest.raises(tercet.Invalid, match=said):
        find_label(TABLES, label)


def test_a_column_of_ours_has_a_name_of_its_own() -> None:
    assert unused_name("row", TABLES) == "row"
    assert unused_name("id", TABLES) == "id_"
