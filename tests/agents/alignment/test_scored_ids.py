"""No row is scored twice under one model, unless the party whose row it is permits that.

The store of hashes first, then jobs.
"""

import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tercet.agents.alignment.scored_ids import ScoredIds, UnusableMarks
from tercet.schemas.files.job import Evaluation, PredictionJob
from tests.agents.policy.test_settings_rules import table
from tests.agents.recovering import THREE, recovering
from tests.agents.runs.test_recovery import restart
from tests.agents.scenes import (
    BANK,
    CARD,
    COLUMNS,
    NOTARY,
    ROWS,
    Scene,
    job,
    make_table,
    off,
    on,
    prediction,
    scene,
    three,
)

MODEL = ("credit-01234567", "ab" * 16)


def store(folder: Path, run: int, model: tuple[str, str] = MODEL) -> ScoredIds:
    """A run's."""
    return ScoredIds(folder, model, bytes([run]) * 16)


def marks(scored: ScoredIds, people: Sequence[int]) -> NDArray[np.uint64]:
    """Of these people, who stand somewhere in a table."""
    ids = pa.array([f"person-{number}" for number in range(40)], pa.large_string())
    return scored.mark_ids(ids, np.array(people, np.int64))


people = st.sets(st.integers(0, 39)).map(sorted)


@given(st.lists(st.tuples(st.integers(1, 4), people), max_size=6), people)
def test_as_many_are_repeated_as_other_runs_have_had(
    tmp_path_factory: pytest.TempPathFactory, past: list[tuple[int, list[int]]], asked: list[int]
) -> None:
    """A run's own do not count, whatever its earlier attempts have had; nor does another model."""
    folder = tmp_path_factory.mktemp("scored")
    for run, had in past:
        scored = store(folder, run)
        assert scored.note(marks(scored, had), repeat=True) == 0
    others = {person for run, had in past if run != 1 for person in had}
    scored = store(folder, 1)
    found = marks(scored, asked)
    assert scored.repeated(found) == len(others & set(asked))
    assert scored.note(found, repeat=False) == len(others & set(asked))
    marked = set[int]() if others & set(asked) else set(asked)
    own = {person for run, had in past if run == 1 for person in had}
    beside = store(folder, 5)
    assert beside.repeated(marks(beside, range(40))) == len(others | own | marked)
    other = store(folder, 1, ("credit-01234567", "cd" * 16))
    assert other.repeated(marks(other, asked)) == 0


def test_what_is_kept_says_nothing_to_who_has_not_the_key(tmp_path: Path) -> None:
    """For the owner only; 8 bytes a row, under another key for each model and party."""
    scored = store(tmp_path, 1)
    found = marks(scored, range(40))
    scored.note(found, repeat=False)
    (path,) = scored.folder.iterdir()
    assert path.stat().st_size == 8 * 40
    for path_of_key in (path, tmp_path / "scored" / "key"):
        assert stat.S_IMODE(path_of_key.stat().st_mode) == 0o600
    others = [store(tmp_path / "elsewhere", 1), store(tmp_path, 1, ("credit-01234567", "cd" * 16))]
    assert not any(np.isin(marks(other, range(40)), found).any() for other in others)


def test_a_key_that_is_gone_or_a_torn_file_is_told(tmp_path: Path) -> None:
    """Nobody could tell who has been scored."""
    scored = store(tmp_path, 1)
    found = marks(scored, range(4))
    scored.note(found, repeat=False)
    (path,) = scored.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UnusableMarks, match="damaged"):
        store(tmp_path, 2).note(found, repeat=False)
    (tmp_path / "scored" / "key").unlink()
    with pytest.raises(UnusableMarks, match="is gone"):
        marks(scored, range(4))


# --- jobs


def listed(stage: Scene, folder: Path, name: str, numbers: Sequence[int]) -> None:
    """A table of these customers at both parties."""
    ids = [f"customer {number}" for number in numbers]
    (folder / name).mkdir()
    for seed, party in enumerate((BANK, CARD)):
        path, tables = folder / name / f"{party}.csv", stage.parties[party][0].tables
        make_table(path, seed=seed, rows=len(ids), ids=ids, columns=COLUMNS)
        new = tables["customers"].model_copy(update={"path": path, "label": None})
        stage.change(party, tables=tables | {name: new})


