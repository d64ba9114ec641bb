"""The status of a job has its history by epoch as data: rates, seconds, losses, metrics."""

from pathlib import Path

import pytest

from tercet.agents.jobs.records import Record
from tercet.agents.jobs.stored_jobs import recall_status
from tercet.agents.session.history import History
from tercet.schemas.files.job import Evaluation
from tests.agents.world import NOTHING, Sample, run

EACH_EPOCH = Evaluation(holdout=0.35, metrics="epoch", every=2, loss=True, held_out_loss=True)


@pytest.mark.parametrize("privacy", [None, NOTHING])
async def test_the_history_is_what_the_party_was_told_of_each_epoch(tmp_path: Path, privacy: object) -> None:
    """Of a partner the rates and times alone; and the record of a job has it for later."""
    sample = Sample(rows=140, batch=32, epochs=3, rate=0.5, schedule="inverse-time", decay=0.1, l2=0.01)
    sample = Sample(**{**vars(sample), "evaluation": EACH_EPOCH, "privacy": privacy})
    simulation = await run(sample, tmp_path)
    partner = sample.parties[1]
    status, known = simulation.label_run.status(), simulation.label_run.context.history
    assert (status.epochs, status.batch, status.rate, status.l2) == (3, 32, 0.5, 0.01)
    assert [one.epoch for one in status.history] == [1, 2, 3]
    steps = status.steps // 3
    assert [one.rate for one in status.history] == [0.5 / (1 + 0.1 * steps * epoch) for epoch in range(3)]
    assert [one.loss for one in status.history] == known.losses
    assert [one.held_out_loss for one in status.history] == known.held_out_losses
    assert [bool(one.metrics) for one in status.history] == [False, True, True]
    assert status.history[-1].metrics == status.metrics
    assert all(one.seconds > 0 for one in status.history)
    theirs = simulation.runs[partner].status().history
    assert [one.rate for one in theirs] == [one.rate for one in status.history]
    assert {(one.loss, one.held_out_loss, bool(one.metrics)) for one in theirs} == {(None, None, False)}
    assert simulation.runs[sample.description().helper].status().history == ()
    assert Record.of(simulation.label_run).status.history == status.history
    settings = simulation.label_run.context.settings
    recalled, listed = recall_status(settings, status.job), recall_status(settings)
    assert recalled is not None
    assert listed is not None
    assert recalled.jobs[0].history == status.history
    assert listed.jobs[0].history == ()  # a list of jobs would be long


def test_a_checkpoint_of_an_earlier_release_has_no_times() -> None:
    """And an attempt that goes on from it tells of the epochs that it has seen itself."""
    history = History(losses=[0.5], seconds={0: 1.0}, rates={0: 0.1})
    arrays, facts = history.to_checkpoint()
    again = History()
    again.restore(arrays, facts)
    assert (again.seconds, again.rates) == ({0: 1.0}, {0: 0.1})
    again.restore(arrays, {name: fact for name, fact in facts.items() if name not in {"seconds", "rates"}})
    assert (again.seconds, again.losses) == ({}, [0.5])
