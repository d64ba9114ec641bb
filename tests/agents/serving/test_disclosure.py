"""Who learns what while rows are served: the label party scores, a partner which rows, the broker sizes and times."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.agents.messaging.control import open_control
from tercet.agents.serving.partial_scores import PartialScores
from tercet.broker.interface.base import Envelope
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.scoring.scores import decode_scores
from tercet.schemas.messages.kinds import ScoreAnswer, ScoreReply, ScoreRequest
from tercet.tables.matching.pseudonyms import as_hashes
from tests.agents.roles.test_prediction import plain_scores
from tests.agents.scenes import Scene
from tests.agents.serving.stage import THREE, TWO, copy_of, failure, ids_of, known_ids, query, scores, serving
from tests.agents.world import PERSON, write_table

BANK, CARD, TELCO = THREE.parties


def opened(stage: Scene, envelope: Envelope) -> Any:
    """What its receiver reads in a letter."""
    receiver = envelope.routing_key.rpartition(".")[2]
    return open_control(envelope, stage.parties[receiver][1], stage.parties[envelope.sender][1].public)


def shares(stage: Scene, partner: str) -> list[Words]:
    """What a partner has answered so far, question by question."""
    found = [opened(stage, letter) for letter in stage.said("score answer") if letter.sender == partner]
    return [one.words for one in found]


async def test_the_broker_sees_sealed_letters_of_as_many_bytes_for_any_row(tmp_path: Path) -> None:
    """No id, no hash and no word; of all that was published only these kinds are about it."""
    tables = copy_of(TWO, tmp_path)
    mine, known = tables[BANK][PERSON], ids_of(tables, *TWO.parties)
    lacking = [one for one in mine if one not in known]
    async with serving(TWO, tmp_path) as stage:
        await scores(stage, TWO, known[:1])
        stage.envelopes.clear()
        for one in (known[0], known[1], lacking[0]):
            await scores(stage, TWO, [one])
        sizes = {kind: {len(one.body) for one in stage.said(kind)} for kind in ("score request", "score answer")}
        assert all(len(found) == 1 for found in sizes.values())
        secrets = [one.encode() for one in (known[0], known[1], lacking[0])]
        for letter in stage.envelopes:
            assert letter.kind in sizes
            content = opened(stage, letter)
            raw = content.rows if isinstance(content, ScoreRequest) else content.words.tobytes()
            assert raw not in letter.body
            assert not any(secret in letter.body for secret in secrets)
            assert not letter.persistent


async def test_a_partner_learns_which_of_its_rows_are_asked_for_and_no_id_of_others(tmp_path: Path) -> None:
    """By hashes under a key that it has; another partner has other hashes; what the bank lacks is not asked for."""
    tables = copy_of(THREE, tmp_path)
    known = ids_of(tables, *THREE.parties)
    lacking = [one for one in tables[BANK][PERSON] if one not in tables[CARD][PERSON]]
    async with serving(THREE, tmp_path) as stage:
        await scores(stage, THREE, known[:1])
        stage.envelopes.clear()
        await scores(stage, THREE, [known[0], lacking[0], "stranger to all", *known[1:3]])
        asked = {one.routing_key.rpartition(".")[2]: opened(stage, one) for one in stage.said("score request")}
        assert {party: len(request.rows) // 16 for party, request in asked.items()} == {CARD: 4, TELCO: 4}
        assert asked[CARD].rows != asked[TELCO].rows
        made = next(iter(stage.agents[CARD]._serving._answering._readings._found.values()))[0]
        rows = made._table.find(as_hashes(asked[CARD].rows))
        own = made._table.ids.to_pylist()
        assert [own[row] if row >= 0 else None for row in rows] == [known[0], None, *known[1:3]]
        for secret in (*known, *lacking):
            assert secret.encode() not in asked[CARD].rows
        stage.envelopes.clear()
        assert await scores(stage, THREE, ["stranger to all"]) == {}
        assert stage.said("score request") == []


async def test_a_partners_part_is_hidden_by_another_partners(tmp_path: Path) -> None:
    """Only the sum says something: one share of a row is uniform, and the sum is the score of both."""
    tables = copy_of(THREE, tmp_path)
    ids = ids_of(tables, *THREE.parties)
    plain = plain_scores(tmp_path, THREE, tables)
    own = {}
    async with serving(THREE, tmp_path) as stage:
        await scores(stage, THREE, ids[:1])
        stage.envelopes.clear()
        found = await scores(stage, THREE, ids)
        (card,), (telco,) = shares(stage, CARD), shares(stage, TELCO)
        for share in (card, telco):
            ones = np.unpackbits(share.view(np.uint8)).mean()
            assert abs(ones - 0.5) < 5 * 0.5 / np.sqrt(share.size * 64)
            assert share[:, -1].all()
        whole = total([card, telco])
        assert not whole[:, -1].any()
        made = next(iter(stage.agents[BANK]._serving._asking._readings._found.values()))[0]
        own = dict(zip(made.table.ids.to_pylist(), decode_scores(made.table.words)[:, 0], strict=True))
        for one, part in zip(ids, decode_scores(whole[:, :-1])[:, 0], strict=True):
            assert part + own[one] == found[one][0]
            assert part + own[one] == pytest.approx(plain[one][0], abs=1e-4)


async def test_nobody_tells_which_partner_lacks_a_row(tmp_path: Path) -> None:
    """Both answer with uniform words, the same however often they are asked, as they do for a row that they have."""
    tables = copy_of(THREE, tmp_path)
    of_card = [one for one in ids_of(tables, BANK, CARD) if one not in tables[TELCO][PERSON]]
    of_telco = ids_of(tables, *THREE.parties)[0]
    async with serving(THREE, tmp_path) as stage:
        place = tables[CARD][PERSON].index(of_telco)
        shorter = {name: values[:place] + values[place + 1 :] for name, values in tables[CARD].items()}
        write_table(tmp_path / f"{CARD}.csv", shorter)
        await scores(stage, THREE, [])
        stage.envelopes.clear()
        for _ in range(2):
            assert await scores(stage, THREE, [of_card[0], of_telco]) == {}
        for partner in (CARD, TELCO):
            first, again = shares(stage, partner)
            assert np.array_equal(first, again)
            assert first.all()
        assert total([shares(stage, CARD)[0], shares(stage, TELCO)[0]])[:, -1].all()


async def test_without_the_masks_of_two_partners_each_part_would_be_there_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So these tests see what they look for."""
    ids = known_ids(THREE, tmp_path)[:5]
    real = PartialScores.__init__

    def bare(self: PartialScores, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs | {"zero_keys": {}})

    monkeypatch.setattr(PartialScores, "__init__", bare)
    async with serving(THREE, tmp_path) as stage:
        await scores(stage, THREE, ids)
        (card,) = [share for share in shares(stage, CARD) if len(share)]
        assert not card[:, -1].any()
        assert np.abs(decode_scores(card[:, :-1])).max() < 100


