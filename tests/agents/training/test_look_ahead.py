"""The pipeline of a training: whatever is late and however far each party looks ahead, it goes on and ends the same."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tercet.agents.simulation.simulate import Simulation, bit_exact, simulate_job
from tercet.broker.interface.base import Envelope
from tercet.broker.memory.broker import MemoryBroker
from tercet.broker.memory.memory_queue import Delay, Fault
from tercet.schemas.files.job import EarlyStopping, Evaluation
from tercet.schemas.files.settings import Limits
from tercet.schemas.messages.address import Address, parse_address
from tercet.schemas.messages.kinds import EpochDecision, MaskedInputs, MaskedWeights, Message
from tests import virtual_time
from tests.agents.world import LIMIT_SECONDS, Sample, few_rows

STOPPING = Sample(
    (4, 4, 3),
    rows=120,
    epochs=5,
    evaluation=Evaluation(holdout=0.2, metrics="epoch", loss=True),
    early_stopping=EarlyStopping(on="loss", patience=1, least_gain=0.01),
)


class Run:
    """What was said, and each envelope that carried it, in the order in which senders handed them over."""

    def __init__(self, sample: Sample, ahead: Sequence[int], delayed: dict[tuple[str, str], float]) -> None:
        self.sample, self.ahead, self.delayed = sample, ahead, delayed
        self.said: list[tuple[Address, Message]] = []
        self.envelopes: list[Address] = []

    def done(self, folder: Path) -> Simulation:
        """To the end; party number i looks `ahead[i]` steps ahead, and what is late comes later."""
        return virtual_time.run(self._simulated(folder))

    async def _simulated(self, folder: Path) -> Simulation:
        own = self.sample.settings(folder)
        for number, party in enumerate(own):
            limits = few_rows(Limits(min_rows=1, max_scorings=64, look_ahead=self.ahead[number % len(self.ahead)]))
            own[party] = own[party].model_copy(update={"limits": limits})
        memory_broker = MemoryBroker(
            faults=self._faults, tap=lambda envelope: self.envelopes.append(parse_address(envelope.address))
        )
        async with asyncio.timeout(LIMIT_SECONDS):
            return await simulate_job(self.sample.description(), own, folder, tap=self._hear, broker=memory_broker)

    def _faults(self, envelope: Envelope, _queue: str) -> list[Fault]:
        seconds = self.delayed.get((envelope.sender, envelope.kind), 0.0)
        return [Delay(seconds)] if seconds else []

    def _hear(self, address: Address, message: Message) -> Message:
        self.said.append((address, message))
        return message


def alone(run: Run) -> int:
    """How many envelopes carried masked weights and nothing else."""
    return sum(address.item == MaskedWeights.item and address.round == MaskedWeights.round for address in run.envelopes)


@settings(max_examples=2, deadline=None, derandomize=True)
@given(
    ahead=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    delayed=st.dictionaries(
        st.tuples(
            st.sampled_from(["bank", "card", "telco", "notary"]),
            st.sampled_from(["masked inputs", "masked weights", "pre-activation share", "masked activation"]),
        ),
        st.sampled_from([0.002, 0.01]),
        max_size=4,
    ),
    stopping=st.booleans(),
)
@example(ahead=[1], delayed={}, stopping=False)
@example(ahead=[1, 7], delayed={("card", "masked inputs"): 0.01}, stopping=True)
@example(ahead=[7], delayed={("bank", "masked inputs"): 0.02, ("card", "masked weights"): 0.02}, stopping=True)
def test_no_party_waits_for_ever_whatever_is_late(tmp_path_factory, ahead, delayed, stopping):
    """Look-aheads may differ between parties, and the model is the oracle's."""
    sample = STOPPING if stopping else Sample((4, 4, 3), batch=32)
    simulation = Run(sample, ahead, delayed).done(tmp_path_factory.mktemp("steps"))
    assert simulation.done, simulation.label_run.failure
    assert bit_exact(simulation)


def test_masked_weights_travel_with_masked_inputs(tmp_path):
    """What a small message costs is mostly its envelope. Few go alone: where no inputs follow, or those are late."""
    run = Run(Sample((5, 5), rows=300, batch=32), [4], {})
    assert run.done(tmp_path).done
    inputs = sum(isinstance(message, MaskedInputs) for _, message in run.said)
    weights = sum(isinstance(message, MaskedWeights) for _, message in run.said)
    assert inputs == weights == 2 * 18
    assert alone(run) < weights / 3


def test_masked_weights_that_would_come_late_do_not_wait_for_masked_inputs(tmp_path):
    """Where a partner's inputs are long under way, weights leave as soon as they can, though nothing else does."""
    run = Run(Sample((5, 5), rows=300, batch=32, epochs=1), [2], {("card", "masked inputs"): 0.03})
    assert run.done(tmp_path).done
    assert alone(run) > 0


@pytest.mark.parametrize("ahead", [1, 4])
def test_nothing_of_an_epoch_leaves_before_it_is_known_that_there_is_one(tmp_path, ahead):
    """Neither inputs nor weights, from no data party; and nothing of one that there is not."""
    run = Run(STOPPING, [ahead], {})
    simulation = run.done(tmp_path)
    assert simulation.done
    label = simulation.description.label
    decided: set[int] = set()
    for address, message in run.said:
        if isinstance(message, EpochDecision) and address.sender == label and message.go_on:
            decided.add(address.epoch)
        if isinstance(message, MaskedInputs | MaskedWeights):
            assert address.epoch == 0 or address.epoch - 1 in decided
