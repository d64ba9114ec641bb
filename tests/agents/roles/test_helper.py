"""The helper's part as the other parties see it: what it says when scores leave the range."""

import numpy as np

from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Message, PreactivationShare
from tests.agents.world import HELPER, Sample, exact


def out_of_range(_: Address, message: Message) -> Message:
    """Pre-activations beyond what the plan allows."""
    if isinstance(message, PreactivationShare) and _.sender == "bank":
        return message.model_copy(update={"words": message.words + np.uint64(1 << 62)})
    return message


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
