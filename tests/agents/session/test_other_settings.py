"""A party whose table is to be encoded otherwise cannot take part in a run that has begun: the model would be wrong."""

from pathlib import Path
from typing import Any

import pytest

from tests.agents.recovering import long_job, recovering
from tests.agents.scenes import CARD, off

CHANGES = [{"clip": 0.5}, {"rare": 3}, {"whiten": True}, {"columns": ("card-0",)}]


@pytest.mark.parametrize("changed", CHANGES, ids=["clip", "rare", "whiten", "columns"])
async def test_other_numbers_of_the_same_rows_are_another_table(tmp_path: Path, changed: dict[str, Any]) -> None:
    """With another clip the sizes are as before, so that steps went on from a checkpoint of other features.

    With other columns what was kept of the table is not what the settings say.
    """
    async with recovering(tmp_path) as stage:
        name = await stage.begun(long_job())
        await stage.crash(CARD)
        table = stage.parties[CARD][0].tables["customers"].model_copy(update=changed)
        stage.change(CARD, tables={"customers": table})
        await stage.start(CARD)
        off(await stage.ended(name), "table.changed", CARD)
