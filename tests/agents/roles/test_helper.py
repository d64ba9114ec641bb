"""The helper's part as the other parties see it: what it is told, and what it says when scores leave the range."""

import numpy as np
import pytest

from tercet.schemas.files.job import Evaluation
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import (
    AlignedRows,
    Message,
    OrderCommitment,
    OrderConfirmation,
    OrderContribution,
    PreactivationShare,
)
from tests.agents.world import HELPER, Sample, exact


def out_of_range(_: Address, message: Message) -> Message:
    """Pre-activations beyond what the plan allows."""
    if isinstance(message, PreactivationShare) and _.sender == "bank":
        return message.model_copy(update={"words": message.words + np.uint64(1 << 62)})
    return message


@pytest.mark.parametrize("alignment", ["helper", "ecdh", "aligned"])
def test_nothing_about_the_order_or_the_keys_of_ids_is_ever_told_to_the_helper(alignment: str) -> None:
    """It has a queue for pseudonyms, into which nothing else of the alignment may go."""
    reported: dict[type[Message], set[str]] = {}

    def look(address: Address, message: Message) -> Message:
        reported.setdefault(type(message), set()).add(address.receiver)
        return message

    sample = Sample(alignment=alignment, evaluation=Evaluation(holdout=0.2, metrics="epoch", loss=True))
    simulation, same = exact(sample, tap=look)
    assert (simulation.done, same) == (True, True)
    for model in (OrderCommitment, OrderContribution, OrderConfirmation, AlignedRows):
        assert reported[model] == set(sample.parties)


def test_a_divergence_is_told_with_its_step_and_its_remedy_once() -> None:
    """At every party in the same words."""
    simulation, _ = exact(Sample(), tap=out_of_range)
    failures = {party: run.failure for party, run in simulation.runs.items()}
    assert failures.keys() >= {"bank", "card", HELPER}
    reasons = {failure.reason for failure in failures.values() if failure is not None}
    (reason,) = reasons
    assert {failure.code for failure in failures.values() if failure is not None} == {"training.diverged"}
    assert reason.startswith("step 0: ")
    assert [reason.count(word) for word in ("step", "smaller", "rate")] == [1, 1, 1]
    assert reason.endswith("; run the job again with a smaller rate or a faster decay")
