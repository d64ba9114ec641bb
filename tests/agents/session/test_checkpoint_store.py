"""The store of checkpoints: what is read is what was written, and anything else is told and passed over.

What is in a checkpoint is for the trainings to say; here they are arrays and plain values.
"""

import hashlib
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from structlog.testing import capture_logs

from tercet.agents.session.checkpoint_store import (
    MOST_CHECKPOINTS,
    SUFFIX,
    Checkpoint,
    CheckpointFolder,
    CheckpointProblem,
    checkpoint_folder,
    discard_checkpoints,
)
from tercet.schemas.messages.kinds import HeldCheckpoint
from tests.agents.recovering import (
    DATA,
    OFTEN,
    Recovering,
    files,
    fill_disk,
    long_job,
    parts,
    recovering,
    same_parts,
    states,
    undisturbed,
)
from tests.agents.scenes import BANK, CARD, NOTARY, job, off

BELONGS, LINEAGE = b"b" * 32, b"l" * 32


def checkpoint(steps: int = 4) -> Checkpoint:
    """One whose words tell at which step it was made."""
    words = np.arange(steps, steps + 6, dtype=np.uint64).reshape(3, 2)
    return Checkpoint(HeldCheckpoint(lineage=LINEAGE, steps=steps, over=False), {"model/share": words}, {"kept": 0})


def store(folder: Path, *steps: int) -> CheckpointFolder:
    """A job's folder with checkpoints of these steps."""
    stored = CheckpointFolder(folder / "job", BELONGS)
    for count in steps:
        stored.write(checkpoint(count))
    return stored


def held_of(folder: CheckpointFolder) -> tuple[list[int], list[str]]:
    """The steps of what can be gone on from, and why the rest cannot."""
    with capture_logs() as logs:
        held = folder.list_held()
    assert all(line["code"] == "checkpoint.unusable" for line in logs)
    return [one.steps for one in held], [line["why"] for line in logs]


def last(folder: Path) -> Path:
    """The file of the checkpoint with the most steps."""
    return max((folder / "job").glob(f"*{SUFFIX}"))


# --- what was written


@settings(max_examples=8)
@example({"v": [], "w": [2**64 - 1]}, 0, True, {"stopping": None})
@given(
    st.dictionaries(st.text(min_size=1, max_size=8), st.lists(st.integers(0, 2**64 - 1), max_size=9), max_size=4),
    st.integers(0, 10**11),
    st.booleans(),
    st.dictionaries(
        st.sampled_from(["kept", "stopping", "history"]), st.none() | st.floats(allow_nan=False), max_size=3
    ),
)
def test_what_is_read_is_what_was_written(
    arrays: dict[str, list[int]], steps: int, over: bool, facts: dict[str, Any]
) -> None:
    """Any arrays and facts, to the last bit."""
    held = HeldCheckpoint(lineage=LINEAGE, steps=steps, over=over)
    words = {name: np.array(values, np.uint64) for name, values in arrays.items()}
    with tempfile.TemporaryDirectory() as place:
        folder = CheckpointFolder(Path(place) / "job", BELONGS)
        folder.write(Checkpoint(held, words, facts))
        (found,) = folder.list_held()
        read = folder.read(found)
    assert found == read.held == held
    assert read.arrays.keys() == words.keys()
    assert all(np.array_equal(read.arrays[name], array) for name, array in words.items())
    assert {name: read.facts[name] for name in facts} == facts


def test_only_the_last_few_are_kept_the_latest_first(tmp_path: Path) -> None:
    """And after an attempt has chosen one, only that."""
    stored = store(tmp_path, 2, 4, 6, 8, 10)
    assert held_of(stored) == ([10, 8, 6][:MOST_CHECKPOINTS], [])
    (eight,) = [held for held in stored.list_held() if held.steps == 8]
    stored.keep_only(eight)
    assert held_of(stored) == ([8], [])
    stored.keep_only(None)
    assert held_of(stored) == ([], [])


def test_only_the_agents_own_user_may_read_them(tmp_path: Path) -> None:
    """They hold shares; two parties' together are the model."""
    umask = os.umask(0)
    try:
        store(tmp_path, 2)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "job").stat().st_mode) == 0o700
    assert stat.S_IMODE(last(tmp_path).stat().st_mode) == 0o600


