"""A snapshot that is kept is opened again as it was, or not at all: whole, of the same run and settings, unchanged."""

import base64
import errno
import os
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tercet.schemas.files.settings import TableSettings
from tercet.tables.snapshot.columns import ChosenColumns, FeatureColumn
from tercet.tables.snapshot.snapshot import FORMAT, Snapshot, checksum_of, take_snapshot
from tercet.tables.snapshot.stored_snapshot import SnapshotFolder, SnapshotProblem

RUN, OTHER = bytes(range(32)), bytes(range(1, 33))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.none()
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5) | st.none()
LABELS = {
    "numeric": st.floats(allow_nan=False, allow_infinity=False),
    "categorical": st.sampled_from(["x", "é\n", "7"]),
}


@st.composite
def asked(draw):
    """A table of one to nine rows, and how it is read: columns of both kinds, with a label of either kind or none."""
    rows = draw(st.integers(1, 9))

    def column(values):
        return draw(st.lists(values, min_size=rows, max_size=rows))

    columns = {"id": [f"{draw(TEXTS)} {row}" for row in range(rows)]}
    columns |= {name: pa.array(column(NUMBERS), pa.float64()) for name in draw(st.sampled_from(["a", "ab", "abc"]))}
    columns |= {name: pa.array(column(TEXTS), pa.string()) for name in draw(st.sampled_from(["", "x", "xy"]))}
    kind = draw(st.sampled_from([None, "numeric", "categorical"]))
    if kind is not None:
        columns["y"] = column(LABELS[kind])
    how = {"with_label": kind is not None, "label_kind": kind or "numeric"}
    if draw(st.booleans()):
        how["expected"] = draw(st.sampled_from([{"a": "numeric"}, {}]))
    how["own_ids"] = draw(st.booleans())
    return pa.table(columns), how


def obtained(folder: Path, table: pa.Table, how, group: int = 4) -> Snapshot:
    """A snapshot of such a table."""
    parquet.write_table(table, folder / "t.parquet", row_group_size=group)
    texts, label = tuple({"x"} & set(table.column_names)), "y" if "y" in table.column_names else None
    supplied = TableSettings(path=folder / "t.parquet", id="id", label=label, categorical=texts)
    return take_snapshot("customers", supplied, folder / "work", **how)


def place(folder: Path, belongs: bytes = RUN) -> SnapshotFolder:
    """Where tests keep one."""
    return SnapshotFolder(folder / "job" / "table", belongs)


def stored(folder: Path, table: pa.Table | None = None) -> bytes:
    """Take, keep and close a snapshot; its digest."""
    table = pa.table({"id": ["1", "2"], "a": [0.5, None], "x": ["é", None], "y": [0, 1]}) if table is None else table
    with obtained(folder, table, {"with_label": True, "label_kind": "categorical"}) as snapshot:
        place(folder).keep(snapshot)
        return snapshot.digest()


def files(folder: Path) -> list[Path]:
    """The three files that are there: features, what is said of them, rows."""
    return sorted((folder / "job" / "table").iterdir())


def reopened(folder: Path) -> Snapshot:
    """It is there."""
    snapshot = place(folder).reopen("customers")
    assert snapshot is not None
    return snapshot


# --- what is there again


@settings(max_examples=30, deadline=None)
@given(asked(), st.integers(1, 9))
def test_a_kept_snapshot_is_opened_again_as_it_was(tmp_path_factory, made, group):
    """Whatever is in it, though its source is gone, as often as one likes."""
    folder, (table, how) = tmp_path_factory.mktemp("any"), made
    with obtained(folder, table, how, group) as snapshot:
        before = snapshot.digest()
        place(folder).keep(snapshot)
        assert list((folder / "work").iterdir()) == []
        (folder / "t.parquet").unlink()
        for _ in range(2):
            with reopened(folder) as again:
                assert again.digest() == snapshot.digest() == before
                assert (again.chosen, again.classes, again.rows) == (snapshot.chosen, snapshot.classes, snapshot.rows)
                assert again.ids.to_pylist() == snapshot.ids.to_pylist()
                assert again.own_ids.equals(snapshot.own_ids)
                assert (again.own_ids is again.ids) == (snapshot.own_ids is snapshot.ids)
                assert again.table.equals(snapshot.table)
                np.testing.assert_array_equal(again.label, snapshot.label)
                assert repr(again) == repr(snapshot)


