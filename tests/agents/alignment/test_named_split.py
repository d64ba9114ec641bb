"""A named split: the same rows are held out in every job that names it, and a party without its key is found."""

import dataclasses
import stat
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tercet.agents.alignment.named_split import FOLDER, NamedSplit, UnusableKey, read_key
from tercet.agents.core.problems import UNDECIDED
from tercet.schemas.files.job import Evaluation, Privacy, TrainingJob
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Message, SplitKey
from tests.agents.recovering import long_job, recovering, setup_of, states
from tests.agents.scenes import (
    BANK,
    CARD,
    NOTARY,
    SHARES,
    TELCO,
    Scene,
    four,
    job,
    make_table,
    nothing_left,
    off,
    scene,
    three,
)

HELD_OUT = Evaluation(holdout=0.4, split="spring")
PEOPLE = [f"customer {number}" for number in range(96)]


def named(name: str, /, **changes: Any) -> TrainingJob:
    """A job that names the split."""
    return job(name, evaluation=HELD_OUT, **changes)


def held_out(stage: Scene, party: str, job_id: str) -> tuple[set[str], set[str]]:
    """The ids in common that are held out at a party, and the others."""
    trained = setup_of(stage.runs[party, job_id])
    ids = trained.own.table.ids.to_pylist()
    marked = {chosen: {ids[row] for row in trained.own.rows[trained.held_out == chosen]} for chosen in (True, False)}
    return marked[True], marked[False]


async def trained(stage: Scene, description: TrainingJob) -> tuple[set[str], set[str]]:
    """What is held out in a job that ends well, the same at both data parties."""
    ended = await stage.run(description)
    assert states(ended) == {"done"}
    found = [held_out(stage, party, description.id) for party in (BANK, CARD)]
    assert found[0] == found[1]
    assert all(found[0])
    return found[0]


def keys(folder: Path, party: str) -> list[Path]:
    """The keys that a party has."""
    return sorted((folder / party / FOLDER).glob("*"))


def change_tables(folder: Path) -> None:
    """Some people go, some come, and all stand in another order, other ones at each party."""
    for party, seed, order in ((BANK, 1, 1), (CARD, 2, -1)):
        people = [*PEOPLE[10:], *(f"newcomer {number}" for number in range(40))][::order]
        make_table(folder / f"{party}.csv", seed=seed, rows=len(people), ids=people, label=party == BANK)


async def test_a_row_keeps_its_side_in_every_job_that_names_the_split(tmp_path: Path) -> None:
    """Whatever the order of rows, which others come or go, how ids are matched, and after restarts."""
    async with scene(three(tmp_path), tmp_path) as stage:
        first = await trained(stage, named("first", privacy=Privacy()))
        assert await trained(stage, named("second", alignment="ecdh", privacy=Privacy())) == first
        await stage.stop()
        change_tables(tmp_path)
        later = await trained(stage, named("third", privacy=Privacy()))
        stayed = set(PEOPLE[10:])
        assert [side & stayed for side in first] == [side & stayed for side in later]
        assert later[0] - stayed
        assert (await trained(stage, job("fourth", evaluation=Evaluation(holdout=0.4))))[0] != later[0]
        other = Evaluation(holdout=0.4, split="autumn")
        assert (await trained(stage, job("fifth", evaluation=other)))[0] != later[0]
    assert not (tmp_path / NOTARY / FOLDER).exists()
    for party in (BANK, CARD):
        assert [path.name.partition(".")[0] for path in keys(tmp_path, party)] == ["autumn", "spring"]
        assert {stat.S_IMODE(path.stat().st_mode) for path in keys(tmp_path, party)} == {0o600}
        assert all(key is not None and key.agreed for key in map(read_key, keys(tmp_path, party)))