def scoring(of: str, name: str) -> PredictionJob:
    """A prediction over tables of that name."""
    return prediction(of, name=f"scores-{name}", tables=((BANK, name), (CARD, name)))


async def test_rows_of_two_predictions_may_not_overlap(tmp_path: Path) -> None:
    """It tells how many do. Other rows, another model, and rows whose party permits it are scored."""
    async with scene(three(tmp_path), tmp_path) as stage:
        for name, numbers in (("first", range(40)), ("others", range(40, 80)), ("some", range(70, 110))):
            listed(stage, tmp_path, name, numbers)
        trained = (await stage.run(job()))[CARD].job
        for name in ("first", "others"):
            assert (await stage.run(scoring(trained, name)))[CARD].state == "done"
        reported = off(await stage.run(scoring(trained, "some")), "policy.rescored", CARD)
        assert "10 of the 40 rows" in reported
        assert "rescoring = true under [tables.some]" in reported
        assert [one for one in stage.said("partial scores") if "some" in one.address] == []
        second = (await stage.run(job("second")))[CARD].job
        assert (await stage.run(scoring(second, "some")))[CARD].state == "done"
        await stage.stop()
        off(await stage.run(scoring(trained, "some").with_new_id()), "policy.rescored", CARD)
        await stage.stop()
        stage.change(CARD, tables=table(rescoring=True)(stage.parties[CARD][0]).tables)
        assert (await stage.run(scoring(trained, "some").with_new_id()))[CARD].state == "done"


async def test_held_out_rows_count_as_scored_under_the_model_of_their_training(tmp_path: Path) -> None:
    """The rows that were trained on do not, nor do any in a training that scored none."""
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job(release="shared", evaluation=Evaluation(holdout=0.25)))
        reported = off(await stage.run(prediction(ended[CARD].job)), "policy.rescored", CARD)
        assert f"{ended[CARD].held_out} of the {ROWS} rows" in reported
        unscored = await stage.run(job("unscored", release="shared"))
        assert (await stage.run(prediction(unscored[CARD].job, name="new")))[CARD].state == "done"


async def test_a_later_attempt_says_what_the_first_has_said(tmp_path: Path) -> None:
    """The label party crashes when the scores are on their way, and comes back: its run goes on, and no other may."""
    async with recovering(tmp_path) as stage:
        trained = (await stage.run(job()))[CARD].job
        again = prediction(trained)
        on(stage, lambda envelope: envelope.kind == "partial scores", lambda: restart(stage, BANK))
        ended = await stage.ended(stage.submit(again), *THREE, seconds=20)
        assert {status.state for status in ended.values()} == {"done"}
        assert ended[BANK].attempt > 1
        assert len(list((tmp_path / CARD / "scored").glob("*/*.ids"))) == 1
        off(await stage.run(again.with_new_id()), "policy.rescored", CARD)


async def test_a_training_that_comes_to_nothing_leaves_no_hashes(tmp_path: Path) -> None:
    """There is no model under which anybody could be scored; a label party keeps none, and a helper has none.

    Without the key nothing is scored any more: the party says what to restore in its own log.
    """
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.start()
        on(stage, lambda envelope: envelope.kind == "scores", lambda: stage.agents[NOTARY].cancel(failing))
        failing = stage.submit(job("failing", evaluation=Evaluation(holdout=0.25, metrics="epoch")))
        assert (await stage.ended(failing))[CARD].state == "cancelled"
        await stage.until(lambda: not stage.agents[CARD].is_busy)
        assert list((tmp_path / CARD / "scored").glob("*/*")) == []
        ended = await stage.run(job(evaluation=Evaluation(holdout=0.25)))
        assert len(list((tmp_path / CARD / "scored").glob("*/*"))) == 1
        assert not (tmp_path / BANK / "scored").exists()
        assert not (tmp_path / NOTARY / "scored").exists()
        (tmp_path / CARD / "scored" / "key").unlink()
        failed = await stage.run(prediction(ended[CARD].job))
        off(failed, "disk.write", CARD)
        assert "restore it from a copy" in (failed[CARD].detail or "")
