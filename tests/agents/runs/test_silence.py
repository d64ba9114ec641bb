"""Nothing that agents log, report, raise or write down about a job holds a key, a share, an id or a value of a table.

Runs that end well and runs that fail in every stage, with everything they say searched for everything they know.
"""

import base64
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytest
import structlog

import tercet.agents.core.logs
from tercet.agents.attempts import phases
from tercet.agents.roles import fitted_table
from tercet.agents.roles.data_party import TrainingSetup
from tercet.agents.roles.fitted_table import FittedTable
from tercet.agents.session.agreed import Session
from tercet.agents.simulation.simulate import Simulation
from tercet.broker.interface.base import Envelope
from tercet.broker.memory.broker import MemoryBroker
from tercet.mpc.linear.data_party import LinearParty
from tercet.mpc.randomness import secret_order
from tercet.schemas.files.job import Evaluation, canonical_digest
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import (
    AlignedRows,
    MaskedWeights,
    Message,
    OrderCommitment,
    OrderConfirmation,
    OrderContribution,
    PreactivationShare,
)
from tercet.tables.snapshot.snapshot import take_snapshot
from tests import virtual_time
from tests.agents.world import OUTCOME, PERSON, Sample, contributions, run, write_table

SAMPLE = Sample(  # card leads, telco is who makes mistakes
    (6, 7, 5),
    rows=88,
    batch=33,
    epochs=1,
    label=1,
    evaluation=Evaluation(holdout=0.25, metrics="epoch", loss=True, loss_to="all"),
)
ALIGNED = replace(SAMPLE, alignment="aligned")
Table = dict[str, list[str]]
Hook = Callable[[Address, Message], Message]
T = TypeVar("T")


class Recorded(NamedTuple):
    """A run, and all that was written about it anywhere."""

    simulation: Simulation
    log: str
    rest: str  # states, failures, records, representations
    said: list[Message]
    sessions: list[Session]
    fitted: list[FittedTable]

    @property
    def setups(self) -> list[TrainingSetup]:
        """What data parties train with, as far as they have come."""
        reached = (one.reached for one in self.simulation.runs.values())
        return [setup for setup in reached if isinstance(setup, TrainingSetup)]

    def lines(self, *, but: str) -> str:
        """What parties other than one logged."""
        return "\n".join(line for line in self.log.splitlines() if json.loads(line)["party"] != but)


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What agents log, as a daemon has it, down to the last detail."""
    before, stream = structlog.get_config(), StringIO()
    tercet.agents.core.logs.configure("debug")
    factory = structlog.PrintLoggerFactory(stream)
    structlog.configure(logger_factory=factory, cache_logger_on_first_use=False)
    yield stream
    structlog.configure(**before)


def tell(
    log: StringIO,
    folder: Path,
    *,
    edit: Callable[[Table], None] | None = None,
    reading: dict[str, Any] | None = None,
    **hooks: Any,
) -> Recorded:
    """Run the sample, with telco's table edited and read by other settings, or a message changed on its way."""
    said: list[Message] = []
    change: Hook = hooks.pop("change", lambda _, message: message)
    sample = hooks.pop("sample", SAMPLE)

    def tap(address: Address, message: Message) -> Message:
        said.append(message)
        return change(address, message)

    settings = sample.settings(folder)
    people = settings["telco"].tables["people"].model_copy(update=reading)
    settings["telco"] = settings["telco"].model_copy(update={"tables": {"people": people}})
    if edit is not None:
        table = sample.tables()["telco"]
        edit(table)
        write_table(folder / "telco.csv", table)
    hooks.setdefault("contribute", contributions(5))
    with pytest.MonkeyPatch.context() as patch:
        sessions, fitted = made(patch, phases, Session), made(patch, fitted_table, FittedTable)
        simulation = virtual_time.run(run(sample, folder, settings=settings, tap=tap, **hooks))
    rest = "\n".join([*written(simulation, folder, said), *map(repr, [*sessions, *fitted])])
    return Recorded(simulation, log.getvalue(), rest, said, sessions, fitted)