async def test_no_message_has_the_key(tmp_path: Path) -> None:
    """Nor does its proof say the same twice, though the key is the same. A larger part holds out the rows and more."""
    said: list[bytes] = []

    def look(address: Any, message: Any) -> Any:
        said.append(repr(message).encode())
        proofs.extend([message.proof] if message.kind == "split key" else [])
        return message

    proofs: list[bytes] = []
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.tap = look
        for party in (BANK, CARD):  # the larger part may leave fewer rows than they ask for
            stage.change(party, limits=stage.parties[party][0].limits.model_copy(update={"min_rows": 1}))
        few, _ = await trained(stage, named("few"))
        more, _ = await trained(stage, job("more", evaluation=Evaluation(holdout=0.6, split="spring")))
        assert few < more
    key = read_key(keys(tmp_path, BANK)[0])
    assert key is not None
    assert key == read_key(keys(tmp_path, CARD)[0])
    assert repr(key.key).encode() not in b"".join(said)
    assert key.key.hex() not in repr(key)
    assert len(set(proofs)) == len(proofs) == 4


def lose(path: Path) -> None:
    """As on a new disk."""
    path.unlink()


def damage(path: Path) -> None:
    """By half of a write."""
    path.write_bytes(path.read_bytes()[:20])


def replace(path: Path) -> None:
    """By a copy of another state folder."""
    stored = msgpack.unpackb(path.read_bytes())
    path.write_bytes(msgpack.packb(stored | {"key": b"k" * 32}))


async def test_a_party_that_lost_its_key_ends_the_job_before_any_share(tmp_path: Path) -> None:
    """With its name and what to do; other splits go on, and so does this one once the key is back."""
    async with scene(three(tmp_path), tmp_path) as stage:
        first = await trained(stage, named("first"))
        for party, spoil in ((BANK, lose), (CARD, lose), (CARD, damage), (BANK, replace), (CARD, replace)):
            (path,) = keys(tmp_path, party)
            copy = path.read_bytes()
            spoil(path)
            stage.envelopes.clear()
            culprit = CARD if spoil is replace else party  # of two keys the label party's counts
            reason = off(await stage.run(named(f"{party}-{spoil.__name__}")), "split.key", culprit)
            assert "restore it from a copy" in reason
            assert "split" in reason
            assert not stage.said(*SHARES, "pseudonyms", "sizes")
            nothing_left(stage)
            if (party, spoil) == (CARD, replace):
                assert await trained(stage, job("autumn", evaluation=Evaluation(holdout=0.4, split="autumn")))
            path.write_bytes(copy)
        autumn, spring = keys(tmp_path, CARD)
        spring.write_bytes(autumn.read_bytes())
        assert "has the key of another split" in off(await stage.run(named("other")), "split.key", CARD)
        spring.write_bytes(copy)
        assert await trained(stage, named("last")) == first


