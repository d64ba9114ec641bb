"""Served scores are those of a prediction by the same model, for the label party alone."""

from pathlib import Path

import numpy as np
import pytest

from tercet.schemas.messages.kinds import ScoreQuery
from tests.agents.recording import hear_prediction
from tests.agents.roles.test_prediction import plain_scores, scores_of
from tests.agents.serving.stage import CLASSES, THREE, TWO, copy_of, ids_of, known_ids, query, scores, serving
from tests.agents.world import PERSON, Sample


@pytest.fixture(params=[TWO, THREE], ids=["two parties", "three parties"])
def predicted(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Sample, Path, dict[str, float]]:
    """A model, a folder with its parts, and what a prediction says of each row, by id."""
    sample: Sample = request.param
    tables = copy_of(sample, tmp_path / "predicted")
    run = hear_prediction(sample, tmp_path / "predicted", tables)
    found = scores_of(run.simulation)
    copy_of(sample, tmp_path / "served")
    return sample, tmp_path / "served", dict(zip(found["id"].to_pylist(), found["score"].to_pylist(), strict=True))


async def test_without_noise_they_are_equal(predicted: tuple[Sample, Path, dict[str, float]]) -> None:
    """One by one and together, in any order; of rows that somebody lacks there are none, as in a prediction."""
    sample, folder, expected = predicted
    tables = copy_of(sample, folder)
    mine = tables[sample.parties[0]][PERSON]
    async with serving(sample, folder) as stage:
        found = await scores(stage, sample, mine[::-1])
        assert {one: float(score[0]) for one, score in found.items()} == expected
        assert set(found) < set(mine)
        for one in mine[:3]:
            assert await scores(stage, sample, [one]) == ({one: found[one]} if one in found else {})


async def test_noise_moves_a_score_by_no_more_than_each_partner_says(tmp_path: Path) -> None:
    """And by something."""
    sample = THREE
    tables = copy_of(sample, tmp_path)
    plain = plain_scores(tmp_path, sample, tables)
    async with serving(sample, tmp_path) as stage:
        await stage.stop()
        noises = dict(zip(sample.parties, (1.0, 0.25, 0.125), strict=True))  # the label party's own is not added
        for party, noise in noises.items():
            policy = stage.parties[party][0].policy.model_copy(update={"score_noise": noise})
            stage.change(party, policy=policy)
        await stage.start()
        found = await scores(stage, sample, ids_of(tables, *sample.parties))
    moved = np.array([abs(score[0] - plain[one][0]) for one, score in found.items()])
    assert 0.2 < moved.max() <= 0.375 + 2.0**-14


async def test_each_class_has_a_score(tmp_path: Path) -> None:
    """With its name beside it."""
    tables = copy_of(CLASSES, tmp_path)
    plain = plain_scores(tmp_path, CLASSES, tables)
    async with serving(CLASSES, tmp_path) as stage:
        found = await scores(stage, CLASSES, ids_of(tables, *CLASSES.parties))
    assert {*found} == {*plain}
    assert all(np.allclose(found[one], plain[one], rtol=0, atol=1e-4) for one in plain)


async def test_an_id_is_spelt_as_in_a_job(tmp_path: Path) -> None:
    """Without the blanks around it; what is no id is not known."""
    one = known_ids(TWO, tmp_path)[0]
    async with serving(TWO, tmp_path) as stage:
        assert {*await scores(stage, TWO, [f" {one} ", "", one.upper(), "nobody"])} == {f" {one} "}


def test_a_query_has_few_rows() -> None:
    """However many the body of a request may hold."""
    query(TWO, ["x"] * 100)
    with pytest.raises(ValueError, match="100"):
        ScoreQuery.model_validate(query(TWO, []).model_dump() | {"ids": ("x",) * 101})
