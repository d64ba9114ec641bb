"""What a party draws for a job it draws once: every attempt says the same, and nobody gets away with something else."""

import stat
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.agents.session.checkpoint_store import checkpoint_folder, discard_table
from tercet.agents.session.context import system_randomness
from tercet.agents.session.fixed_randomness import FILE, Draws, FixedRandomness
from tercet.schemas.messages.kinds import OrderContribution
from tests.agents.recovering import Recovering, attempts_of, long_job, recovering, states
from tests.agents.scenes import BANK, CARD, make_table, off

ROWS, OTHER = b"r" * 32, b"o" * 32


def numbers() -> Callable[[], bytes]:
    """A source that never says the same twice."""
    counter = count(1)
    return lambda: next(counter).to_bytes(32, "big")


def begun_at(folder: Path, source: Callable[[], bytes] | None = None) -> Draws:
    """The draws of an attempt."""
    draws = FixedRandomness(folder, source or numbers()).start_attempt(ROWS)
    assert draws is not None
    return draws


def test_an_attempt_draws_what_the_ones_before_have_drawn(tmp_path: Path) -> None:
    """In order, whatever the source would say now; and then anew."""
    first = begun_at(tmp_path / "job")
    counter = [first(), first()]
    assert counter[0] != counter[1]
    second = begun_at(tmp_path / "job", system_randomness)
    assert [second(), second()] == counter
    third = second()
    assert third not in counter
    again = begun_at(tmp_path / "job", system_randomness)
    assert [again(), again(), again()] == [*counter, third]


def test_other_rows_are_noticed(tmp_path: Path) -> None:
    """Also where nothing had been drawn yet."""
    counter = FixedRandomness(tmp_path / "job", numbers())
    assert counter.start_attempt(ROWS)
    assert not counter.start_attempt(OTHER)
    assert not FixedRandomness(tmp_path / "job", numbers()).start_attempt(OTHER)
    assert FixedRandomness(tmp_path / "job", numbers()).start_attempt(ROWS)


def test_a_partner_that_commits_to_something_else_is_noticed(tmp_path: Path) -> None:
    """In a later attempt; each partner for itself."""
    counter = begun_at(tmp_path / "job")
    assert counter.matches_commitment(CARD, b"1" * 32)
    assert counter.matches_commitment("telco", b"2" * 32)
    again = begun_at(tmp_path / "job")
    assert again.matches_commitment(CARD, b"1" * 32)
    assert not again.matches_commitment(CARD, b"2" * 32)
    assert again.matches_commitment("telco", b"2" * 32)


def test_other_held_out_rows_are_noticed(tmp_path: Path) -> None:
    """In a later attempt; a file of a release that did not store them is read all the same."""
    first = begun_at(tmp_path / "job")()
    assert "held_out" not in msgpack.unpackb((tmp_path / "job" / FILE).read_bytes())
    older = begun_at(tmp_path / "job", system_randomness)
    assert older() == first
    assert older.matches_held_out(b"1" * 32, 0)
    again = begun_at(tmp_path / "job")
    assert again.matches_held_out(b"1" * 32, 0)
    assert not again.matches_held_out(b"2" * 32, 0)
    assert not begun_at(tmp_path / "job").matches_held_out(b"2" * 32, 0)


def test_each_fold_holds_out_rows_of_its_own(tmp_path: Path) -> None:
    """And the same ones in a later attempt."""
    first = begun_at(tmp_path / "job")
    assert first.matches_held_out(b"1" * 32, 1)
    assert first.matches_held_out(b"2" * 32, 2)
    again = begun_at(tmp_path / "job")
    assert again.matches_held_out(b"2" * 32, 2)
    assert not again.matches_held_out(b"2" * 32, 1)


def test_only_the_agents_own_user_may_read_what_was_drawn(tmp_path: Path) -> None:
    """With everybody's, the secret order follows from it."""
    counter = begun_at(tmp_path / "job")
    counter()
    assert stat.S_IMODE((tmp_path / "job" / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "job").stat().st_mode) == 0o700


@given(st.binary(max_size=64))
def test_a_file_that_is_none_counts_as_nothing_drawn(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """The partners notice that then."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / FILE).write_bytes(content)
    assert begun_at(folder)() == (1).to_bytes(32, "big")


def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    """What could not be repeated is not said at all."""
    (tmp_path / "job").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="job"):
        FixedRandomness(tmp_path / "job", numbers()).start_attempt(ROWS)


# --- in a job


async def begun(stage: Recovering) -> str:
    """A job in training, for which everybody draws at random."""
    stage.draws = lambda _: system_randomness
    return await stage.begun(long_job())


async def test_all_attempts_have_one_order(tmp_path: Path) -> None:
    """Though it is random: so it goes on from the checkpoint, and nobody learns of another split."""
    async with recovering(tmp_path) as stage:
        name = await begun(stage)
        await stage.restart(CARD)
        assert states(await stage.ended(name)) == {"done"}
        assert stage.runs[BANK, name].attempts.furthest > 0
    assert len(attempts_of(stage.said_openly, "order contribution")) > 1
    for party in (BANK, CARD):
        said = [m.secret for a, m in stage.said_openly if isinstance(m, OrderContribution) and a.sender == party]
        assert len(set(said)) == 1


async def changed_table(stage: Recovering, folder: Path) -> None:
    """The rows are others in the next life, which does not find what the last one has kept of the table."""
    await stage.stop(CARD)
    discard_table(folder / CARD, long_job().id)
    make_table(folder / f"{CARD}.csv", seed=3)


async def lost_folder(stage: Recovering, folder: Path) -> None:
    """The next life knows nothing of the job."""
    await stage.crash(CARD)
    stage.change(CARD, state=folder / "a new disk")


async def lost_draws(stage: Recovering, folder: Path) -> None:
    """The next life knows of the job, and not what it had drawn."""
    await stage.crash(CARD)
    (checkpoint_folder(folder / CARD, long_job().id) / FILE).unlink()


@pytest.mark.parametrize("changed", [changed_table, lost_folder, lost_draws])
async def test_who_comes_back_with_something_else_ends_the_job_with_its_name(
    tmp_path: Path, changed: Callable[[Recovering, Path], Awaitable[None]]
) -> None:
    """The same signs and noise for other rows, or another split of the same, would tell more than the job allows."""
    async with recovering(tmp_path) as stage:
        name = await begun(stage)
        await changed(stage, tmp_path)
        stage.runs.pop((CARD, name), None)
        await stage.start(CARD)
        assert "--again" in off(await stage.ended(name), "table.changed", CARD)
