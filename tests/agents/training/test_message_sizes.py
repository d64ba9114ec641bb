"""What the steps of a network send ahead and how large it is, and how a trace tells of them.

That the network is right is looked at in test_networks.
"""

import pytest

from tercet.agents.protocol.flow_control import largest_batch, largest_message, words_ahead
from tercet.schemas.files.settings import Limits
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import (
    DealtShares,
    MaskedInputs,
    MaskedLabels,
    MaskedWeights,
    MaskOpenings,
    Message,
)
from tests import virtual_time
from tests.agents.networks import (
    mlp,
    name,
)
from tests.agents.recording import hear
from tests.agents.scenes import SHARES
from tests.agents.world import HELPER, few_rows, run

# --- the trace


def test_a_trace_counts_steps_whatever_layer_a_message_is_of(tmp_path):
    """Messages of hidden layers are addressed by step and layer; in a trace they belong to their step."""
    simulation = virtual_time.run(run(mlp((5, 4), 4, 3, 3, rows=200, batch=40, activation="tanh"), tmp_path))
    for party, one in simulation.runs.items():
        stored = one.context.trace._steps
        assert [step.step for step in stored] == list(range(1, 10))
        waits = {
            (step.step, event.what, event.step) for step in stored for event in step.events if event.kind == "wait"
        }
        online = "hidden share" if party == HELPER else "error opening"
        assert {step for step, what, _ in waits if what == online} <= set(range(1, 10))
        assert all(step == of for step, what, of in waits if what == online)
        assert max(event.step for step in stored for event in step.events) == 9


# --- memory


AHEAD = (MaskedInputs, MaskOpenings, MaskedLabels, MaskedWeights, DealtShares)


@pytest.mark.parametrize("sample", [
    mlp((6, 7), 8, 6, rows=240, batch=120, epochs=1),
    mlp((6, 7), 24, rows=240, batch=120, epochs=1, activation="tanh", label=1, output="softmax"),
    mlp((4, 5, 4), 8, 5, 3, rows=240, batch=120, epochs=1, activation="gelu", l2=0.1),
], ids=name)  # fmt: skip
def test_the_look_ahead_counts_what_is_on_its_way(sample, tmp_path):
    """All words of the largest step that one party sends and receives ahead of it; not many more are counted."""
    found = hear(sample, tmp_path)
    words = dict.fromkeys((*sample.parties, HELPER), 0)
    for address, message in found.ear.said:
        if isinstance(message, AHEAD) and (address.epoch, address.step) == (0, found.plan.steps_per_epoch - 1):
            words[address.sender] += message.words.size
            words[address.receiver] += message.words.size
    assert max(words.values()) <= words_ahead(found.plan) <= 1.4 * max(words.values())


@pytest.mark.parametrize("sample", [mlp((6, 7), 8, 6, rows=80), mlp((60, 7), 3, rows=80)], ids=name)
def test_no_message_of_a_step_is_larger_than_the_planner_is_told(sample, tmp_path):
    """To a data party or to the helper; the largest one is as large."""
    found = hear(sample, tmp_path)
    rows = max(step.rows for step in found.plan.steps())
    for helper in (False, True):
        sizes = [
            message.words.size  # type: ignore[attr-defined]
            for address, message in found.ear.said
            if "words" in type(message).model_fields and (address.receiver == HELPER) == helper
        ]
        largest = largest_message(found.plan, helper=helper)
        assert max(sizes) <= largest <= max(sizes) * largest_batch(found.plan) / rows


async def test_a_batch_that_a_party_cannot_take_in_is_refused_before_any_share_leaves(tmp_path):
    """What the helper deals is larger than the inputs: a wide network is refused by whom it would be too much for."""
    sample = mlp((6, 7), 512, 64, rows=400, batch=320)
    settings = sample.settings(tmp_path)
    settings["bank"] = settings["bank"].model_copy(update={"limits": few_rows(Limits(min_rows=1, message_mib=16))})
    sent: set[str] = set()

    def note(_: Address, message: Message) -> Message:
        sent.add(message.kind)
        return message

    simulation = await run(sample, tmp_path, settings=settings, tap=note)
    failure = simulation.label_run.failure
    assert failure is not None
    assert failure.code == "job.batch"
    assert "narrower layers" in failure.reason
    assert "message_mib at bank" in failure.reason
    assert not sent & SHARES
