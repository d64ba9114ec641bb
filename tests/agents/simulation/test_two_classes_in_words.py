"""A label of two classes in words trains the model that one of 0 and 1 does, and its party is told what was taken."""

import numpy as np
import pytest

from tercet.agents.simulation.simulate import bit_exact
from tercet.schemas.files.job import Evaluation, Network
from tests.agents.recording import hear
from tests.agents.world import OUTCOME, Sample

SAMPLES = [
    Sample((4, 3), label=1, evaluation=Evaluation(holdout=0.3, loss=True)),
    Sample((4, 3), model="mlp", network=Network(hidden=(3,)), epochs=1),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=["logistic", "network"])
@pytest.mark.parametrize(("classes", "positive"), [(("no", "yes"), None), (("good", "bad"), "bad"), (("2", "1"), "1")])
def test_two_classes_are_trained_on_as_0_and_1(sample, classes, positive, tmp_path):
    """To the last bit, as the oracle has them; a note says so only where nobody has named the positive class."""
    party, tables = sample.parties[sample.label], sample.tables()
    numbers = np.array([int(label) for label in tables[party][OUTCOME]])
    tables[party] |= {OUTCOME: [classes[number] for number in numbers]}
    run = hear(sample, tmp_path, tables=tables, reading={} if positive is None else {"positive": positive})
    assert bit_exact(run.simulation)
    assert run.labels.centred[:, 0].tolist() == (numbers[run.label.own.rows] - 0.5).tolist()
    notes = {one: run.simulation.runs[one].status().warnings for one in run.names}
    reported = [note for note in notes.pop(party) if "positive class" in note]
    assert bool(reported) == (positive is None)
    assert not any("positive class" in note for others in notes.values() for note in others)
