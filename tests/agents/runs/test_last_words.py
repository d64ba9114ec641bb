"""Who is done leaves soon: nobody waits for a party that has heard enough and is gone."""

import asyncio
from pathlib import Path

import pytest

from tercet.broker.interface.base import Envelope
from tercet.broker.interface.clock import loop_time
from tercet.broker.interface.outbox import ATTEMPT_SECONDS, PAUSES
from tercet.schemas.messages.address import parse_address
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, Scene, job, prediction, scene, three

LONG = PATIENT.model_copy(update={"fit": 200, "terms": 400})  # as in the defaults, far longer than the release


class Silent:
    """Takes what the notary says to the card processor of the second job's release, and does not confirm it."""

    def __init__(self, times: int) -> None:
        self._left, self._first = times, ""

    async def __call__(self, envelope: Envelope) -> None:
        """Confirm what a sender has handed over, or never return."""
        address = parse_address(envelope.address)
        self._first = self._first or address.job
        way = envelope.kind, address.sender, address.receiver
        if address.job != self._first and way == ("released", NOTARY, CARD) and self._left:
            self._left -= 1
            await asyncio.Event().wait()


async def released(stage: Scene, kind: str) -> str:
    """A job that is done at all who train, after another one; its id."""
    await stage.start()
    of = stage.submit(job(accept_narrow=True))
    await stage.ended(of)
    name = stage.submit(job("another") if kind == "training" else prediction(of))
    await stage.ended(name, BANK, CARD)
    return name


@pytest.mark.parametrize("kind", ["training", "prediction"])
async def test_what_is_not_confirmed_to_a_party_that_has_left_is_given_up(tmp_path: Path, kind: str) -> None:
    """It has arrived, and the receiver is gone before it is said again; no queue takes it then."""
    async with scene(three(tmp_path, LONG), tmp_path, confirm=Silent(1)) as stage:
        name = await released(stage, kind)
        since = loop_time()
        ended = await stage.ended(name)
    assert {status.state for status in ended.values()} == {"done"}
    assert ATTEMPT_SECONDS - 1 < loop_time() - since < ATTEMPT_SECONDS + PAUSES[-1] < LONG.release


async def test_what_is_never_confirmed_is_waited_for_once(tmp_path: Path) -> None:
    """Before the job is done here; after that for no longer than for any heartbeat."""
    async with scene(three(tmp_path, LONG), tmp_path, confirm=Silent(1000)) as stage:
        name = await released(stage, "prediction")
        await stage.until(lambda: stage.state(NOTARY, name) == "done")
        since = loop_time()
        await stage.ended(name)
    assert loop_time() - since < LONG.verdict + 0.1
