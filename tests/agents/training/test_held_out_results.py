"""What the label party is left with of the held-out rows after a job: metrics with intervals."""

from pathlib import Path

import pytest

from tercet.agents.roles.data_party import DataPartyRole
from tercet.schemas.files.job import EarlyStopping, Evaluation
from tests.agents.recovering import states
from tests.agents.scenes import BANK, CARD, job, scene, three
from tests.agents.scenes import quick_switches as quick_switches  # a fixture

SCORED = Evaluation(holdout=0.4, split="spring")
STOPPED = Evaluation(holdout=0.4, metrics="epoch")


@pytest.mark.parametrize(("evaluation", "stopping"), [(SCORED, None), (STOPPED, EarlyStopping(on="auc", patience=4))])
async def test_the_label_party_alone_reads_intervals_of_the_model_that_is_released(
    tmp_path: Path, evaluation: Evaluation, stopping: EarlyStopping | None
) -> None:
    """Around the metrics that it reads beside."""
    async with scene(three(tmp_path), tmp_path) as stage:
        description = job(evaluation=evaluation, early_stopping=stopping)
        ended = await stage.run(description)
        assert states(ended) == {"done"}
        found = ended[BANK].intervals
        assert found.keys() == {"auc", "ks"}
        assert all(low < ended[BANK].metrics[name] < high for name, (low, high) in found.items())
        assert ended[CARD].intervals == {}
        role = stage.runs[CARD, description.id].role
        assert isinstance(role, DataPartyRole)
        assert role.context.history.scores is None
