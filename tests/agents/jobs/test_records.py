"""A job's record is replaced whole or not at all, and nothing of a failed attempt stays."""

from pathlib import Path

import pytest

from tercet.agents.jobs.records import Record, Records
from tercet.broker.sealing.identity import Identity
from tercet.schemas.messages.kinds import Job, JobStatus, Member
from tests.agents.scenes import BANK, CARD, NOTARY, job


def record(state: str = "received") -> Record:
    """Of a job at the bank."""
    description = job()
    members = tuple(
        Member(name=party, role="helper" if party == NOTARY else "data", key=str(Identity.generate().public))
        for party in (BANK, CARD, NOTARY)
    )
    announced = Job(id=description.id, run=bytes(32), description=description, members=members, submitter=BANK)
    status = JobStatus(
        job=description.id,
        state=state,
        kind="training",
        model="logistic",
        label=BANK,
        helper=NOTARY,
        parties=(),
        submitted="now",
    )
    return Record(job=announced, status=status)


def test_a_record_comes_back_as_it_was_written_last(tmp_path: Path) -> None:
    """One file for each job."""
    records, latest = Records(tmp_path / "jobs"), record("done")
    records.write(record())
    records.write(latest)
    assert records.read_all() == ([latest], [])


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """A disk in trouble would be filled with the beginnings of records, one for each change of state."""
    records, one = Records(tmp_path), record()
    (tmp_path / f"{one.job.id}.json").mkdir()  # a file cannot take its place
    with pytest.raises(OSError, match="directory"):
        records.write(one)
    assert [path.name for path in tmp_path.iterdir()] == [f"{one.job.id}.json"]


def test_a_write_that_fails_leaves_the_earlier_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a true one, if an old one."""
    records, one = Records(tmp_path), record()
    records.write(one)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            records.write(record("done"))
    assert len(list(tmp_path.iterdir())) == 1
    assert records.read_all() == ([one], [])
