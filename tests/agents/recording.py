"""A run of which everything is noted: what was said, what crossed the broker, and every mask that somebody computed.

Everything may be looked at here, also what no party may see; nothing here decides whether it is right.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import agents.announcer
import agents.simulate
from agents.data_party import DataPartyRole
from agents.simulate import Simulation, data_roles
from broker.base import Parcel
from broker.handshake import HandshakeState
from broker.identity import Identity
from broker.memory import MemoryBroker
from mpc.fixed import Floats
from mpc.masks import PairMasks
from mpc.order import Order
from mpc.plan import Plan
from mpc.ring import Words
from mpc.schedule import Step
from schemas.address import Address
from schemas.job import canonical_digest
from schemas.messages import Message
from tests.agents.world import Sample, contributions, run


@dataclass(frozen=True)
class Mask:
    """The address of a mask: the pair that holds it, in the protocol's order, and what it is called among them."""

    sender: str
    receiver: str
    purpose: str
    mask: str
    i: int
    j: int
    epoch: int
    step: int


@dataclass
class Ear:
    """Everything that was said, that crossed the broker, and every mask that somebody computed."""

    said: list[tuple[Address, Message]] = field(default_factory=list)
    parcels: list[Parcel] = field(default_factory=list)
    masks: dict[Mask, Words] = field(default_factory=dict)
    inconsistent: list[Mask] = field(default_factory=list)  # addresses that gave two different words

    def tap(self, address: Address, message: Message) -> Message:
        """Note a message before it is sealed."""
        self.said.append((address, message))
        return message

    def draw(self, pair: PairMasks, place: tuple[str, int, int], step: Step, words: Words) -> None:
        """Note a mask."""
        _, _, _, sender, receiver, purpose = pair._info
        mask = Mask(str(sender), str(receiver), str(purpose), *place, step.epoch, step.position)
        if not np.array_equal(self.masks.setdefault(mask, words), words):
            self.inconsistent.append(mask)


@dataclass
class Heard:
    """A finished run, all that was heard of it, and what went into it."""

    sample: Sample
    simulation: Simulation
    ear: Ear

    @property
    def names(self) -> tuple[str, ...]:
        """The data parties."""
        return self.sample.parties

    @property
    def label(self) -> DataPartyRole:
        """The label party's role, which knows the plan, the order and the labels."""
        return data_roles(self.simulation)[self.names[self.sample.label]]

    @property
    def plan(self) -> Plan:
        """The agreed numbers."""
        return self.label.context.ready_plan

    @property
    def order(self) -> Order:
        """Of the samples."""
        assert self.label.order is not None
        return self.label.order

    @property
    def xs(self) -> list[Words]:
        """Everybody's encoded features, (rows, columns), f_x fractional bits."""
        return [role.words for role in data_roles(self.simulation).values() if role.words is not None]

    @property
    def y(self) -> Floats:
        """Centred labels, (rows, 1)."""
        assert self.label.data is not None
        assert self.label.data.label is not None
        return self.label.data.label

    def received(self, model: type[Message]) -> dict[tuple[str, str, int, int], Words]:
        """The tensors of one kind, by sender, receiver, epoch and step."""
        return {
            (address.sender, address.receiver, address.epoch, address.step): message.words  # type: ignore[attr-defined]
            for address, message in self.ear.said
            if type(message) is model
        }


def hear(sample: Sample, folder: Path, *, seed: int = 0) -> Heard:
    """Run a job with fixed keys and note everything, so that whatever is asked of it has one answer for ever."""
    ear = Ear()

    async def listen() -> Simulation:
        office = MemoryBroker(tap=ear.parcels.append)
        return await run(sample, folder, contribute=contributions(0), tap=ear.tap, office=office)

    with pytest.MonkeyPatch.context() as patch, fixed_keys(seed):
        call = PairMasks.__call__

        def noted(pair: PairMasks, mask: str, i: int, j: int, step: Step, shape: tuple[int, int]) -> Words:
            words = call(pair, mask, i, j, step, shape)
            ear.draw(pair, (mask, i, j), step, words)
            return words

        patch.setattr(PairMasks, "__call__", noted)
        simulation = asyncio.run(listen())
    assert simulation.done, simulation.label_run.failure
    return Heard(sample, simulation, ear)


@contextmanager
def fixed_keys(seed: int) -> Iterator[None]:
    """Identities, ephemeral keys and run ids from a seed instead of the system, for tests that count words."""

    def key(*what: Any) -> bytes:
        return canonical_digest("keys of a test", [seed, *what])

    begin = HandshakeState.__init__

    def begin_fixed(state: HandshakeState, identity: Identity, me: str, *rest: Any) -> None:
        begin(state, identity, me, *rest)
        state._ephemeral = X25519PrivateKey.from_private_bytes(key("ephemeral", me))
        state._keys[me] = state._ephemeral.public_key().public_bytes_raw()

    numbers = iter(range(1000))
    fresh = SimpleNamespace(
        generate=lambda: Identity(Ed25519PrivateKey.from_private_bytes(key("identity", next(numbers))))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HandshakeState, "__init__", begin_fixed)
        patch.setattr(agents.simulate, "Identity", fresh)
        patch.setattr(agents.announcer, "secrets", SimpleNamespace(token_bytes=lambda size: key("run")[:size]))
        yield
