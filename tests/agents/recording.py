"""A run of which everything is noted: what was said, what crossed the broker, and every mask that somebody computed.

Everything may be looked at here, also what no party may see; nothing here decides whether it is right.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import tercet.agents.jobs.announcer
import tercet.agents.roles.helper
import tercet.agents.roles.prediction
import tercet.agents.scoring.batches
import tercet.agents.simulation.simulate
from tercet.agents.messaging.mailbox import Tap
from tercet.agents.roles.data_party import Trained
from tercet.agents.roles.own_labels import OwnLabels
from tercet.agents.roles.prediction import Scored
from tercet.agents.simulation.simulate import Simulation, data_roles, simulate_job, training_words
from tercet.broker.interface.base import Envelope
from tercet.broker.memory.broker import MemoryBroker
from tercet.broker.sealing.handshake import HandshakeState
from tercet.broker.sealing.identity import Identity
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.plan.forward import Forward
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import ONCE, PairMasks
from tercet.mpc.randomness.score_noise import ScoreNoise
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.openings import ModelMasks
from tercet.schemas.files.job import AnyJob, Network, PredictionJob, canonical_digest
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Message
from tests import virtual_time
from tests.agents.world import HELPER, LIMIT_SECONDS, Sample, contributions, write_table

Tables = Mapping[str, Mapping[str, list[str]]]  # each data party's, as texts by column
BookT = TypeVar("BookT")
SCORING_BATCH = 32  # rows, instead of thousands: so that a pass over a small table has several batches


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

    @property
    def name(self) -> str:
        """What it is called, whatever digest keys it."""
        return self.mask.partition(ONCE)[0]


@dataclass
class Ear:
    """Everything that was said, that crossed the broker, and every mask that somebody computed."""

    said: list[tuple[Address, Message]] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    masks: dict[Mask, Words] = field(default_factory=dict)
    inconsistent: list[Mask] = field(default_factory=list)  # addresses that gave two different words

    def tap(self, address: Address, message: Message) -> Message:
        """Note a message before it is sealed."""
        self.said.append((address, message))
        return message

    def draw(self, pair: PairMasks, place: tuple[str, int, int], step: Step, words: Words) -> None:
        """Note a mask."""
        _, _, _, sender, receiver, purpose = pair._info
        self.note(Mask(str(sender), str(receiver), str(purpose), *place, step.epoch, step.position), words)

    def note(self, mask: Mask, words: Words) -> None:
        """The same, by its address."""
        if not np.array_equal(self.masks.setdefault(mask, words), words):
            self.inconsistent.append(mask)


@dataclass
class Heard:
    """A finished run, all that was heard of it, and what went into it."""

    sample: Sample
    simulation: Simulation
    ear: Ear
    tables: Tables
    pages: dict[str, str] = field(default_factory=dict, init=False, compare=False)  # by party, those drawn so far
    books: dict[type, Any] = field(default_factory=dict, init=False, compare=False)  # those worked out so far

    def book(self, kind: type[BookT]) -> BookT:
        """Its plain values, worked out once; anew for a copy, as where the code is no longer under a mistake."""
        if kind not in self.books:
            self.books[kind] = kind(self)  # type: ignore[call-arg]
        found: BookT = self.books[kind]
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """The data parties."""
        return self.sample.parties

    @property
    def job(self) -> AnyJob:
        """What was to be done."""
        return self.simulation.description

    @property
    def network(self) -> Network | None:
        """Its layers, if the model has hidden ones."""
        return self.sample.network

    @property
    def parts(self) -> list[Scored]:
        """What the data parties have at the end of a prediction, in order."""
        found = (self.simulation.runs[party].reached for party in self.names)
        return [scored for scored in found if isinstance(scored, Scored)]

    @property
    def roles(self) -> list[Trained]:
        """What the data parties have at the end of a training, in order."""
        return list(data_roles(self.simulation).values())

    @property
    def label(self) -> Trained:
        """The label party's, which knows the plan, the order and the labels."""
        return self.roles[self.sample.label]

    @property
    def labels(self) -> OwnLabels:
        """The labels of the rows in common."""
        assert self.label.labels is not None
        return self.label.labels

    @property
    def plan(self) -> Plan:
        """The agreed numbers."""
        return self.label.context.plan

    @property
    def order(self) -> Order:
        """Of the rows that are trained on."""
        return self.label.order

    @property
    def xs(self) -> list[Words]:
        """Everybody's encoded features of the rows that are trained on, (rows, columns), f_x fractional bits."""
        return training_words(self.simulation)

    @property
    def held_out_xs(self) -> list[Words]:
        """The same of those that are not."""
        return [role.all_words.choose(role.held_out).read_rows(np.arange(role.held_out.sum())) for role in self.roles]

    @property
    def scoring_order(self) -> Order:
        """Of the rows that are scored."""
        if self.parts:
            return Order(self.parts[0].key, len(self.parts[0].own.rows), "scoring")
        return Order(self.label.key, int(self.label.held_out.sum()), "scoring")

    def own_noise(self, i: int, step: Step, purpose: str, numbers: Forward, alpha: float, bits: int) -> Words:
        """What party i adds to the scores of a batch, which the label party does not know; (rows, outputs)."""
        if i == self.sample.label:
            return np.zeros((step.rows, numbers.outputs), np.uint64)
        own = (self.parts or self.roles)[i].own
        return ScoreNoise(own.private, own.context.settings.policy.score_noise, purpose).words(
            step, numbers.outputs, alpha, bits
        )

    @property
    def held_out_order(self) -> Order:
        """Of the same rows, for the held-out loss."""
        return Order(self.label.key, int(self.label.held_out.sum()), "held-out loss")

    @property
    def held_out_y(self) -> Floats:
        """Centred labels of the rows that are not trained on, (rows, outputs)."""
        return self.labels.centred[self.label.held_out]

    @property
    def y(self) -> Floats:
        """Centred labels of the rows that are trained on, (rows, 1)."""
        return self.labels.trained_on

    @property
    def alignment_key(self) -> bytes:
        """From which everything about ids is derived."""
        return (self.parts or self.roles)[0].own.alignment_key

    def received(self, model: type[Message]) -> dict[tuple[str, str, int, int], Words]:
        """The tensors of one kind, by sender, receiver, epoch and step."""
        return {
            (address.sender, address.receiver, address.epoch, address.step): message.words  # type: ignore[attr-defined]
            for address, message in self.ear.said
            if type(message) is model
        }


