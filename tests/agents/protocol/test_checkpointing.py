"""Where a training goes on from, and that it is then what it would have been: weights, losses, metrics, its last epoch.

What is on the disk is the store's business; which attempts there are is the run's.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tercet.agents.protocol.checkpointing import CheckpointWriter, last_common
from tercet.agents.session.history import History
from tercet.agents.simulation.simulate import Simulation, bit_exact
from tercet.mpc.linear.helper import LinearHelper
from tercet.mpc.plan.schedule import Step
from tercet.schemas.files.job import EarlyStopping, Evaluation, Network
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.messages.kinds import HeldCheckpoint, HeldOutLossShare, Message
from tests.agents.recovering import (
    DATA,
    THREE,
    Recovering,
    files,
    furthest,
    long_job,
    parts,
    recovering,
    same_parts,
    setup_of,
    states,
    undisturbed,
)
from tests.agents.scenes import BANK, CARD, NOTARY, job

ONE, OTHER = b"1" * 32, b"2" * 32


def held(steps: int, lineage: bytes = ONE, *, over: bool = False) -> HeldCheckpoint:
    """What a party says that it has."""
    return HeldCheckpoint(lineage=lineage, steps=steps, over=over)


# --- what all have


@pytest.mark.parametrize(
    ("all_held", "common"),
    [
        ([[held(4), held(2)], [held(4), held(2)]], held(4)),
        ([[held(4), held(2)], [held(2)]], held(2)),
        ([[held(4), held(2)], [held(6), held(4)]], held(4)),
        ([[held(4)], [held(2)]], None),
        ([[held(4)], []], None),
        ([[], []], None),
        ([[held(4, ONE), held(2, ONE)], [held(4, OTHER), held(2, ONE)]], held(2, ONE)),
        ([[held(4, ONE)], [held(4, OTHER)]], None),
        ([[held(4, over=True), held(4)], [held(4)]], held(4)),
        ([[held(4, over=True), held(4)], [held(4), held(4, over=True)]], held(4, over=True)),
        ([[held(6), held(4)], [held(6), held(4)], [held(4)]], held(4)),
    ],
)
def test_it_goes_on_from_the_furthest_that_all_have_of_one_history(
    all_held: Sequence[Sequence[HeldCheckpoint]], common: HeldCheckpoint | None
) -> None:
    """Shares of one step but of two histories do not add up to a model."""
    assert last_common(all_held) == common


HELD = st.builds(held, st.integers(1, 5), st.sampled_from([ONE, OTHER]), over=st.booleans())


@given(st.lists(st.lists(HELD, max_size=4), min_size=2, max_size=4))
def test_whatever_the_parties_have_nothing_is_chosen_that_one_lacks(all_held: list[list[HeldCheckpoint]]) -> None:
    """And nothing that is further on is passed over."""
    common = last_common(all_held)
    everybodys = [one for one in all_held[0] if all(one in theirs for theirs in all_held)]
    assert (common in everybodys) if everybodys else common is None
    assert all(one.steps <= common.steps for one in everybodys if common is not None)


async def test_a_party_without_its_latest_checkpoint_takes_the_others_back_to_the_one_before(tmp_path: Path) -> None:
    """Whose later one is removed then, being of a history that does not go on."""
    same = undisturbed(long_job())
    async with recovering(tmp_path) as stage:
        await stage.start()
        name = stage.submit(long_job())
        await stage.until(lambda: all(len(files(stage.state_folder(party), name)) > 1 for party in DATA))
        await stage.crash(CARD)
        lost = files(stage.state_folder(CARD), name)[0]
        lost.unlink()
        await stage.start(CARD)
        await stage.until(lambda: stage.agents[BANK].status(name)[0].attempt > 1 and trains(stage, name))
        assert 0 < setup_of(stage.run_of(BANK, name)).context.first_step < int(lost.name.split("-")[0])
        assert lost.name not in {path.name for path in files(stage.state_folder(BANK), name)}
        await stage.saved(name, more_than=setup_of(stage.run_of(BANK, name)).context.first_step)
        assert lineage(files(stage.state_folder(BANK), name)[0]) != lineage(lost)
        assert states(await stage.ended(name)) == {"done"}
        assert same_parts(parts(tmp_path, name), same.parts)


def lineage(path: Path) -> str:
    """Of a checkpoint, by its name."""
    return path.stem.split("-")[1]


def trains(stage: Recovering, name: str) -> bool:
    """Whether the label party is in training, or further."""
    return stage.state(BANK, name) in {"training", "released"}


# --- which steps end with one


def heard_of_checkpoints(written: dict[int, int], *, between: bool) -> list[tuple[bool, bool]]:
    """What two partners hear of eight steps; `written` says which checkpoint everybody has, once a step is decided.

    Or once the first partner has its message, and not yet the second (`between`)."""
    common = 0
    context: Any = SimpleNamespace(
        session=SimpleNamespace(secrets=SimpleNamespace(transcript=bytes(32))),
        first_step=0,
        settings=SimpleNamespace(recovery=Recovery(checkpoint_steps=2, checkpoint_seconds=3600)),
        common_checkpoint=lambda: common,
        plan=SimpleNamespace(steps_total=8),
    )
    nothing: Any = None
    steps = [Step(k, 0, k, 0, 1, 1.0, 1.0, 1.0) for k in range(8)]

    async def asked() -> list[tuple[bool, bool]]:
        nonlocal common
        writer = CheckpointWriter(context, nothing, None, nothing)
        heard = []
        for step in steps:
            first, news = writer.decide_due(step), written.get(step.index, common)
            common = news if between else common
            heard.append((first, writer.decide_due(step)))
            common = news
        return heard

    return asyncio.run(asked())


YES, NO = (True, True), (False, False)


def test_all_partners_hear_that_a_step_ends_with_a_checkpoint() -> None:
    """Each has a message of its own, for which the label party is asked anew; so is who has not written the last.

    The last step has none of that kind: an attempt that went on from it would have no step to begin with."""
    assert heard_of_checkpoints({4: 2, 5: 6}, between=False) == [NO, YES, NO, NO, NO, YES, NO, NO]


def test_all_partners_hear_the_same_of_a_step_whatever_happens_between_two_messages() -> None:
    """A checkpoint that becomes due just then waits for the next step."""
    assert heard_of_checkpoints({4: 2}, between=True) == [NO, YES, NO, NO, NO, YES, NO, NO]


# --- what comes after it

SMALL = {"batch": 8, "epochs": 5}  # many steps an epoch, so that most checkpoints are in the middle of one
JOBS = {
    "losses, metrics and early stopping on the held-out loss": long_job(
        "told",
        evaluation=Evaluation(holdout=0.25, metrics="epoch", loss=True, loss_to="all", held_out_loss=True),
        early_stopping=EarlyStopping(on="held_out_loss", patience=3),
        **SMALL | {"epochs": 6},  # the first ones are no better than a constant
    ),
    "a first epoch that stays the best": long_job(
        "stops-well",
        evaluation=Evaluation(metrics="epoch", holdout=0.25),
        early_stopping=EarlyStopping(on="log_loss", patience=6),
        rate=0.1,
        **SMALL | {"epochs": 6},
    ),
}


@pytest.mark.parametrize("kind", JOBS)
async def test_what_is_told_of_a_training_that_goes_on_is_what_would_have_been(tmp_path: Path, kind: str) -> None:
    """Each loss and metric, which epoch was the best, and the scores of the held-out rows."""
    description = JOBS[kind]
    same = undisturbed(description)
    async with recovering(tmp_path) as stage:
        await stage.start()
        name = stage.submit(description)
        await stage.until(lambda: in_mid_epoch(stage, name, 72 // int(description.training.batch)))
        await stage.restart(NOTARY)
        assert states(await stage.ended(name)) == {"done"}
        assert stage.runs[BANK, name].attempts.furthest > 0
        history = stage.runs[BANK, name].context.history
        assert (history.losses, history.metrics) == (same.history.losses, same.history.metrics)
        assert history.held_out_losses == same.history.held_out_losses
        opened = reported_again(stage, HeldOutLossShare)
        assert len(opened) == len(same.history.held_out_losses), "an epoch without its loss, or one too many"
        assert history.best_epoch == same.history.best_epoch
        assert np.array_equal(some(history.scores), some(same.history.scores))
        assert same_parts(parts(tmp_path, name), same.parts)
        assert history.losses or history.metrics or history.held_out_losses


def reported_again(stage: Recovering, model: type[Message]) -> set[int]:
    """The epochs of which this was said, in any attempt."""
    return {address.epoch for address, message in stage.said_openly if type(message) is model}


def in_mid_epoch(stage: Recovering, name: str, per_epoch: int) -> bool:
    """Whether the last checkpoint of both is the same, after the first epoch and within another."""
    steps = {furthest(stage.state_folder(party), name) for party in DATA}
    return len(steps) == 1 and all(count > per_epoch and count % per_epoch for count in steps)


def some(scores: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """What there is of them."""
    return np.empty(0) if scores is None else scores


@pytest.mark.parametrize("activation", ["relu", "tanh"])
async def test_a_network_that_goes_on_is_what_it_would_be_from_there(tmp_path: Path, activation: str) -> None:
    """It rounds by dealt masks, which are fresh: so it is the oracle's of the last attempt, from where that begins."""
    network = Network.model_validate({"hidden": (4, 3), "activation": activation})
    description = long_job("net", model="mlp", network=network, rate=0.1, epochs=5)
    async with recovering(tmp_path) as stage:
        name = await stage.begun(description)
        await stage.restart(CARD)
        assert states(await stage.ended(name)) == {"done"}
        assert stage.runs[BANK, name].attempts.furthest > 0
        assert bit_exact(Simulation(description, {party: stage.runs[party, name] for party in THREE}))


