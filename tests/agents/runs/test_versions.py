"""Agents of different releases speak the highest version of the protocol that all know, or say why they cannot."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.agents.attempts.acceptance import Range, common_version
from tercet.agents.core.problems import JobProblem
from tercet.agents.reports.build import Result
from tercet.agents.runs.run import JobRun
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Message, Start
from tests.agents.scenes import BANK, CARD, NOTARY, Scene, job, nothing_left, off, scene, three

ranges = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda pair: Range(min(pair), max(pair)))


@given(st.dictionaries(st.sampled_from([BANK, CARD, NOTARY, "telco"]), ranges, min_size=2))
def test_the_version_is_the_highest_in_all_ranges_or_the_oldest_release_is_named(spoken: dict[str, Range]) -> None:
    """With both ranges, and who has to do what."""
    common = set.intersection(*(set(range(one.lowest, one.highest + 1)) for one in spoken.values()))
    if common:
        assert common_version(spoken) == max(common)
        return
    with pytest.raises(JobProblem) as caught:
        common_version(spoken)
    oldest = spoken[caught.value.culprit]
    assert oldest.highest == min(one.highest for one in spoken.values())
    assert f"speaks version {oldest} of" in caught.value.reason


async def start(stage: Scene, **spoken: tuple[int, int]) -> None:
    """Start agents of releases that speak these versions."""
    await stage.start()
    for party, versions in spoken.items():
        agent = stage.agents[party]
        agent.jobs._services = replace(agent.jobs._services, versions=versions)


def version_of(run: JobRun) -> int:
    """The version that a finished run has spoken."""
    assert isinstance(run.reached, Result)
    return run.reached.context.session.version


async def test_a_job_speaks_the_highest_version_that_all_agents_know(tmp_path: Path) -> None:
    """Partners need not upgrade on one day."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await start(stage, bank=(3, 5), card=(4, 6), notary=(4, 9))
        ended = await stage.ended(stage.submit(job()))
        assert {status.state for status in ended.values()} == {"done"}
        assert {version_of(run) for run in stage.runs.values()} == {5}


async def test_releases_with_nothing_in_common_say_whose_has_to_be_renewed(tmp_path: Path) -> None:
    """Before anything is read."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await start(stage, bank=(4, 5), card=(1, 3), notary=(2, 5))
        reason = off(await stage.ended(stage.submit(job())), "party.version", CARD)
        assert "card speaks version 1 to 3" in reason
        assert "bank version 4 to 5" in reason
        assert "a later release of tercet at card" in reason
        nothing_left(stage)


async def test_an_agent_that_knows_no_blind_training_is_refused(tmp_path: Path) -> None:
    """In version 5 of the protocol a job that says nothing of helper_sees meant another training."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await start(stage, card=(5, 5))
        reason = off(await stage.ended(stage.submit(job())), "party.version", CARD)
        assert "card speaks version 5 of the protocol and " in reason
        assert "install a later release of tercet at card" in reason
        nothing_left(stage)


def saying(receiver: str, version: int, stage: Scene) -> None:
    """The label party tells one party another version."""

    def tap(address: Address, message: Message) -> Message:
        if isinstance(message, Start) and address.receiver == receiver:
            return message.model_copy(update={"version": version})
        return message

    stage.tap = tap


async def test_a_version_that_a_party_does_not_speak_is_not_started_with(tmp_path: Path) -> None:
    """Whoever says it."""
    async with scene(three(tmp_path), tmp_path) as stage:
        saying(CARD, 99, stage)
        assert "version 99" in off(await stage.run(job()), "party.version", BANK)


async def test_parties_that_were_told_different_versions_share_no_keys(tmp_path: Path) -> None:
    """The version is under the handshake's signatures."""
    async with scene(three(tmp_path), tmp_path) as stage:
        saying(CARD, 4, stage)
        await start(stage, bank=(4, 5), card=(4, 5), notary=(4, 5))
        ended = await stage.ended(stage.submit(job()))
        assert {status.failure.code for status in ended.values() if status.failure} == {"handshake.signature"}
        nothing_left(stage)