def made(patch: pytest.MonkeyPatch, module: ModuleType, kind: type[T]) -> list[T]:
    """All objects of a class that a module makes, also where the run fails thereafter."""
    found: list[T] = []

    def make(*args: Any, **fields: Any) -> T:
        found.append(kind(*args, **fields))
        return found[-1]

    patch.setattr(module, kind.__name__, make)
    return found


def written(simulation: Simulation, folder: Path, said: list[Message]) -> Iterator[str]:
    """Everything beside the log that somebody may read, or that a careless line could print."""
    for one in simulation.runs.values():
        yield one.status().model_dump_json()
        yield from map(repr, (one, one.context, one.reached, one.context.mailbox, one.failure))
        yield from map(repr, (one.context.identity, one.context.mailbox._session, one.job))
        if isinstance(one.reached, TrainingSetup):
            setup, own = one.reached, one.reached.own
            yield from map(repr, (setup.context, own, own.table, own.draws, setup.all_words))
            yield from map(repr, (setup.order, setup.party, setup.words))
    yield from (path.read_text(encoding="utf-8") for path in folder.glob("*/jobs/*.json"))
    yield from map(repr, said)
    yield from map(str, said)


def check_silent(reported: Recorded) -> None:
    """Search all that was written for all that is secret."""
    hidden, said, values = set(secrets(reported)), words(reported), numbers(reported)
    for where, text in (("log", reported.log), ("states, records and representations", reported.rest)):
        assert text
        both = text + text.replace("\\\\", "\\")  # also as it was before JSON
        assert not any(secret in both for secret in hidden), f"a secret in {where}"
        assert not set(re.findall(r"-?\d{7,}", text)) & said, f"a word in {where}"
        assert not set(re.findall(r"-?\d+\.\d{3,}(?:e-?\d+)?", text)) & values, f"a value in {where}"


def secrets(reported: Recorded) -> Iterator[str]:
    """Texts that must not be found: ids, and keys and seeds in every spelling."""
    for table in SAMPLE.tables().values():
        yield from table[PERSON]
    for secret in secret_bytes(reported):
        yield from (secret.hex(), repr(secret)[2:-1], base64.b64encode(secret).decode().rstrip("="))
        yield base64.urlsafe_b64encode(secret).decode().rstrip("=")


def secret_bytes(reported: Recorded) -> Iterator[bytes]:
    """Private keys, pair secrets, contributions, and the order key with what is derived from it."""
    sources = contributions(5)
    simulation = reported.simulation
    mine = {party: sources[party]() for party in simulation.description.data_parties}
    yield from mine.values()
    for one in simulation.runs.values():
        yield one.context.identity._signing.private_bytes_raw()
        yield one.context.identity._sealing.private_bytes_raw()
    for session in reported.sessions:
        yield from session.secrets.pairs.values()
    digest = canonical_digest("tercet alignment", simulation.description.model_dump())
    alignment = secret_order.alignment_key(digest, mine)
    yield from (
        alignment,
        *(secret_order.derive_subkey(alignment, purpose) for purpose in ("pseudonyms", "rows", "split")),
    )
    for setup in reported.setups:
        yield secret_order.order_key(setup.context.shape_digest, mine)


def words(reported: Recorded) -> set[str]:
    """Every word of every tensor and every encoded feature, as a number with or without a sign."""
    blocks = [message.words for message in reported.said if "words" in type(message).model_fields]  # type: ignore[attr-defined]
    blocks += [setup.words.read_rows(np.arange(setup.words.shape[0])) for setup in reported.setups]
    found = np.concatenate([block.ravel() for block in blocks]) if blocks else np.zeros(0, np.uint64)
    return {str(number) for number in (*found.tolist(), *found.view(np.int64).tolist()) if abs(number) >= 10**6}


def numbers(reported: Recorded) -> set[str]:
    """Every value of the tables, as written there and as encoded."""
    texts = {v for t in SAMPLE.tables().values() for c, values in t.items() if c != PERSON for v in values}
    for fitted in reported.fitted:
        texts |= set(map(repr, features(fitted)))
    return {text for text in texts if len(text) > 5}


