"""What attempts after a fault have in common, and what not: no mask of one is in another, no key is on a disk.

That the model is the undisturbed one is looked at in test_recovery, what is drawn once for all attempts in test_drawn.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.agents.session.checkpoint_store import checkpoint_folder
from tercet.mpc.arithmetic.ring import Words
from tercet.schemas.files.job import Network, TrainingJob
from tercet.schemas.messages.kinds import Message
from tests.agents.recovering import DATA, Recovering, files, long_job, recovering, setup_of, states
from tests.agents.scenes import BANK, CARD, NOTARY

LINEAR = long_job()
NETWORK = long_job("network", model="mlp", network=Network(hidden=(6,), activation="tanh"))


async def disturbed(stage: Recovering, job: TrainingJob, *parties: str) -> str:
    """A job that is over, in which these parties have crashed and come back in the middle of the training."""
    name = await stage.begun(job)
    await stage.restart(*parties)
    assert states(await stage.ended(name, seconds=30)) == {"done"}
    assert stage.runs[BANK, name].attempts.furthest > 0
    return name


def tensors(message: Message) -> Iterator[tuple[str, Words]]:
    """All words that a message carries."""
    for name in type(message).model_fields:
        value = getattr(message, name)
        if isinstance(value, np.ndarray):
            yield name, value


def by_attempt(stage: Recovering) -> Mapping[Any, Mapping[int, Words]]:
    """What was said at each address, in each attempt in which it was said."""
    found: dict[Any, dict[int, Words]] = defaultdict(dict)
    for address, message in stage.said_openly:
        for name, words in tensors(message):
            place = (message.kind, name, address._replace(attempt=0))
            found[place].setdefault(address.attempt, words)
    return found


@pytest.mark.parametrize(("job", "party"), [(LINEAR, CARD), (NETWORK, NOTARY)], ids=["linear", "network"])
async def test_what_is_said_again_in_another_attempt_has_other_masks(
    tmp_path: Path, job: TrainingJob, party: str
) -> None:
    """Word for word: two values under one mask, or one value under the same twice, would show in some word.

    A network is the oracle's under the noise of the attempt that it ends in, from the checkpoint on.
    """
    async with recovering(tmp_path) as stage:
        name = await disturbed(stage, job, party)
        runs = await stage.exact(name)
        assert runs[BANK].context.noise_attempt == (runs[BANK].attempts.number if job is NETWORK else 1)
    again = {place: words for place, words in by_attempt(stage).items() if len(words) > 1}
    assert len({kind for kind, _, _ in again}) > 4
    for place, words in again.items():
        first, *others = (words[attempt] for attempt in sorted(words))
        assert not any((first == other).any() for other in others), place


async def test_no_checkpoint_holds_a_key(tmp_path: Path) -> None:
    """Nor what a party has drawn for itself the key of the order, for which the others' part is needed."""
    async with recovering(tmp_path) as stage:
        name = await stage.begun(LINEAR)
        secret = set[bytes]()
        for party in DATA:
            setup = setup_of(stage.run_of(party, name))
            secrets = setup.context.session.secrets
            secret |= {setup.key, *secrets.pairs.values(), secrets.transcript}
        for party in DATA:
            assert files(stage.state_folder(party), name)
            stored = [
                p.read_bytes() for p in checkpoint_folder(stage.state_folder(party), name).iterdir() if p.is_file()
            ]
            assert not [key for key in secret for content in stored if key in content or key.hex().encode() in content]
        stage.agents[BANK].cancel(name)
        await stage.ended(name)