def test_what_its_owner_should_know_is_kept_as_well(tmp_path):
    """A later attempt says it again."""
    stored(tmp_path, pa.table({"id": ["1", "2", "3"], "a": [4, 5, 6], "y": [0, 1, 0]}))
    with reopened(tmp_path) as again:
        (note,) = again.notes
        assert "'a' only counts the rows" in note


def test_the_digest_is_of_what_is_read_and_not_of_how_it_lies_in_memory(tmp_path):
    """Ids that are part of a longer array, say."""
    table = pa.table({"id": ["1", "22", "3"], "a": [1.0, 2.0, 3.0]})
    with obtained(tmp_path, table, {"with_label": False}) as snapshot:
        ids = pa.array(["0", "1", "22", "3", None], pa.large_string()).slice(1, 3)
        moved = Snapshot("customers", snapshot.path, snapshot.chosen, ids, None)
        assert moved.digest() == snapshot.digest()
        for others in (["1", "2", "23"], ["1", "22", "4"], ["12", "2", "3"]):
            other = Snapshot("customers", snapshot.path, snapshot.chosen, pa.array(others, pa.large_string()), None)
            assert other.digest() != snapshot.digest()


@pytest.mark.parametrize(
    ("field", "value"),
    {
        "id": "number",
        "label": "z",
        "columns": (FeatureColumn("a", "numeric", declared=True),),
        "as_trained": True,
        "unlike": ("it has another label",),
        "label_kind": "categorical",
        "positive": "1",
        "holdouts": ("day",),
    }.items(),
)
def test_the_digest_covers_every_field_of_what_was_chosen(tmp_path, field, value):
    """By fixed keys, whatever the fields are called in Python."""
    table = pa.table({"id": ["1", "2"], "a": [1.0, 2.0], "y": [0, 1]})
    with obtained(tmp_path, table, {"with_label": True}) as snapshot:
        chosen = replace(snapshot.chosen, **{field: value})
        other = Snapshot("customers", snapshot.path, chosen, snapshot.ids, snapshot.label)
        assert other.digest() != snapshot.digest()


def test_the_test_above_knows_every_field():
    """One that is added later must be hashed too."""
    assert len(fields(ChosenColumns)) == len(ChosenColumns("id", None, (), holdouts=("a",)).canonical()) == 8
    assert len(fields(FeatureColumn)) == 3


def test_it_lies_there_for_its_owner_only_and_stays_when_it_is_closed(tmp_path):
    """Until it is removed, which may be said twice; then nothing is left."""
    stored(tmp_path)
    folders = {tmp_path / "job", tmp_path / "job" / "table"}
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    assert [path.stat().st_mode & 0o777 for path in files(tmp_path)] == [0o600] * 3
    with reopened(tmp_path) as snapshot:
        (batch,) = snapshot.batches()
    assert batch.categorical["x"].tolist() == ["é", None]
    assert len(files(tmp_path)) == 3
    place(tmp_path).remove()
    place(tmp_path).remove()
    assert not (tmp_path / "job").exists()


def test_it_is_opened_wherever_its_folder_has_gone(tmp_path):
    """To another machine, say."""
    digest = stored(tmp_path)
    shutil.move(tmp_path / "job", tmp_path / "elsewhere" / "job")
    with reopened(tmp_path / "elsewhere") as snapshot:
        assert snapshot.digest() == digest


def test_features_are_read_once_when_it_is_opened(tmp_path, monkeypatch):
    """For their checksum; the digest that this is part of is not worth another time."""
    digest = stored(tmp_path)
    monkeypatch.setattr(
        "tercet.tables.snapshot.snapshot.checksum_of", pytest.fail
    )  # `tables.snapshot.stored_snapshot` has its own
    with reopened(tmp_path) as snapshot:
        assert snapshot.digest() == digest


