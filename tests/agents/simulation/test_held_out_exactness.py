"""Whichever rows a job holds out, by a named split or by a column, the joint model is the oracle's on the others."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from tercet.agents.simulation.simulate import bit_exact, data_roles
from tercet.schemas.files.job import Evaluation, Network
from tercet.schemas.files.settings import Settings
from tests.agents.world import NOTHING, SCORES, Sample, run, write_table

SPLIT = Evaluation(holdout=0.3, split="spring", loss=True, held_out_loss=True)
COLUMN = Evaluation(holdout_column="came_late", metrics="epoch", held_out_loss=True)
SHOWN = Sample(privacy=SCORES, epochs=1)
BLIND = Sample(privacy=NOTHING, label=1)
CLASSES = Sample(model="one-vs-rest", rows=120, epochs=1)
NETWORK = Sample(model="mlp", network=Network(hidden=(3,)), privacy=NOTHING, epochs=1)


def add_column(settings: Settings) -> Settings:
    """Hold out each third row of a party's table."""
    table = settings.tables["people"]
    assert table.path is not None
    with table.path.open(encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    columns = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    write_table(table.path, columns | {"came_late": [str(int(number % 3 == 0)) for number in range(len(rows))]})
    return settings.model_copy(update={"tables": {"people": table.model_copy(update={"holdouts": ("came_late",)})}})


@pytest.mark.parametrize(
    ("sample", "evaluation"),
    [(SHOWN, SPLIT), (BLIND, COLUMN), (CLASSES, SPLIT), (NETWORK, COLUMN)],
    ids=["shown, split", "blind, column", "classes, split", "network, column"],
)
async def test_a_model_is_the_oracles_whatever_holds_rows_out(
    tmp_path: Path, sample: Sample, evaluation: Evaluation
) -> None:
    sample = replace(sample, evaluation=evaluation)
    settings = sample.settings(tmp_path)
    if evaluation is COLUMN:
        label = sample.parties[sample.label]
        settings[label] = add_column(settings[label])
    simulation = await run(sample, tmp_path, settings=settings)
    assert bit_exact(simulation)
    held_out = [role.held_out.tolist() for role in data_roles(simulation).values()]
    assert held_out[0] == held_out[1]
    assert 0 < sum(held_out[0]) < sample.rows
    if evaluation is COLUMN:
        assert sum(held_out[0]) == -(-sample.rows // 3)