@dataclass(frozen=True)
class Seeds:
    """Of the keys, and of the contributions to the order."""

    keys: int = 0
    order: int = 0


def hear(
    sample: Sample,
    folder: Path,
    *,
    seed: int = 0,
    order: int = 0,
    tables: Tables | None = None,
    reading: Mapping[str, Any] = MappingProxyType({}),
) -> Heard:
    """Run a job with fixed keys and note everything, so that whatever is asked of it has one answer for ever.

    `seed` is of the keys, `order` of the contributions; `tables` stand in place of the sample's own, and `reading`
    changes everybody's settings of them.
    """
    settings = settings_of(sample, folder, reading)
    return _heard(sample, sample.description(), settings, folder, Seeds(seed, order), tables or sample.tables())


def settings_of(sample: Sample, folder: Path, reading: Mapping[str, Any]) -> dict[str, Settings]:
    """Everybody's, with changes to how tables are read."""
    return {
        party: own.model_copy(
            update={"tables": {name: table.model_copy(update=dict(reading)) for name, table in own.tables.items()}}
        )
        for party, own in sample.settings(folder).items()
    }


def prediction_of(sample: Sample, **changes: Any) -> PredictionJob:
    """The job that scores rows by the model of a sample."""
    training = sample.description()
    same = {name: getattr(training, name) for name in ("label", "helper", "tables", "alignment")}
    return PredictionJob.model_validate({"kind": "prediction", "name": "scores", "of": training.id} | same | changes)


def hear_prediction(
    sample: Sample,
    folder: Path,
    tables: Tables,
    *,
    format_: str = "csv",
    reading: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Heard:
    """Let the parties of a run in this folder score tables, and note everything in the same way."""
    settings = settings_of(sample, folder, reading or {})
    return _heard(sample, prediction_of(sample, format=format_, **changes), settings, folder, Seeds(1, 1), tables)


def _heard(
    sample: Sample,
    job: AnyJob,
    settings: Mapping[str, Settings],
    folder: Path,
    seeds: Seeds,
    tables: Tables,
) -> Heard:
    ear = Ear()
    simulation = listen_to(ear, job, settings, folder, seeds, tables, ear.tap)
    assert simulation.done, simulation.label_run.failure
    return Heard(sample, simulation, ear, tables)


def listen_to(
    ear: Ear,
    job: AnyJob,
    settings: Mapping[str, Settings],
    folder: Path,
    seeds: Seeds,
    tables: Tables,
    tap: Tap,
) -> Simulation:
    """Write everybody's tables, and run a job by fixed keys, listening by `tap`."""
    for party, table in tables.items():
        write_table(folder / f"{party}.csv", table)

    async def listen() -> Simulation:
        memory_broker, contribute = MemoryBroker(tap=ear.envelopes.append), contributions(seeds.order)
        async with asyncio.timeout(LIMIT_SECONDS):
            return await simulate_job(job, settings, folder, contribute=contribute, tap=tap, broker=memory_broker)

    with listening(ear, job.data_parties), fixed_keys(seeds.keys):
        return virtual_time.run(listen())


@contextmanager
def listening(ear: Ear, names: Sequence[str] = ()) -> Iterator[None]:
    """Note every mask, and score in small batches; `names` are those of the data parties."""
    call, call_model = PairMasks.__call__, ModelMasks.__call__

    def spy_model(masks: ModelMasks, mask: str, i: int, j: int, shape: tuple[int, int]) -> Words:
        words = call_model(masks, mask, i, j, shape)
        ear.note(Mask(names[j], HELPER, "model", mask, i, j, 0, 0), words)
        return words

    def spy(pair: PairMasks, mask: str, i: int, j: int, step: Step, shape: tuple[int, int]) -> Words:
        words = call(pair, mask, i, j, step, shape)
        ear.draw(pair, (mask, i, j), step, words)
        return words

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PairMasks, "__call__", spy)
        patch.setattr(ModelMasks, "__call__", spy_model)
        patch.setattr(tercet.agents.scoring.batches, "MOST_ROWS", SCORING_BATCH)
        yield


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
        patch.setattr(tercet.agents.simulation.simulate, "Identity", fresh)
        patch.setattr(
            tercet.agents.jobs.announcer, "secrets", SimpleNamespace(token_bytes=lambda size: key("run")[:size])
        )
        yield


def all_words(scored: Scored) -> Words:
    """The words of the rows that a party scores, (rows, columns)."""
    assert scored.words is not None
    return scored.words.read_rows(np.arange(scored.words.shape[0]))
