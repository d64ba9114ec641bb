"""No spreadsheet runs an id or a class of scores.csv, and each can be had back; Parquet has them as they are."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from tercet.agents.models.scores_file import scored_columns, without_formulas, write_scores

FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\uff1d1",
    "\uff0da",
    "'=1",
    "--1",
]
HARMLESS = ["", "c-1", "a=b", "'tis", "-5", "+491701234567", "-1.5e-3", "0x=", "José", "x@example.com", "17"]
SIGNS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"


def cells(path: Path) -> list[list[str]]:
    """As a reader that knows nothing of Tercet finds them."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()])
def test_a_text_that_a_spreadsheet_would_run_begins_with_a_quote(tmp_path: Path, type_: pa.DataType) -> None:
    """The way OWASP names; all others stay, negative numbers among them."""
    ids = pa.chunked_array([pa.array(FORMULAS, type_), pa.array(HARMLESS, type_)])
    score = pa.array(np.linspace(-1, 1, len(ids)))
    header, *rows = cells(write_scores(tmp_path / "a", "csv", ids, {"score": score}))
    assert header == ["id", "score"]
    assert [row[0] for row in rows] == ["'" + text for text in FORMULAS] + HARMLESS
    assert [float(row[1]) for row in rows] == pytest.approx(score.to_pylist())


def test_classes_are_texts_of_other_people_too(tmp_path: Path) -> None:
    """As values, and as parts of the names of columns."""
    columns = scored_columns("softmax", np.eye(3), ["=1+1", "-1", "@b"])
    header, *rows = cells(write_scores(tmp_path / "a", "csv", pa.array(["a", "b", "c"]), columns))
    assert header == ["id", "class", "probability_=1+1", "probability_-1", "probability_@b"]
    assert [row[1] for row in rows] == ["'=1+1", "-1", "'@b"]


def test_parquet_has_the_ids_themselves(tmp_path: Path) -> None:
    """No spreadsheet runs what is in it."""
    path = write_scores(tmp_path / "a", "parquet", pa.array(FORMULAS), {"score": pa.array(range(len(FORMULAS)))})
    assert parquet.read_table(path)["id"].to_pylist() == FORMULAS


@pytest.mark.parametrize("type_", [pa.int64(), pa.float64(), pa.decimal128(20, 0)])
def test_ids_that_are_numbers_keep_their_type_in_parquet_and_are_digits_in_csv(tmp_path: Path, type_: Any) -> None:
    """And not 1.23e+11, which a reader would take for another id."""
    ids = pa.array([7, 123_456_789_012], type_)
    scores = {"score": pa.array([0.5, 1.5])}
    assert parquet.read_table(write_scores(tmp_path / "a", "parquet", ids, scores))["id"].type == type_
    _, *rows = cells(write_scores(tmp_path / "a", "csv", ids, scores))
    assert [row[0] for row in rows] == ["7", "123456789012"]


@given(st.lists(st.text(st.sampled_from(SIGNS + " 'a1.e") | st.characters(exclude_categories=["Cs"])), unique=True))
def test_no_two_ids_become_one_and_none_is_a_formula(texts: list[str]) -> None:
    """One quote taken off where a formula follows gives the id."""
    defused = without_formulas(pa.table({"id": pa.array(texts, pa.string())}))["id"].to_pylist()
    assert len(set(defused)) == len(texts)
    for before, after in zip(texts, defused, strict=True):
        assert after in (before, "'" + before)
        assert (before == after) == (before.lstrip(" '")[:1] not in list(SIGNS) or is_number(before))


def is_number(text: str) -> bool:
    """Whether a text is a number and nothing else."""
    try:
        float(text)
    except ValueError:
        return False
    return (
        text.isascii() and text.strip() == text and "_" not in text and text[-1] != "." and text[1].lower() not in ".in"
    )