def test_a_file_is_either_there_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up leaves what was there, and no half of anything."""
    stored = store(tmp_path, 2, 4)
    before = {path: path.read_bytes() for path in (tmp_path / "job").iterdir()}
    fill_disk(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        stored.write(checkpoint(6))
    assert {path: path.read_bytes() for path in (tmp_path / "job").iterdir()} == before


def test_a_write_that_the_machine_did_not_survive_is_no_obstacle(tmp_path: Path) -> None:
    """Its half is overwritten, and never taken for a checkpoint."""
    stored = store(tmp_path, 2)
    half = last(tmp_path).with_name(f".{last(tmp_path).name}.unfinished")
    half.write_bytes(b"half")
    assert held_of(stored) == ([2], [])
    stored.write(checkpoint(2))
    assert not half.exists()


def test_a_job_that_is_over_for_good_leaves_nothing(tmp_path: Path) -> None:
    """Whether there was something or not."""
    CheckpointFolder(checkpoint_folder(tmp_path, "job"), BELONGS).write(checkpoint())
    discard_checkpoints(tmp_path, "job")
    discard_checkpoints(tmp_path, "job")
    assert list((tmp_path / "checkpoints").iterdir()) == []


# --- what was not


@settings(max_examples=25)
@given(st.data())
def test_one_that_is_torn_anywhere_is_passed_over(data: st.DataObject) -> None:
    """Cut off after any byte, or with any byte changed: the one before it counts."""
    with tempfile.TemporaryDirectory() as place:
        stored = store(Path(place), 2, 4)
        path = last(Path(place))
        content = bytearray(path.read_bytes())
        where = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            del content[where:]
        else:
            content[where] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        steps, why = held_of(stored)
    assert steps == [2]
    assert why == ["it is torn or was changed"]


@settings(max_examples=25)
@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff" * 8)
@example((2**62).to_bytes(8, "little"))
@example((2).to_bytes(8, "little") + b"{}")
@example((2).to_bytes(8, "little") + b"[]")
@example(len(b'{"__metadata__":[]}').to_bytes(8, "little") + b'{"__metadata__":[]}')
@example((5000).to_bytes(8, "little") + b"[" * 5000)
def test_any_bytes_with_a_right_digest_are_a_checkpoint_or_passed_over(content: bytes) -> None:
    """Nothing but the documented problem comes out of it."""
    with tempfile.TemporaryDirectory() as place:
        stored = store(Path(place), 2, 4)
        last(Path(place)).write_bytes(hashlib.sha256(content).digest() + content)
        steps, why = held_of(stored)
    assert steps == [2]
    assert len(why) == 1


RIGHT = {"lineage": LINEAGE.hex(), "steps": 4, "over": False}


@pytest.mark.parametrize(
    "facts",
    [
        "no JSON",
        "null",
        "[]",
        "[" * 100_000,
        json.dumps(RIGHT | {"steps": -1}),
        json.dumps(RIGHT | {"steps": "4"}),
        json.dumps(RIGHT | {"steps": 10**30}),
        json.dumps(RIGHT | {"lineage": "zz"}),
        json.dumps(RIGHT | {"lineage": "00"}),
        json.dumps(RIGHT | {"over": 1}),
        json.dumps({"steps": 4, "over": False}),
    ],
)
def test_facts_that_are_none_are_passed_over(tmp_path: Path, facts: str) -> None:
    """However wrong they are."""
    stored = store(tmp_path, 2, 4)
    content = save({"a": np.zeros(2)}, {"format": "1", "belongs": BELONGS.hex(), "facts": facts})
    last(tmp_path).write_bytes(hashlib.sha256(content).digest() + content)
    assert held_of(stored) == ([2], ["it does not hold what a checkpoint holds"])


def test_one_of_another_run_or_of_other_rows_is_passed_over(tmp_path: Path) -> None:
    """Whatever lies in the folder, under whatever name."""
    stored = store(tmp_path, 2, 4)
    other = CheckpointFolder(tmp_path / "other", b"o" * 32)
    other.write(checkpoint(8))
    for path in (tmp_path / "other").iterdir():
        shutil.copy(path, tmp_path / "job")
    steps, why = held_of(stored)
    assert steps == [4, 2]
    assert why == ["it is of another run, of other rows or of another version of tercet"]
    with pytest.raises(CheckpointProblem, match="another run"):
        stored.read(checkpoint(8).held)


@pytest.mark.parametrize("steps", [2, 9])
def test_one_under_anothers_name_is_passed_over(tmp_path: Path, steps: int) -> None:
    """Else one history's shares could be taken for another's."""
    stored = store(tmp_path, 2, 4)
    moved = tmp_path / "job" / last(tmp_path).name.replace(f"{4:012d}", f"{steps:012d}")
    last(tmp_path).rename(moved)
    found, why = held_of(stored)
    assert found == [2] * (steps != 2)
    assert why == ["it stands under the name of another one"]
    with pytest.raises(CheckpointProblem, match="another one"):
        stored.read(checkpoint(steps).held)


def test_a_folder_in_its_place_is_passed_over(tmp_path: Path) -> None:
    """What cannot be read is told in the system's own words."""
    stored = store(tmp_path, 2, 4)
    path = last(tmp_path)
    path.unlink()
    path.mkdir()
    steps, why = held_of(stored)
    assert steps == [2]
    assert why == ["Is a directory"]