def features(fitted: FittedTable) -> list[float]:
    """Every number that a party's rows are encoded as, and what the encoding was fitted to."""
    settings = fitted.own.context.settings.tables["people"]
    with tempfile.TemporaryDirectory() as folder:
        snapshot = take_snapshot("people", settings, Path(folder), with_label=False)
        encoded = [fitted.encoding.apply(batch).ravel().tolist() for batch in snapshot.batches()]
        snapshot.close()
    return [value for part in encoded for value in part]


@pytest.mark.parametrize("sample", [SAMPLE, ALIGNED, replace(SAMPLE, release="shared")])
def test_a_run_that_ends_well_says_nothing_it_should_not(sample, log, tmp_path):
    """From the announcement to the model parts, with every message's representation."""
    reported = tell(log, tmp_path, sample=sample)
    assert reported.simulation.done
    assert reported.log.count('"state"') >= 4 * 6
    assert any(isinstance(message, OrderContribution) for message in reported.said)
    check_silent(reported)


# --- jobs that fail


def not_a_number(table: Table) -> None:
    table["telco_quantity_3"][17] = "diagnosis-F32"


def missing(table: Table) -> None:
    table["telco_quantity_3"][17] = "nan"


def other_ids(table: Table) -> None:
    table[PERSON] = [*table[PERSON][1:], table[PERSON][0]]


def strangers(table: Table) -> None:
    table[PERSON] = [f"stranger-{number}" for number in range(len(table[PERSON]))]


def repeated_id(table: Table) -> None:
    table[PERSON][5] = table[PERSON][4]


def fewer_rows(table: Table) -> None:
    for values in table.values():
        values.pop()


TABLES: dict[Any, tuple[str, Sample, dict[str, Any]]] = {
    not_a_number: ("table.unusable", SAMPLE, {"numeric": ("telco_quantity_3",)}),
    repeated_id: ("table.unusable", SAMPLE, {}),
    strangers: ("alignment.few", SAMPLE, {}),
    other_ids: ("table.ids", ALIGNED, {}),
    fewer_rows: ("table.rows", ALIGNED, {}),
}


@pytest.mark.parametrize("edit", TABLES, ids=lambda edit: edit.__name__)
def test_a_job_that_fails_for_a_table_quotes_nothing_of_it(edit, log, tmp_path):
    """Its owner reads columns and lines in its own log; nobody reads a value, and others not even a column's name."""
    code, sample, reading = TABLES[edit]
    reported = tell(log, tmp_path, edit=edit, sample=sample, reading=reading)
    failures = [one.failure for one in reported.simulation.runs.values()]
    assert {failure.code for failure in failures if failure} == {code}
    check_silent(reported)
    assert "diagnosis" not in reported.log + reported.rest
    assert "stranger" not in reported.log + reported.rest
    assert "telco_quantity" not in reported.lines(but="telco") + repr(failures)
    assert PERSON not in reported.lines(but="telco") + repr(failures)


def test_a_job_that_makes_do_with_a_table_quotes_nothing_of_it(log, tmp_path):
    """A value that is missing, rows in another order, and one that is not there: what is in common is trained on."""

    def harmless(table: Table) -> None:
        for edit in (missing, other_ids, fewer_rows):
            edit(table)

    reported = tell(log, tmp_path, edit=harmless)
    assert reported.simulation.done
    check_silent(reported)


def test_a_label_that_is_no_class_is_not_quoted(log, tmp_path):
    """The label party is told how many, in its own log alone."""
    sample = replace(SAMPLE, label=2)  # telco leads

    def third_class(table: Table) -> None:
        table[OUTCOME][3] = "2.7182818"

    reported = tell(log, tmp_path, edit=third_class, sample=sample)
    assert {one.failure.code for one in reported.simulation.runs.values() if one.failure} == {"table.label"}
    assert "2.718" not in reported.log + reported.rest
    assert OUTCOME not in reported.lines(but="telco")
    check_silent(reported)


