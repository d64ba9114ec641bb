"""Every message of every kind of job is waited for: from whom it comes, for as long as a named deadline says.

What a machine makes of such a wait, whoever hangs, is looked at in `tests/agents/machine`. So all messages are here,
and a handful of parties really hang in test_hung. Likewise each tensor is held against the shape that is due.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

from tercet.agents.messaging.inbox import Deadline, Inbox
from tercet.agents.messaging.mailbox import CONTROL
from tercet.mpc.arithmetic.ring import Words
from tercet.schemas.files.job import EarlyStopping, Evaluation, Network
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import (
    HeldOutRows,
    Inquiry,
    Job,
    Message,
    Resumption,
    ScoreBound,
    SentRowDigests,
)
from tercet.schemas.messages.message import MODELS
from tests.agents.scenes import (
    BANK,
    CARD,
    PATIENT,
    job,
    make_table,
    party_settings,
    prediction,
    scene,
    statistics,
    three,
)
from tests.agents.world import NOTHING

TELCO = "telco"
ALL = Evaluation(holdout=0.25, metrics="epoch", loss=True, held_out_loss=True)
BLIND = {"epochs": 2, "evaluation": ALL, "privacy": NOTHING}
DEEP: dict[str, Any] = {"model": "mlp", "network": Network(hidden=(5, 4), activation="tanh")}
FOUR = {"tables": tuple((party, "customers") for party in (BANK, CARD, TELCO))}
SHAPES: Mapping[str, Mapping[str, Any]] = {  # of a training; a prediction follows where nothing is evaluated
    "linear": {
        "epochs": 6,  # else no epoch's model may be better than a constant, by the few rows that are held out
        "evaluation": ALL.model_copy(update={"split": "rows"}),
        "early_stopping": EarlyStopping(on="loss"),
        **FOUR,
    },
    "network": {"epochs": 2, "evaluation": ALL, **DEEP},
    "blind three": BLIND | FOUR,
    "weighted": BLIND | {"class_weights": "balanced"},
    "blind network": BLIND | DEEP,
    "ecdh": {"epochs": 1, "alignment": "ecdh", "release": "shared"},
    "aligned": {"epochs": 1, "alignment": "aligned", "release": "label"},
    "network for the label party": {"epochs": 1, "release": "label", **DEEP},
    "owners": {"epochs": 1, "privacy": NOTHING, "release": "owners"},
    "blind for the label party": {"epochs": 1, "privacy": NOTHING, "release": "label"},
    "blind shared network": {"epochs": 1, "privacy": NOTHING, "release": "shared", **DEEP},
}
# Between a console and an agent, and between agents beside a run: no attempt waits for them.
APART = {model for model in MODELS.values() if model.__module__.endswith((".console", ".greeting"))}
OTHERS = {*CONTROL, *APART, Job, Inquiry, Resumption}
OTHERS |= {ScoreBound, SentRowDigests}  # in attempts that go on, which recover in test_recovery and test_blind_recovery
OTHERS |= {HeldOutRows}  # which alignment/test_held_out_column has


class Said(NamedTuple):
    """Something that one party says to another."""

    model: type[Message]
    sender: str
    receiver: str
    epoch: int
    step: int

    @classmethod
    def at(cls, address: Address, message: Message) -> Self:
        """What an address says of it."""
        return cls(type(message), address.sender, address.receiver, address.epoch, address.step)


@dataclass
class Book:
    """Notes what is said, what is waited for, and whose tensors are checked."""

    said: set[Said] = field(default_factory=set)
    awaited: set[Said] = field(default_factory=set)
    tensors: dict[int, tuple[Message, Said]] = field(default_factory=dict)  # those that were received
    checked: set[int] = field(default_factory=set)

    def clear(self) -> None:
        """Begin another job."""
        self.said.clear()
        self.awaited.clear()
        self.tensors.clear()
        self.checked.clear()

    def tap(self, address: Address, message: Message) -> Message:
        """Note what is sent."""
        if not isinstance(message, CONTROL):
            self.said.add(Said.at(address, message))
        return message

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note what is received, and checked."""
        receive, check = Inbox.receive, Inbox.checked_words

        async def note(
            inbox: Inbox, model: Any, senders: Iterable[str], deadline: Deadline, *, epoch: int = 0, step: int = 0
        ) -> Any:
            senders = tuple(senders)
            assert 0 < deadline.seconds <= getattr(PATIENT, deadline.name), (model, deadline)
            self.awaited |= {Said(model, sender, inbox._me, epoch, step) for sender in senders}
            found = await receive(inbox, model, senders, deadline, epoch=epoch, step=step)
            for sender, message in found.items():
                if hasattr(message, "words"):
                    self.tensors[id(message)] = message, Said(model, sender, inbox._me, epoch, step)
            return found

        def note_check(inbox: Inbox, messages: Mapping[str, Message], shape: Any) -> dict[str, Words]:
            self.checked |= set(map(id, messages.values()))
            return check(inbox, messages, shape)

        monkeypatch.setattr(Inbox, "receive", note)
        monkeypatch.setattr(Inbox, "checked_words", note_check)

    @property
    def unchecked(self) -> set[Said]:
        """Tensors whose shapes nobody has looked at."""
        return {said for key, (_, said) in self.tensors.items() if key not in self.checked}


async def look(folder: Path, book: Book) -> None:
    """Run a statistics job that tells all that such jobs can."""
    allowed = PolicySettings(
        statistics="woe", statistics_of_amounts=True, correlations="label", column_names=True
    )  # fmt: skip
    settings = {party: party_settings(folder, party, PATIENT, policy=allowed) for party in three(folder)}
    for seed, party in enumerate((BANK, CARD)):
        make_table(folder / f"{party}.csv", seed=seed, rows=600, columns=3, label=party == BANK)
    async with scene(settings, folder) as stage:
        stage.tap = book.tap
        for model in ("logistic", "linear"):
            asked = statistics(woe=True, correlations="label", bins=3).model_copy(update={"model": model})
            ended = await stage.run(asked)
            assert {status.state for status in ended.values()} == {"done"}, ended


async def undisturbed(shape: Mapping[str, Any], folder: Path, book: Book) -> None:
    """Run a job of this shape, and a prediction by its model."""
    settings = three(folder, PATIENT)
    if shape.get("tables"):
        make_table(folder / f"{TELCO}.csv", seed=3)
        settings[TELCO] = party_settings(folder, TELCO, PATIENT)
    async with scene(settings, folder) as stage:
        stage.tap = book.tap
        stage.pin(CARD, BANK, may_hold_model=True)
        ended = await stage.run(job(accept_narrow=True, **shape))
        assert {status.state for status in ended.values()} == {"done"}, ended
        if "evaluation" not in shape:
            ended = await stage.run(prediction(ended[BANK].job))
            assert {status.state for status in ended.values()} == {"done"}, ended


async def test_every_message_is_waited_for_under_a_named_deadline_and_every_shape_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the party that gets it, which says so as long as it waits."""
    book, kinds = Book(), set[type[Message]]()
    book.watch(monkeypatch)
    for name, shape in SHAPES.items():
        book.clear()
        await undisturbed(shape, tmp_path / name, book)
        assert book.said == book.awaited, name
        assert book.unchecked == set(), name
        kinds |= {one.model for one in book.said}
    book.clear()
    await look(tmp_path / "statistics", book)
    assert book.said == book.awaited
    assert book.unchecked == set()
    kinds |= {one.model for one in book.said}
    assert {model for model in MODELS.values() if model not in kinds} == OTHERS
