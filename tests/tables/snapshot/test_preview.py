"""The first rows of a file say what a job over it would expose, and nothing that is wrong further on stops that."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.problem import TableProblem
from tercet.tables.encoding.entropy import SAMPLE
from tercet.tables.snapshot.preview import preview_table

RNG = np.random.default_rng(7)


def people(rows):
    return pa.table(
        {
            "id": [f"p{i}" for i in range(rows)],
            "label": RNG.integers(0, 2, rows),
            "age": RNG.normal(50, 12, rows).round(1),
            "region": RNG.choice(["north", "south", "east", "west"], rows),
        }
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_and_bits_are_those_of_the_encoded_table(tmp_path, suffix):
    """Neither id nor label counts."""
    path = tmp_path / f"people{suffix}"
    (csv.write_csv if suffix == ".csv" else parquet.write_table)(people(4000), path)
    found = preview_table("people", TableSettings(path=path, id="id", label="label"), with_label=False).preview
    assert found is not None
    assert found.names == ("age", "region")
    assert found.columns == 1 + 4
    assert found.has_numbers
    assert 6.0 < found.bits.collision < 10.0
    alone = TableSettings(path=path, id="id", label="label", columns=("region",))
    only = preview_table("people", alone, with_label=False).preview
    assert only is not None
    assert not only.has_numbers
    assert only.bits.collision == only.bits.record == 2.0


def test_no_more_rows_than_a_sample_are_read(tmp_path):
    """So that a long table does not hold up an answer; a mistake further on is for the job to tell."""
    path = tmp_path / "long.csv"
    csv.write_csv(people(3 * SAMPLE), path)
    with path.open("a") as file:
        file.write("broken,line\n")
    found = preview_table("long", TableSettings(path=path, id="id", label="label"), with_label=False)
    assert found.preview is not None
    assert found.rows is None


def test_a_table_without_rows_is_refused(tmp_path):
    """As by a job that reads all of it."""
    path = tmp_path / "empty.csv"
    csv.write_csv(people(0), path)
    with pytest.raises(TableProblem, match="has no rows"):
        preview_table("empty", TableSettings(path=path, id="id", label="label"), with_label=False)


def test_a_table_of_labels_alone_has_no_columns_and_no_bits(tmp_path):
    """It is a label party's; a partner's is refused."""
    path = tmp_path / "labels.csv"
    csv.write_csv(people(50).select(["id", "label"]), path)
    settings = TableSettings(path=path, id="id", label="label")
    assert preview_table("labels", settings, with_label=True).preview == ((), 0, (0.0, 0.0), False)
    with pytest.raises(TableProblem, match="only the label party"):
        preview_table("labels", settings, with_label=False)