async def test_what_was_recorded_says_nothing_again(tmp_path: Path) -> None:
    """A question that the broker repeats gets the same answer, which nobody waits for; so does a repeated answer."""
    one, other = known_ids(TWO, tmp_path)[:2]
    async with serving(TWO, tmp_path) as stage:
        expected = await scores(stage, TWO, [one])
        asked, answered = stage.said("score request")[-1], stage.said("score answer")[-1]
        stage.memory_broker.accept(asked, BANK)
        await stage.until(lambda: len(stage.said("score answer")) > 1 and stage.said("score answer")[-1] != answered)
        first, again = shares(stage, CARD)[-2:]
        assert np.array_equal(first, again)
        stage.memory_broker.accept(answered, CARD)
        assert await scores(stage, TWO, [one]) == expected
        assert {*await scores(stage, TWO, [other])} == {other}


HOSTILE = {
    "too few rows": lambda words: words[:-1],
    "a column more": lambda words: np.hstack([words, words]),
    "no word": lambda words: words[:0],
    "huge": lambda words: words + np.array([2**62] + [0] * (words.shape[1] - 1), np.uint64),
    "a little too far": lambda words: words + np.array([2**24] + [0] * (words.shape[1] - 1), np.uint64),
}


@pytest.mark.parametrize("spoil", HOSTILE.values(), ids=HOSTILE)
async def test_an_answer_that_cannot_be_is_refused_by_its_senders_name(
    spoil: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other shapes, and scores that no row of the training came near."""
    ids = known_ids(TWO, tmp_path)[:3]
    real = PartialScores.share

    async def share(self: PartialScores, *args: Any, **kwargs: Any) -> Words:
        return np.asarray(spoil(await real(self, *args, **kwargs)))

    async with serving(TWO, tmp_path) as stage:
        await scores(stage, TWO, ids)
        monkeypatch.setattr(PartialScores, "share", share)
        found = await failure(stage, TWO, ids)
        assert (found.code, found.culprit) == ("serving.answer", CARD)


async def test_what_is_no_answer_is_not_heard(tmp_path: Path) -> None:
    """Floats that are not numbers, another partner's word, a stranger's: the deadline names who has not answered."""
    ids = known_ids(THREE, tmp_path)[:2]
    async with serving(THREE, tmp_path) as stage:
        await scores(stage, THREE, ids)
        stage.hang(CARD)
        agent = stage.agents[BANK]
        asking = asyncio.ensure_future(agent.answer_local(query(THREE, ids)))
        await asyncio.sleep(0.1)
        asker = agent._serving._asking
        ((token, waiting),) = asker._waiting.items()
        letter = stage.said("score answer")[-1]
        assert letter.sender == TELCO
        nan = np.full((2, 2), np.nan).tobytes()
        with pytest.raises(ValueError, match="64-bit words"):
            ScoreAnswer.model_validate({"words": {"dtype": "<f8", "shape": (2, 2), "data": nan}})
        stage.memory_broker.accept(letter, CARD)  # through an exchange that is not its sender's
        assert not waiting.answers[CARD].done()
        reply = await asking
        assert token not in asker._waiting
        assert isinstance(reply, ScoreReply)
        assert reply.failure is not None
        assert (reply.failure.code, reply.failure.culprit) == ("serving.deadline", CARD)
        stage.wake()
