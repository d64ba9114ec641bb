"""A training in which the helper sees nothing goes on after a fault, also from the middle of an epoch.

Each attempt has fresh masks, which round otherwise: its model is the oracle's, who rounds alike from where it began.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.agents.session.checkpoint_store import table_folder
from tercet.mpc.arithmetic.ring import Words
from tercet.schemas.files.job import Evaluation, Network, TrainingJob
from tercet.schemas.messages.address import parse_address
from tercet.schemas.messages.kinds import MaskedInputs, MaskedLossLabels
from tests.agents.recovering import FOUR, STANDBY, THREE, Recovering, long_job, recovering, setup_of, states
from tests.agents.runs.test_takeover import ABLE, comes_back, crashes, hangs, reported
from tests.agents.scenes import BANK, CARD, NOTARY, on
from tests.agents.world import NOTHING

ALL = Evaluation(holdout=0.2, loss=True, held_out_loss=True)
NETWORK: dict[str, Any] = {"model": "mlp", "network": Network(hidden=(4, 3), activation="silu")}
SHAPES = {
    "logistic": long_job(privacy=NOTHING, epochs=3, batch=16, evaluation=ALL),
    "linear": long_job(privacy=NOTHING, epochs=3, batch=16, model="linear", rate=0.05, release="shared"),
    "network": long_job(privacy=NOTHING, epochs=3, batch=16, **NETWORK),
}
OBTAINED = long_job(privacy=NOTHING, standby=(STANDBY,))


async def fails_within_an_epoch(stage: Recovering, description: TrainingJob, party: str) -> str:
    """A party crashes as soon as both have a checkpoint that is not at an epoch's end, and is back at once."""
    name = await stage.begun(description, more_than=1)
    await stage.restart(party)
    return name


@pytest.mark.parametrize(("shape", "party"), [("linear", CARD), ("network", NOTARY)])
async def test_a_job_goes_on_from_its_last_checkpoint_and_is_exact(tmp_path: Path, shape: str, party: str) -> None:
    """Whoever was away."""
    async with recovering(tmp_path) as stage:
        name = await fails_within_an_epoch(stage, SHAPES[shape], party)
        runs = await stage.exact(name)
        assert runs[BANK].attempts.number > 1
        assert setup_of(runs[BANK]).context.first_step > 0


Sent = dict[tuple[str, str, str, int], Words]  # by kind, sender, receiver and step


def sent_rows(stage: Recovering) -> dict[int, Sent]:
    """Masked rows and labels that the parties have sent, by attempt."""
    found: dict[int, Sent] = defaultdict(dict)
    for address, message in stage.said_openly:
        if isinstance(message, MaskedInputs | MaskedLossLabels):
            assert address.epoch == 0
            found[address.attempt][message.kind, address.sender, address.receiver, address.step] = message.words
    return found


async def test_an_attempt_that_begins_within_an_epoch_is_exact(tmp_path: Path) -> None:
    """Its first epoch opens as many scores as there are steps left of it, and its loss is that of all its rows.

    Masked rows are found again after the restart: what was sent before the checkpoint is not sent again.
    """
    description = SHAPES["logistic"]
    for attempt in range(4):  # where the last checkpoint is depends on who is quick
        folder = tmp_path / str(attempt)
        async with recovering(folder) as stage:
            name = await fails_within_an_epoch(stage, description, BANK)
            runs = await stage.exact(name)
            losses = runs[BANK].context.history.losses
            assert len(losses) == description.training.epochs
            assert losses[-1] < losses[0]
            first = setup_of(runs[BANK]).context.first_step
            assert first > 1
            assert all(step >= first for *_, step in sent_rows(stage)[runs[BANK].attempts.number])
            assert not any(table_folder(folder / one, name).exists() for one in THREE)
            if first % setup_of(runs[BANK]).context.plan.steps_per_epoch:
                return
    pytest.fail("no attempt began within an epoch")


async def test_masked_rows_that_are_not_whole_are_sent_again(tmp_path: Path) -> None:
    """As the same words, for one mask must not meet two values; and all parties send theirs."""
    async with recovering(tmp_path) as stage:
        name = await stage.begun(SHAPES["logistic"], more_than=1)
        await stage.crash(CARD)
        stored = table_folder(tmp_path / CARD, name) / f"masked-training-{BANK}"
        stored.write_bytes(bytes(stored.stat().st_size))
        await stage.start(CARD)
        run = (await stage.exact(name))[BANK]
        attempts = sent_rows(stage)
        before, after = attempts[1], attempts[run.attempts.number]
        context = setup_of(run).context
        steps = range(min(context.first_step, context.plan.steps_per_epoch))
        pairs = [("masked inputs", BANK, CARD), ("masked inputs", CARD, BANK), ("masked labels", BANK, CARD)]
        again = [(*pair, step) for pair in pairs for step in steps]
        assert {*again} <= after.keys()
        assert all(np.array_equal(before[one], after[one]) for one in again)


async def test_a_network_is_narrowed_again_by_new_masks_after_a_fault_before_its_release(tmp_path: Path) -> None:
    """Its last step is done, and what opens its upper weights has left."""
    description = SHAPES["network"].model_copy(update={"evaluation": Evaluation()})
    for attempt in range(4):  # one may be done before its fault
        async with recovering(tmp_path / str(attempt)) as stage:
            await stage.start()
            name, narrowed = stage.submit(description), asyncio.Event()
            on(stage, lambda one: parse_address(one.address).item == "model-narrowing", narrowed.set)
            await asyncio.wait_for(narrowed.wait(), 60)
            await stage.saved(name, more_than=setup_of(stage.run_of(BANK, name)).context.plan.steps_total - 1)
            await stage.restart(BANK)
            runs = await stage.exact(name)
            if runs[BANK].attempts.number > 1 and setup_of(runs[BANK]).context.all_steps_done:
                return
    pytest.fail("no attempt began with all steps done")


@pytest.mark.parametrize(
    ("falls_silent", "description"),
    [(hangs, OBTAINED), (crashes, OBTAINED.model_copy(update=NETWORK))],
    ids=["hangs", "crashes in a network"],
)
async def test_a_second_helper_ends_what_the_first_has_begun(
    tmp_path: Path, falls_silent: Callable[[Recovering], None], description: TrainingJob
) -> None:
    """It deals its own words, and is told nothing of the first one's."""
    async with recovering(tmp_path, *FOUR) as stage:
        await stage.start()
        name = stage.submit(description)
        on(
            stage,
            lambda one: one.kind == "dealt shares" and parse_address(one.address).epoch == 2,
            lambda: falls_silent(stage),
        )
        await stage.until(lambda: stage.state(STANDBY, name) in {"aligned", "training", "released", "done"})
        await comes_back(stage)
        assert (await stage.exact(name)).keys() == {*ABLE}
        assert states(await stage.ended(name, NOTARY)) == {"done"}
        openings = {"masked inputs", "masked weights", "score opening", "output error opening", "dealt shares"}
        assert not reported(stage, STANDBY) & openings
        assert not reported(stage, NOTARY) & openings