@pytest.mark.parametrize("broken", [BANK, CARD])
async def test_a_first_job_that_fails_leaves_no_key_that_nobody_can_use(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One party may have stored it as agreed and the other not, or may have stored nothing."""
    confirm = NamedSplit.confirm

    def crash(self: NamedSplit, key: bytes) -> None:
        if self._context.me == broken:
            raise RuntimeError("a power cut")
        confirm(self, key)

    async with scene(three(tmp_path), tmp_path) as stage:
        monkeypatch.setattr(NamedSplit, "confirm", crash)
        off(await stage.run(named("first")), "agent.error", broken)
        monkeypatch.undo()
        stored = [read_key(path) for party in (BANK, CARD) for path in keys(tmp_path, party)]
        assert len(stored) == 2
        assert stored[0] is not None
        assert stored[1] is not None
        assert stored[0].key == stored[1].key
        await trained(stage, named("second"))
        if any(key is not None and key.agreed for key in stored):
            assert read_key(keys(tmp_path, broken)[0]) == read_key(keys(tmp_path, CARD)[0])


async def test_a_key_that_only_one_party_has_stored_makes_way(tmp_path: Path) -> None:
    """No job can have relied on it."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await trained(stage, named("first"))
        (path,) = keys(tmp_path, BANK)
        stored = msgpack.unpackb(path.read_bytes())
        path.write_bytes(msgpack.packb(stored | {"agreed": False}))
        keys(tmp_path, CARD)[0].unlink()
        await trained(stage, named("second"))
        assert read_key(path) == read_key(keys(tmp_path, CARD)[0])
        assert msgpack.unpackb(path.read_bytes())["key"] != stored["key"]


async def test_a_party_that_tells_two_others_of_different_keys_leaves_none_that_counts(tmp_path: Path) -> None:
    """The bank starts anew, the card processor goes on with the old key: neither may rely on its own."""
    tables = tuple((party, "customers") for party in (BANK, CARD, TELCO))

    def equivocate(address: Address, message: Message) -> Message:
        lies = isinstance(message, SplitKey) and (address.sender, address.receiver) == (TELCO, BANK)
        return message.model_copy(update={"agreed": False}) if lies else message

    async with scene(four(tmp_path), tmp_path) as stage:
        assert states(await stage.run(named("first", tables=tables))) == {"done"}
        honest = [keys(tmp_path, party)[0] for party in (BANK, CARD)]
        for path in honest:  # as after a first job in which nobody came so far
            path.write_bytes(msgpack.packb(msgpack.unpackb(path.read_bytes()) | {"agreed": False}))
        await stage.stop()
        stage.tap = equivocate
        stage.envelopes.clear()
        off(await stage.run(named("second", tables=tables)), "alignment.differs", UNDECIDED)
        nothing_left(stage)
        stored = [msgpack.unpackb(path.read_bytes()) for path in honest]
        assert stored[0]["key"] != stored[1]["key"]
        assert not any(one["agreed"] for one in stored)


async def test_two_first_jobs_at_once_agree_on_one_key_or_fail(tmp_path: Path) -> None:
    """Whoever fails may be run again."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.start()
        submitted = [stage.submit(named(name)) for name in ("first", "second")]
        for name in submitted:
            ended = await stage.ended(name)
            assert states(ended) == {"done"} or {one.failure.code for one in ended.values() if one.failure} == {
                "split.key"
            }
        side = await trained(stage, named("third"))
        for name in submitted:
            if stage.state(BANK, name) == "done":
                assert held_out(stage, BANK, name) == side


async def test_a_job_that_goes_on_after_a_restart_holds_out_the_same_rows(tmp_path: Path) -> None:
    async with recovering(tmp_path) as stage:
        description = long_job(evaluation=HELD_OUT)
        name = await stage.begun(description)
        await stage.restart(CARD)
        assert states(await stage.ended(name)) == {"done"}
        assert stage.runs[BANK, name].attempts.number > 1
        first = held_out(stage, BANK, name)
        assert first == held_out(stage, CARD, name)
        setup = setup_of(stage.runs[BANK, name])
        assert setup.start.step > 0  # it goes on from the checkpoint, which another split would not
        assert await trained(stage, named("again")) == first
    own, other = setup.own, dataclasses.replace(setup.own, split_key=b"k" * 32)
    assert own.checkpoint_binding(setup.context, setup.key) != other.checkpoint_binding(setup.context, setup.key)


async def test_a_key_that_is_exchanged_between_attempts_ends_the_job(tmp_path: Path) -> None:
    """Though all parties exchange it: the run would tell scores of both choices."""
    async with recovering(tmp_path) as stage:
        name = await stage.begun(long_job(evaluation=HELD_OUT))
        for party in (BANK, CARD):
            await stage.crash(party)
            replace(keys(tmp_path, party)[0])
        await stage.start(BANK, CARD)
        off(await stage.ended(name), "table.changed", BANK)


def test_no_key_is_no_error_and_a_damaged_one_is(tmp_path: Path) -> None:
    assert read_key(tmp_path / "none") is None
    (tmp_path / "damaged").write_bytes(b"x")
    with pytest.raises(UnusableKey):
        read_key(tmp_path / "damaged")