def shifted(model: type[Message], name: str = "words") -> Hook:
    """Every message of a kind, with one bit changed."""

    def change(_: Address, message: Message) -> Message:
        if type(message) is not model:
            return message
        value = getattr(message, name)
        changed = bytes([value[0] ^ 1]) + value[1:] if isinstance(value, bytes) else value + np.uint64(1 << 62)
        return message.model_copy(update={name: changed})

    return change


def misshapen(_: Address, message: Message) -> Message:
    """Masked weights with a row too many."""
    if isinstance(message, MaskedWeights):
        return message.model_copy(update={"words": np.vstack([message.words, message.words[:1]])})
    return message


CHANGES = {
    "contributions that differ": (shifted(OrderContribution, "secret"), "order.commitment"),
    "commitments that differ": (shifted(OrderCommitment, "commitment"), "order.commitment"),
    "a confirmation that differs": (shifted(OrderConfirmation, "confirmation"), "order.key"),
    "ids that seem to differ": (shifted(AlignedRows, "ids"), "alignment.differs"),
    "scores out of range": (shifted(PreactivationShare), "training.diverged"),
    "a wrong shape": (misshapen, "message.shape"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_job_that_fails_for_a_message_quotes_nothing_of_it(name, log, tmp_path):
    """Whatever is wrong with it."""
    change, code = CHANGES[name]
    reported = tell(log, tmp_path, change=change)
    assert {one.failure.code for one in reported.simulation.runs.values() if one.failure} == {code}
    check_silent(reported)


class Garbling(MemoryBroker):
    """Changes the body of every envelope of the pre-activations."""

    def accept(self, envelope: Envelope, party: str) -> None:
        if "/pre-activations/" in envelope.address:
            object.__setattr__(envelope, "body", envelope.body[:-1] + bytes([envelope.body[-1] ^ 1]))
        super().accept(envelope, party)


def test_a_forged_message_is_not_quoted(log, tmp_path):
    """Its address is, which the broker's operator knows."""

    async def memory_broker() -> MemoryBroker:
        return Garbling()

    reported = tell(log, tmp_path, broker=virtual_time.run(memory_broker()))
    assert {one.failure.code for one in reported.simulation.runs.values() if one.failure} == {"transport.lost"}
    check_silent(reported)


def test_a_mistake_of_our_own_leaves_a_traceback_without_values(log, tmp_path, monkeypatch):
    """The traceback has places in the code, not what the variables held."""

    def broken(party: LinearParty, *_: Any) -> None:
        raise ArithmeticError("planted")

    monkeypatch.setattr(LinearParty, "update", broken)
    reported = tell(log, tmp_path)
    assert {one.failure.code for one in reported.simulation.runs.values() if one.failure} == {"agent.error"}
    assert "ArithmeticError: planted" in reported.log
    check_silent(reported)


def test_a_secret_that_is_refused_is_not_quoted(log, tmp_path):
    """A contribution to the order key of 31 bytes is a mistake of our own, and its traceback holds none of them."""
    reported = tell(log, tmp_path, contribute=contributions(5) | {"telco": lambda: b"seed" * 7 + b"see"})
    assert {one.failure.code for one in reported.simulation.runs.values() if one.failure} == {"agent.error"}
    assert "at least 32 bytes" in reported.log
    assert "seeds" not in reported.log + reported.rest


def test_the_search_finds_what_it_looks_for(log, tmp_path):
    """Each kind of secret, were it written, would be found."""
    reported = tell(log, tmp_path)
    setup = reported.setups[0]
    words_of_it = setup.words.read_rows(np.arange(3))
    leaks = [
        setup.own.table.ids[7].as_py(),
        f"key={next(secret_bytes(reported)).hex()}",
        json.dumps({"event": repr(list(secret_bytes(reported))[-1])}),
        f"share {int(words_of_it.max())}",
        f"value {SAMPLE.tables()['bank']['bank_quantity_1'][3]} is odd",
        repr(features(setup)[:2]),
    ]
    for leak in leaks:
        with pytest.raises(AssertionError, match="in log"):
            check_silent(reported._replace(log=f"{reported.log}\n{leak}"))
