"""Simulations that share a folder: each is a run of its own, whatever an earlier one has left there."""

import pytest

from tercet.agents.jobs.records import Records
from tercet.agents.simulation.simulate import bit_exact
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.messages.kinds import JobStatus
from tests.agents.world import Sample, run


async def test_a_simulation_may_be_repeated_in_the_same_folder(tmp_path):
    """The record of the first one must not make the second wait for a run that nobody begins.

    Nor does it wait for a person's approval, as the settings ask for: nobody could give it.
    """
    asks = {"policy": PolicySettings(narrow=True, helper_sees="scores", score_noise=0.0, approval=True)}
    settings = {party: own.model_copy(update=asks) for party, own in Sample().settings(tmp_path).items()}
    for _ in range(2):
        simulation = await run(Sample(), tmp_path, settings=settings)
        assert simulation.done
        assert bit_exact(simulation)


async def test_a_simulation_is_not_disturbed_by_another_job_that_was_killed_here(tmp_path):
    """The agents fail the job that they find unfinished, and the new one is trained."""
    first = await run(Sample(seed=1), tmp_path)
    other = TrainingJob.model_validate(Sample().description().model_dump() | {"name": "other"})
    for party in first.runs:
        records = Records(tmp_path / party / "jobs")
        (record,), _ = records.read_all()
        ran = record.status.model_copy(update={"job": other.id, "state": "training"})
        records.write(
            record.model_copy(
                update={"job": record.job.model_copy(update={"id": other.id, "description": other}), "status": ran}
            )
        )
    again = await run(Sample(), tmp_path)
    assert again.done
    assert bit_exact(again)
    assert {one.job.id for one in again.runs.values()} == {Sample().description().id}


class Interrupted(Exception):
    """Somebody has pressed Ctrl-C."""


async def test_a_simulation_that_was_interrupted_begins_anew(tmp_path):
    """What its parties had drawn and kept for the same job was taken for a table that has changed."""
    sample = Sample(epochs=10)
    keeping = {
        party: own.model_copy(update={"recovery": Recovery(checkpoint_steps=1, checkpoint_seconds=0.01)})
        for party, own in sample.settings(tmp_path).items()
    }

    def interrupt(status: JobStatus) -> None:
        if status.step > 0:
            raise Interrupted

    with pytest.raises(ExceptionGroup) as caught:
        await run(sample, tmp_path, settings=keeping, watch=interrupt)
    assert caught.group_contains(Interrupted)
    assert list((tmp_path / "bank" / "checkpoints" / sample.description().id).iterdir())
    assert (await run(sample, tmp_path, settings=keeping)).done