# --- in a job


async def test_a_checkpoint_that_is_torn_costs_the_steps_since_the_one_before(tmp_path: Path) -> None:
    """At one party only: the one before it is there at both."""
    same = undisturbed(long_job())
    async with recovering(tmp_path) as stage:
        name = await with_two(stage)
        await stage.crash(CARD)
        path = files(stage.state_folder(CARD), name)[0]
        path.write_bytes(path.read_bytes()[:-1])
        with capture_logs() as logs:
            await stage.start(CARD)
            assert states(await stage.ended(name)) == {"done"}
        unusable = [line["path"] for line in logs if line.get("code") == "checkpoint.unusable"]
        assert str(path) in unusable
        assert 0 < stage.runs[CARD, name].attempts.furthest < int(path.name.split("-")[0])
        assert same_parts(parts(tmp_path, name), same.parts)


async def with_two(stage: Recovering) -> str:
    """A job of which each data party has two checkpoints at least."""
    await stage.start()
    name = stage.submit(long_job())
    await stage.until(lambda: all(len(files(stage.state_folder(party), name)) > 1 for party in DATA))
    return name


async def test_a_disk_that_takes_no_checkpoint_costs_a_job_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and after a fault it begins where the last one was, here at the first step."""
    fill_disk(monkeypatch, f"*{SUFFIX}*")
    async with recovering(tmp_path) as stage:
        await stage.start()
        with capture_logs() as logs:
            name = stage.submit(long_job())
            await stage.until(lambda: any(line.get("code") == "checkpoint.write" for line in logs))
            await stage.restart(NOTARY)
            assert states(await stage.ended(name)) == {"done"}
        assert {line["why"] for line in logs if line.get("code") == "checkpoint.write"} == {"No space left on device"}
        assert stage.runs[BANK, name].attempts.furthest == 0
        assert same_parts(parts(tmp_path, name), undisturbed(long_job()).parts)


async def test_checkpoints_are_kept_when_a_job_fails_and_gone_when_it_is_done_or_cancelled(tmp_path: Path) -> None:
    """A failed one may be taken up again."""
    async with recovering(tmp_path, recovery=OFTEN.model_copy(update={"attempts": 2}), recover=1.0) as stage:
        assert states(await stage.run(job())) == {"done"}
        cancelled = await stage.begun(long_job("cancelled"))
        stage.agents[CARD].cancel(cancelled)
        await stage.ended(cancelled)
        failed = await stage.begun(long_job("failed"))
        await stage.crash(NOTARY)
        off(await stage.ended(failed, *DATA), "party.silent", NOTARY)
        for party in DATA:
            left = {path.name for path in (stage.state_folder(party) / "checkpoints").iterdir()}
            assert left == {failed}
            assert files(stage.state_folder(party), failed)
        await stage.start(NOTARY)
