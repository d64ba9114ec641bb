"""A helper that deals wrong words ends a blind training at every party.

Which bundles are opened is fixed here: the first one of each group, so that the bank is the first to compare.
"""

from pathlib import Path

import numpy as np
import pytest

from tercet.agents.messaging.mailbox import Tap
from tercet.mpc.dealing.bundles import ChosenBundles
from tercet.schemas.files.job import Network, Privacy
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import DealtShares, Message
from tests.agents.runs.test_blind_faults import NETWORK
from tests.agents.runs.test_network_failures import left
from tests.agents.scenes import BANK, NOTARY, PATIENT, job, off, scene, three
from tests.agents.world import NOTHING

UNCHECKED = Privacy(helper_sees="nothing", checked=0.0, checks=0)
LINEAR = {"epochs": 2, "privacy": NOTHING}
KINDS = pytest.mark.parametrize("changes", [LINEAR, NETWORK | {"network": Network(hidden=(5,), activation="silu")}],
                                ids=["linear", "network"])  # fmt: skip


@pytest.fixture(autouse=True)
def _first_of_each_group(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = ChosenBundles._opened
    monkeypatch.setattr(ChosenBundles, "_opened", lambda self, place: min(opened(self, place), self._bundles.spare ^ 1))


def lying(which: int) -> Tap:
    """Change one of the words that the helper deals the bank with the first step."""

    def lie(address: Address, message: Message) -> Message:
        if not isinstance(message, DealtShares) or (address.receiver, address.epoch, address.step) != (BANK, 0, 0):
            return message
        words = message.words.copy()
        words[0, which] ^= np.uint64(1)
        return message.model_copy(update={"words": words})

    return lie


OF_BUNDLE, OF_ROWS = lying(-1), lying(0)


async def check_ended(folder: Path, changes: dict[str, object], tap: Tap, reason: str) -> None:
    """At every party, with the helper as culprit; no part of a model is left. The reason names no word and no step."""
    async with scene(three(folder, PATIENT), folder) as stage:
        stage.tap = tap
        said = off(await stage.run(job(**changes)), "dealing.wrong", NOTARY)
        assert reason in said
        assert not any(sign.isdigit() for sign in said)
        assert not left(folder)


@KINDS
async def test_a_helper_that_deals_a_wrong_word_of_an_opened_bundle_ends_the_job(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    """The party in turn has computed it."""
    await check_ended(tmp_path, changes, OF_BUNDLE, "does not follow from the keys")


@KINDS
async def test_so_does_one_that_deals_a_wrong_word_for_a_row(tmp_path: Path, changes: dict[str, object]) -> None:
    """The two parties that it is for have found different digests."""
    await check_ended(tmp_path, changes, OF_ROWS, "does not fit the masks")


@pytest.mark.parametrize("tap", [OF_BUNDLE, OF_ROWS], ids=["bundle", "rows"])
async def test_nobody_notices_where_nothing_is_checked(tmp_path: Path, tap: Tap) -> None:
    """The model is another one then."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        stage.tap = tap
        ended = await stage.run(job(**LINEAR | {"privacy": UNCHECKED}))
        assert {status.state for status in ended.values()} == {"done"}
