"""What befalls jobs of networks beside what befalls any job: wrong shapes, cancellation, and jobs that are refused.

Each ends everywhere with the same reason, and names whose fault it is.
"""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tercet.broker.interface.base import Envelope
from tercet.mpc.network.data_party import NetworkParty
from tercet.mpc.network.helper import NetworkHelper
from tercet.mpc.plan.schedule import Step
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import Evaluation, Network, read_job
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import (
    DealtShares,
    Message,
    ScoringHiddenShare,
)
from tests.agents.scenes import (
    BANK,
    CARD,
    NOTARY,
    PATIENT,
    SHARES,
    Scene,
    job,
    nothing_left,
    off,
    prediction,
    scene,
    three,
)

NETWORK = Network(hidden=(5, 4), activation="tanh")  # whose slopes have fractional bits, so that there are all messages
EVALUATED = Evaluation(holdout=0.25, metrics="epoch", loss=True)


def network(*hidden: int, output: str) -> Network:
    """One of ReLU."""
    return Network.model_validate({"hidden": hidden, "output": output})


def network_job(**changes: Any) -> Any:
    """A dozen steps of a small network."""
    return job(**{"model": "mlp", "network": NETWORK, "evaluation": EVALUATED} | changes)


# --- what is wrong


def shorter(sender: str, model: type[Message]) -> Callable[[Address, Message], Message]:
    """A tap that takes a word, or a row, off everything of one kind that one party says."""

    def tap(address: Address, message: Message) -> Message:
        if address.sender != sender or type(message) is not model:
            return message
        words = message.words  # type: ignore[attr-defined]
        return model.model_validate({"words": words[:, :-1] if words.shape[1] > 1 else words[:-1]})

    return tap


async def test_a_tensor_of_another_shape_is_blamed_on_its_sender(tmp_path: Path) -> None:
    """At once, in whichever of a party's loops it is found: the others of them wait in vain for much longer.

    That the shape of each message is looked at is seen in test_waits.
    """
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        stage.tap = shorter(NOTARY, DealtShares)
        reason = off(await stage.run(network_job()), "message.shape", NOTARY)
        assert "of a wrong shape" in reason


async def test_a_network_that_diverges_is_stopped_with_what_to_change(tmp_path: Path) -> None:
    """A hidden value or a score leaves the range; no later step is taken, and nobody keeps anything."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        diverging = {"network": network(16, output="linear"), "rate": 4.0, "epochs": 60, "evaluation": Evaluation()}
        ended = await stage.run(network_job(**diverging), CARD)
        assert "smaller rate" in off(ended, "training.diverged", CARD)
        assert not left(tmp_path)


BESIDE = [(NetworkParty, "prepare"), (NetworkHelper, "deal")]


@pytest.mark.parametrize(("role", "name"), BESIDE, ids=lambda one: getattr(one, "__name__", one))
async def test_a_bug_in_a_loop_beside_the_steps_fails_the_job_and_is_not_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: type, name: str
) -> None:
    """The loop that it happens in is not the one that the step waits in."""
    real, culprit = getattr(role, name), NOTARY if role is NetworkHelper else CARD

    def broken(self: Any, step: Step, *rest: Any) -> Any:
        if step.epoch == 1 and getattr(self, "me", 1) == 1:
            raise LookupError("a bug of ours")
        return real(self, step, *rest)

    monkeypatch.setattr(role, name, broken)
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        off(await stage.run(network_job()), "agent.error", culprit)
        assert not left(tmp_path)


def left(folder: Path) -> list[Path]:
    """What parties have kept of jobs beside their records."""
    return [*folder.glob("*/models/*"), *folder.glob("*/work/*")]


# --- a job that is ended by hand


async def test_a_job_that_is_cancelled_in_mid_pass_leaves_nothing(tmp_path: Path) -> None:
    """No model part, no working file, no task, no queue; and no party thinks that something went wrong."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        cancelled: list[str] = []

        def look(envelope: Envelope) -> None:
            own(envelope)
            said = envelope.sender, envelope.kind
            if not cancelled and said == (CARD, ScoringHiddenShare.kind):
                cancelled.append(envelope.job)
                asyncio.get_running_loop().call_soon(stage.agents[CARD].cancel, envelope.job)

        own = stage.memory_broker.tap
        stage.memory_broker.tap = look
        with capture_logs() as logs:
            ended = await stage.run(network_job())
        assert cancelled
        assert {status.state for status in ended.values()} == {"cancelled"}
        assert not [line for line in logs if line["log_level"] in {"error", "critical"}]
        assert not left(tmp_path)


# --- jobs that are refused


JOB = """
name = "credit"
model = "mlp"
label = "bank"
helper = "notary"
[tables]
bank = "customers"
card = "customers"
[training]
epochs = 4
batch = 32
rate = 0.1
[network]
{network}
"""


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ('hidden = [8]\nactivation = "swish"', ("network.activation", "'relu'", "'softplus'")),
        ("hidden = []", ("network.hidden", "at least 1")),
        ("hidden = [0]", ("network.hidden.0", "greater than or equal to 1")),
        ("hidden = [5000]", ("network.hidden.0", "4096")),
        ("hidden = [1, 1, 1, 1, 1, 1, 1, 1, 1]", ("network.hidden", "at most 8")),
        ('hidden = [8]\noutput = "gamma"', ("network.output", "'poisson'")),
        ("hidden = [8]\ndropout = 0.5", ("`dropout` under [network]", "hidden, activation, output")),
    ],
)
def test_a_job_file_with_a_network_that_there_is_not_says_what_there_is(
    tmp_path: Path, network: str, words: tuple[str, ...]
) -> None:
    """Before it is announced to anybody."""
    path = tmp_path / "job.toml"
    path.write_text(JOB.format(network=network), encoding="utf-8")
    with pytest.raises(Invalid) as refused:
        read_job(path)
    assert all(word in str(refused.value) for word in words), refused.value


async def test_a_network_that_does_not_fit_into_the_words_is_refused_before_any_share_leaves(tmp_path: Path) -> None:
    """Whoever submitted it is told what to change."""
    async with scene(three(tmp_path), tmp_path) as stage:
        deep = network_job(evaluation=Evaluation(), network=Network(hidden=(4096,) * 8), rate=50.0)
        assert "rate" in off(await stage.run(deep, CARD), "job.plan", CARD)
        nothing_left(stage)


async def test_a_prediction_by_a_network_of_other_parts_is_refused(tmp_path: Path) -> None:
    """Shares of two runs do not add up to anything."""
    async with scene(three(tmp_path), tmp_path) as stage:
        trained = await stage.run(network_job())
        other = await stage.run(network_job(again="1"))
        models = [tmp_path / CARD / "models" / ended[CARD].job for ended in (trained, other)]
        shutil.rmtree(models[0])
        models[1].rename(models[0])
        ended = await stage.run(prediction(trained[BANK].job))
        off(ended, "model.differs", CARD)
        nothing_left_since(stage, prediction(trained[BANK].job).id)


def nothing_left_since(stage: Scene, job_id: str) -> None:
    """No share of this job has been handed to the broker."""
    assert not {envelope.kind for envelope in stage.envelopes if envelope.job == job_id} & SHARES