# --- what an attempt says anew

AHEAD = ("masked inputs", "masked labels", "masked weights", "gradient share")
MASKED = (*AHEAD, "pre-activation share", "masked activation")


async def test_each_attempt_masks_the_same_values_with_fresh_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No word of one step is the same in two attempts; what the helper opens is, and what was drawn for the order."""
    opened: dict[int, list[NDArray[Any]]] = {}
    answer = LinearHelper.masked_activations

    def seen(self: LinearHelper, step: Step, shares: Any) -> Any:
        answers = answer(self, step, shares)
        opened.setdefault(step.index, []).append(np.array(self.scores))
        return answers

    monkeypatch.setattr(LinearHelper, "masked_activations", seen)
    async with recovering(tmp_path, recovery=Recovery()) as stage:  # no checkpoint: all steps are done again
        await stage.start()
        name = stage.submit(job(epochs=8))
        await stage.until(lambda: len(opened) > 10)
        await stage.restart(CARD)
        assert states(await stage.ended(name)) == {"done"}
    assert_fresh(stage)
    twice = [scores for scores in opened.values() if len(scores) > 1]
    assert len(twice) > 5
    assert all(np.array_equal(scores[0], each) for scores in twice for each in scores)


def assert_fresh(stage: Recovering) -> None:
    """Check that every kind of what is masked was said in two attempts, with not a word in common."""
    for kind in MASKED:
        reported = words_of(stage, kind)
        for first, *again in reported.values():
            assert not any(np.any(first == each) for each in again), kind
        assert any(len(each) > 1 for each in reported.values()), kind


def words_of(stage: Recovering, kind: str) -> dict[tuple[str, str, int, int], list[NDArray[np.uint64]]]:
    """What was said of a kind, attempt by attempt: by sender, receiver, epoch and step."""
    reported: dict[tuple[str, str, int, int], list[NDArray[np.uint64]]] = {}
    for address, message in stage.said_openly:
        if message.kind == kind:
            place = (address.sender, address.receiver, address.epoch, address.step)
            reported.setdefault(place, []).append(message.words)  # type: ignore[attr-defined]
    return reported


def test_what_is_noted_of_a_history_does_not_go_on_with_it() -> None:
    """A checkpoint is written beside the steps, while losses of later epochs come in."""
    history = History(losses=[0.7], held_out_losses=[0.8], metrics={0: {"auc": 0.6}})
    arrays, facts = history.to_checkpoint()
    history.losses.append(0.6)
    history.held_out_losses.append(0.75)
    history.metrics[1] = {"auc": 0.7}
    assert (facts["losses"], facts["metrics"]) == ([0.7], [(0, {"auc": 0.6})])
    again = History()
    again.restore(arrays, facts)
    assert (again.held_out_losses, again.value(0, "held_out_loss")) == ([0.8], 0.8)
