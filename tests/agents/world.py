"""Whole jobs in one process for tests: small tables of made-up people, settings of every party, and a run with an ear.

Everything about a run may be looked at here, also what no party may see; nothing here decides whether it is right.
"""

import asyncio
import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import agents.daemon
import agents.simulate
from agents.data_party import DataPartyRole
from agents.simulate import Simulation, data_roles, simulate
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
from schemas.job import JobDescription, Training, canonical_digest
from schemas.messages import Message
from schemas.settings import Deadlines, Limits, Settings, TableSettings

DATA_PARTIES = ("bank", "card", "telco", "shop", "insurer")
HELPER = "notary"
PERSON, OUTCOME = "person_number", "defaulted_later"  # columns; long enough to be told from chance in a stream of bytes
LIMIT_SECONDS = 30  # a run that takes longer hangs

# Long enough for a busy machine, short enough for a test that waits for one to pass.
DEADLINES = Deadlines(
    accept=5, ready=5, start=5, handshake=5, alignment=5, step=5, release=5, verdict=1, heartbeat=0.2, drain=1
)


@dataclass(frozen=True)
class Sample:
    """What a small job is made of; `columns` of each data party, in order, and `label` the label party's place."""

    columns: tuple[int, ...] = (7, 6)
    rows: int = 90
    label: int = 0
    model: str = "logistic"
    batch: int = 40
    epochs: int = 2
    rate: float = 0.1
    schedule: str = "constant"
    decay: float = 0.0
    l2: float = 0.0
    release: str = "owners"
    outliers: float = 0.0
    seed: int = 0

    @property
    def parties(self) -> tuple[str, ...]:
        """The data parties."""
        return DATA_PARTIES[: len(self.columns)]

    def description(self) -> JobDescription:
        """The job."""
        training = Training.model_validate(
            {name: getattr(self, name) for name in ("epochs", "batch", "rate", "schedule", "decay", "l2")}
        )
        return JobDescription.model_validate(
            {
                "name": "sample",
                "model": self.model,
                "label": self.parties[self.label],
                "helper": HELPER,
                "tables": tuple((party, "people") for party in self.parties),
                "training": training,
                "release": self.release,
                "accept_narrow": True,
            }
        )

    def settings(self, folder: Path, *, limits: Limits | None = None) -> dict[str, Settings]:
        """Write everybody's tables into a folder, and give everybody settings; the helper's come last."""
        tables = self.tables()
        settings = {}
        for party in (*self.parties, HELPER):
            values: dict[str, Any] = {"party": party, "identity": folder / "unused", "state": folder / "unused"}
            if party in tables:
                path = folder / f"{party}.csv"
                write_table(path, tables[party])
                label = OUTCOME if OUTCOME in tables[party] else None
                values["tables"] = {"people": TableSettings(path=path, id=PERSON, label=label)}
            values["role"] = "data" if party in tables else "helper"
            settings[party] = Settings(**values, deadlines=DEADLINES, limits=limits or Limits())
        return settings

    def tables(self) -> dict[str, dict[str, list[str]]]:
        """Each data party's table as texts by column, the rows of all of them aligned."""
        rng = np.random.default_rng(self.seed)
        people = [f"person-{number:06d}" for number in rng.permutation(1_000_000)[: self.rows]]
        raw = [rng.normal(size=(self.rows, columns)) * 10 ** rng.uniform(-2, 4, columns) for columns in self.columns]
        score = sum((_standard(part) @ rng.normal(size=part.shape[1]) for part in raw), 0.3 * rng.normal(size=self.rows))
        for part in raw:
            part[rng.random(part.shape) < self.outliers] *= 1000
        label = (score > 0).astype(int) if self.model == "logistic" else 250 + 40 * score
        tables = {
            party: {PERSON: people} | {f"{party}_quantity_{k}": _texts(part[:, k]) for k in range(part.shape[1])}
            for party, part in zip(self.parties, raw, strict=True)
        }
        tables[self.parties[self.label]][OUTCOME] = _texts(label)
        return tables


def _standard(part: Floats) -> Floats:
    standard: Floats = (part - part.mean(axis=0)) / part.std(axis=0)
    return standard


def _texts(values: Any) -> list[str]:
    return [repr(value) for value in values.tolist()]


def write_table(path: Path, table: Mapping[str, list[str]]) -> None:
    """As CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))


def contributions(seed: int) -> dict[str, Callable[[], bytes]]:
    """Fixed contributions to the order key."""

    def source(number: int) -> Callable[[], bytes]:
        return lambda: bytes([seed, number] * 16)

    return {party: source(number) for number, party in enumerate(DATA_PARTIES)}


# --- a run with an ear


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


async def run(
    sample: Sample,
    folder: Path,
    *,
    settings: Mapping[str, Settings] | None = None,
    **hooks: Any,
) -> Simulation:
    """A job from its announcement to its end at every party. `hooks` go to `simulate`."""
    async with asyncio.timeout(LIMIT_SECONDS):
        return await simulate(sample.description(), settings or sample.settings(folder), folder, **hooks)


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
        patch.setattr(agents.daemon, "secrets", SimpleNamespace(token_bytes=lambda size: key("run")[:size]))
        yield