def test_what_is_not_there_is_none(tmp_path):
    """No folder, or a folder without one."""
    assert place(tmp_path).reopen("customers") is None
    (tmp_path / "job" / "table").mkdir(parents=True)
    assert place(tmp_path).reopen("customers") is None


# --- what cannot be used


@settings(max_examples=40, deadline=None)  # of disks that are busy
@given(st.integers(0, 2), st.data())
def test_a_flipped_bit_anywhere_is_noticed(tmp_path_factory, which, data):
    """Or says the same: base64 has a few bits that do not count."""
    folder = tmp_path_factory.mktemp("any")
    digest, path = stored(folder), files(folder)[which]
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        with reopened(folder) as snapshot:
            assert snapshot.digest() == digest
            assert snapshot.label is not None
            assert (snapshot.ids.to_pylist(), snapshot.label.tolist(), snapshot.classes) == (
                ["1", "2"],
                [0, 1],
                ("0", "1"),
            )
            assert path.suffix == ".json"
    except SnapshotProblem:
        pass


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2), st.data())
def test_a_file_that_is_torn_is_noticed(tmp_path_factory, which, data):
    """Wherever it ends."""
    folder = tmp_path_factory.mktemp("any")
    stored(folder)
    path = files(folder)[which]
    os.truncate(path, data.draw(st.integers(0, path.stat().st_size - 1)))
    with pytest.raises(SnapshotProblem, match="torn"):
        place(folder).reopen("customers")


@pytest.mark.parametrize("which", [0, 2])
def test_a_file_that_is_gone_is_noticed(tmp_path, which):
    """Features or rows; what is said of them comes last and is not there before."""
    stored(tmp_path)
    files(tmp_path)[which].unlink()
    with pytest.raises(SnapshotProblem, match="torn"):
        place(tmp_path).reopen("customers")


def test_what_belongs_to_something_else_is_not_opened(tmp_path):
    """Whatever its files are called; and who keeps the other removes this one not."""
    stored(tmp_path)
    assert place(tmp_path, OTHER).reopen("customers") is None
    place(tmp_path, OTHER).remove()
    for path in files(tmp_path):
        path.rename(path.with_name(OTHER.hex()[:16] + path.suffix))
    with pytest.raises(SnapshotProblem, match="another run"):
        place(tmp_path, OTHER).reopen("customers")


@pytest.mark.parametrize("older", ["1", "2"])
def test_a_snapshot_of_an_older_format_is_not_opened(tmp_path, older):
    """Its digest was made in another way."""
    stored(tmp_path)
    facts = files(tmp_path)[1]
    facts.write_text(facts.read_text().replace(f'"format":"{FORMAT}"', f'"format":"{older}"'))
    with pytest.raises(SnapshotProblem, match="another version"):
        place(tmp_path).reopen("customers")


def test_files_that_fit_together_and_hold_something_else_are_not_opened(tmp_path):
    """Rows of one snapshot beside the features of another, the checksums corrected."""
    stored(tmp_path)
    _, facts, rows = files(tmp_path)
    old = rows.read_bytes()
    stored(tmp_path, pa.table({"id": ["1", "3"], "a": [0.5, None], "x": ["é", None], "y": [0, 1]}))
    rows.write_bytes(old)
    checksum = base64.urlsafe_b64encode(checksum_of(rows))
    facts.write_bytes(re.sub(rb'("rows":.*"checksum":)"[^"]*"', rb'\1"%s"' % checksum, facts.read_bytes()))
    with pytest.raises(SnapshotProblem, match="said of it was changed"):
        place(tmp_path).reopen("customers")


# --- a disk that is full


@pytest.mark.parametrize("call", range(4))
def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path, monkeypatch, call):
    """At whichever file it shows; the error is the system's own."""
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > call:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    table = pa.table({"id": ["1"], "a": [1.0]})
    snapshot = obtained(tmp_path, table, {"with_label": False})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        place(tmp_path).keep(snapshot)
    assert len(calls) == call + 1
    assert not (tmp_path / "job").exists()
    snapshot.close()
