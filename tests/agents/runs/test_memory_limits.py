"""Nobody makes a party, or a helper that has no table to compare with, take in or make more than its settings allow."""

from pathlib import Path
from typing import Any

from tercet.schemas.files.job import Network, canonical_digest
from tercet.schemas.files.settings import Limits
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Message, ScoringTerms, Terms
from tests.agents.scenes import BANK, COLUMNS, NOTARY, ROWS, job, nothing_left, off, prediction, scene, three

NARROW, WIDE = Network(hidden=(4,)), Network(hidden=(4096,) * 8)


OTHER_TERMS: list[tuple[dict[str, Any], Network, str]] = [
    ({"columns": (2**36, COLUMNS)}, NARROW, "job.batch"),
    ({"columns": (2**16, COLUMNS)}, WIDE, "job.batch"),
    ({}, WIDE, "job.batch"),
    ({"rows": 2**32, "columns": (2**16, COLUMNS)}, NARROW, "job.batch"),
    ({"rows": 0}, NARROW, "job.terms"),
    ({"columns": (0, COLUMNS)}, NARROW, "job.terms"),
]


async def test_the_helper_of_a_prediction_is_not_made_to_make_more_than_it_can_hold(tmp_path: Path) -> None:
    """It takes a prediction's numbers as they are, and asks what they cost before it makes anything."""
    others: dict[str, Any] = {}

    def tap(address: Address, message: Message) -> Message:
        changed = isinstance(message, Terms) and address.receiver == NOTARY
        return message.model_copy(update=others) if changed else message

    async with scene(three(tmp_path), tmp_path) as stage:
        trained = (await stage.run(job(release="shared")))[BANK].job
        await stage.stop()
        stage.tap = tap
        await stage.start()
        for changes, layers, code in OTHER_TERMS:
            scoring = ScoringTerms(
                model="logistic", release="shared", fx=13, f=26, network=layers, noise_bits=2, exponent=4
            )
            others |= {"rows": ROWS, "columns": (COLUMNS, COLUMNS), "scoring": scoring}
            others |= {"plan": canonical_digest("tercet scoring", scoring.model_dump())} | changes
            off(await stage.ended(stage.submit(prediction(trained).with_new_id())), code, BANK)


async def test_a_helper_refuses_to_deal_more_than_its_settings_allow(tmp_path: Path) -> None:
    """Although what comes to it is little, and what it deals not too much for who takes it in."""
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.change(NOTARY, limits=Limits(message_mib=1))
        ended = await stage.run(job(model="mlp", network=Network(hidden=(256, 256))))
        assert "message_mib at notary" in off(ended, "job.batch", BANK)
        nothing_left(stage)
