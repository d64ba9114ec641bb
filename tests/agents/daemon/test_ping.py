"""Agents tell their partners who they are, what they speak and what time it is, and nobody else."""

import asyncio
from pathlib import Path

import pytest

from tercet.agents.daemon import ping
from tercet.agents.messaging.control import control_envelope
from tercet.broker.interface import topology
from tercet.broker.interface.base import Envelope
from tercet.broker.sealing.identity import Identity
from tercet.schemas.messages.address import Address, Round
from tercet.schemas.messages.kinds import PROTOCOL_VERSION, Message, Ping, Pong
from tests.agents.daemon.stage import started
from tests.agents.scenes import BANK, CARD, NOTARY, Scene, scene, stranger, three

TOKEN = "ping-0123456789abcdef"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not answer is not waited for long."""
    monkeypatch.setattr(ping, "ANSWER_SECONDS", 0.3)


def letter(stage: Scene, message: Message, identity: Identity, sender: str, receiver: str) -> Envelope:
    """A ping or a pong, sealed with some key in the name of some party."""
    address = Address(TOKEN, 0, Round.CONTROL, message.item, 0, 0, sender, receiver)
    key = topology.announce_key(TOKEN, receiver)
    return control_envelope(message, address, identity, stage.parties[receiver][1].public, routing_key=key)


PING = Ping(lowest=1, highest=9, release="0.0.1")
PONG = Pong(lowest=1, highest=9, release="0.0.1", role="data", time=0.0)


async def test_a_console_is_told_versions_roles_and_clocks_of_its_partners(tmp_path: Path) -> None:
    """Each has answered for itself, and its clock is this machine's."""
    async with started(tmp_path) as stage:
        async with stage.console(BANK) as console:
            answer = await console.partners()
        assert {found.party: found.role for found in answer.partners} == {CARD: "data", NOTARY: "helper"}
        for found in answer.partners:
            assert found.answered
            assert found.lowest <= PROTOCOL_VERSION <= found.highest
            assert found.release
            assert abs(found.clock or 9) < 1


@pytest.mark.usefixtures("impatient")
async def test_a_partner_that_is_away_or_does_not_know_us_has_not_answered(tmp_path: Path) -> None:
    """And the other's answer is told all the same."""
    settings = three(tmp_path)
    async with scene(settings, tmp_path) as stage:
        stage.change(CARD, partners={BANK: stranger(), NOTARY: stage.parties[CARD][0].partners[NOTARY]})
        await stage.start()
        await stage.stop(NOTARY)
        async with stage.console(BANK) as console:
            answer = await console.partners()
        assert {found.party: found.answered for found in answer.partners} == {CARD: False, NOTARY: False}


async def test_a_ping_that_no_partner_has_sealed_is_not_answered(tmp_path: Path) -> None:
    """Neither a stranger's in a partner's name, nor one in the party's own."""
    async with started(tmp_path, BANK) as stage:
        stage.memory_broker.accept(letter(stage, PING, Identity.generate(), CARD, BANK), CARD)
        stage.memory_broker.accept(letter(stage, PING, stage.parties[BANK][1], BANK, BANK), BANK)
        async with stage.console(BANK) as console:  # whose question comes after them
            await console.query()
        assert stage.said("pong") == []


async def test_a_partner_that_pings_without_end_is_answered_a_few_times(tmp_path: Path) -> None:
    """So that it cannot make an agent fill the broker."""
    async with started(tmp_path) as stage:
        for _ in range(3 * ping.MOST_ANSWERS):
            stage.memory_broker.accept(letter(stage, PING, stage.parties[CARD][1], CARD, BANK), CARD)
        await stage.until(lambda: len(stage.said("pong")) == ping.MOST_ANSWERS)
        async with stage.console(BANK) as console:
            await console.query()
        assert len(stage.said("pong")) == ping.MOST_ANSWERS


@pytest.mark.usefixtures("impatient")
async def test_an_answer_that_nobody_asked_for_is_dropped(tmp_path: Path) -> None:
    """A partner cannot answer for another, nor ahead of the question."""
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.change(CARD, partners={BANK: stranger()})  # so that it does not answer by itself
        await stage.start(BANK, CARD)
        stage.memory_broker.accept(letter(stage, PONG, stage.parties[CARD][1], CARD, BANK), CARD)
        async with stage.console(BANK) as console:
            asking = asyncio.create_task(console.partners())
            await stage.until(lambda: bool(stage.said("ping")))
            stage.memory_broker.accept(letter(stage, PONG, stage.parties[CARD][1], CARD, BANK), CARD)
            assert not any(found.answered for found in (await asking).partners)
