"""A model part is hidden until every party has released, and what is not to be kept leaves nothing."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tercet.agents.models import model_part
from tercet.agents.roles.release import discard, move_into_place
from tests.agents.models.test_model_part import owned, part
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, job, off, scene, three


def written(state: Path, run: str) -> Path:
    """A part in its hidden folder, as a party saves it."""
    folder = state / "models" / ".credit-01234567"
    model_part.save(folder, part(run=run), owned())
    return folder


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def fill_disk(
    patch: pytest.MonkeyPatch, module: Any, function: str, when: Callable[[Path], bool] = lambda _: True
) -> None:
    """From now on a function that writes to a path fails where that is so."""
    real = getattr(module, function)

    def full(path: Path, *rest: Any) -> Any:
        if when(path):
            raise OSError(28, "No space left on device")
        return real(path, *rest)

    patch.setattr(module, function, full)


def test_a_part_that_is_kept_moves_to_the_jobs_own_name(tmp_path: Path) -> None:
    """Whole, and nothing of the hidden folder stays."""
    place = move_into_place(written(tmp_path / BANK, "1"))
    assert place == tmp_path / BANK / "models" / "credit-01234567"
    assert names(place.parent) == ["credit-01234567"]
    assert model_part.load(place)[0].run == "1"


def test_a_part_of_an_earlier_run_makes_way_when_the_new_one_is_kept_and_not_before(tmp_path: Path) -> None:
    """The simulator runs one job again and again; one that fails must not cost the model that is there."""
    place = move_into_place(written(tmp_path / BANK, "1"))
    hidden = written(tmp_path / BANK, "2")
    assert model_part.load(place)[0].run == "1"
    discard(hidden)
    assert (names(place.parent), model_part.load(place)[0].run) == (["credit-01234567"], "1")
    assert move_into_place(written(tmp_path / BANK, "3")) == place
    assert (names(place.parent), model_part.load(place)[0].run) == (["credit-01234567"], "3")


def test_a_part_that_cannot_be_moved_stays_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And whoever asked is told."""
    hidden = written(tmp_path / BANK, "1")
    fill_disk(monkeypatch, Path, "rename")
    with pytest.raises(OSError, match="No space"):
        move_into_place(hidden)
    assert names(hidden.parent) == [hidden.name]
    discard(hidden)
    discard(hidden)
    assert names(hidden.parent) == []


async def test_a_part_of_a_job_that_fails_at_the_last_moment_is_not_released(tmp_path: Path) -> None:
    """The bank has saved its part when the card processor finds that it can't."""
    async with scene(three(tmp_path), tmp_path) as stage:
        (tmp_path / CARD).mkdir()
        (tmp_path / CARD / "models").write_text("a file where the folder should be")
        ended = await stage.run(job())
        off(ended, "disk.write", CARD)
        assert names(tmp_path / BANK / "models") == []


@pytest.mark.threads
async def test_a_job_that_is_cancelled_while_a_part_is_saved_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread writes on, and what it wrote is removed behind it."""
    saving, go_on, real = threading.Event(), threading.Event(), model_part.save

    def slow(folder: Path, *rest: Any) -> Any:
        if BANK in folder.parts:
            saving.set()
            assert go_on.wait(10.0)
        return real(folder, *rest)

    monkeypatch.setattr(model_part, "save", slow)
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        await stage.start()
        job_id = stage.submit(job())
        await stage.until(saving.is_set)
        stage.agents[BANK].cancel(job_id)
        await stage.ended(job_id, CARD, NOTARY)
        go_on.set()
        await stage.ended(job_id)
        assert names(tmp_path / BANK / "models") == []


async def test_a_disk_that_fills_up_while_a_part_is_saved_is_given_its_room_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a part is of no use to anybody."""
    fill_disk(monkeypatch, model_part, "_write", lambda path: path.name == model_part.MANIFEST and BANK in path.parts)
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job())
        off(ended, "disk.write", BANK)
        assert names(tmp_path / BANK / "models") == []


async def test_a_part_of_a_job_that_is_done_is_where_its_status_says_and_nothing_is_hidden(tmp_path: Path) -> None:
    """One folder for each job."""
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job())
        for party in (BANK, CARD):
            place = tmp_path / party / "models" / ended[party].job
            assert (ended[party].state, ended[party].model_part) == ("done", str(place))
            assert names(place.parent) == [ended[party].job]


async def test_a_part_that_a_killed_agent_left_hidden_is_removed_when_it_is_back(tmp_path: Path) -> None:
    """Its job has failed meanwhile."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        await stage.start()
        job_id = stage.submit(job(epochs=1000))
        await stage.until(lambda: stage.state(CARD, job_id) == "training")
        await stage.crash(CARD)
        model_part.save(tmp_path / CARD / "models" / f".{job_id}", part(), owned())
        await stage.start(CARD)
        await stage.ended(job_id)
        assert names(tmp_path / CARD / "models") == []


async def test_a_part_that_cannot_be_moved_fails_the_job_at_its_party(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are done; this one says why it is not, and its agent lives on."""
    fill_disk(monkeypatch, Path, "rename", lambda path: CARD in path.parts)
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job())
        assert (ended[BANK].state, ended[CARD].state) == ("done", "failed")
        failure = ended[CARD].failure
        assert failure is not None
        assert (failure.code, failure.culprit) == ("disk.write", CARD)
        assert names(tmp_path / CARD / "models") == []
