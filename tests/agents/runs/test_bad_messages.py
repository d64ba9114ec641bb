"""A message that is not what it must be ends the job, and names its sender at every party."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tercet.mpc.plan.plan import Request
from tercet.mpc.plan.planner import make_plan
from tercet.schemas.files.job import canonical_digest
from tercet.schemas.files.settings import Limits
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.codec import encode
from tercet.schemas.messages.kinds import (
    BODY_VERSION,
    PROTOCOL_VERSION,
    MaskedInputs,
    Message,
    OrderContribution,
    Ready,
    Received,
    ScoringTerms,
    Sizes,
    Terms,
)
from tests.agents.scenes import (
    BANK,
    CARD,
    COLUMNS,
    NOTARY,
    ROWS,
    Scene,
    job,
    nothing_left,
    off,
    scene,
    three,
)

HEARD = Received(lowest=PROTOCOL_VERSION, highest=PROTOCOL_VERSION, asks=False)
GARBAGE = [  # no msgpack, another version, another kind
    b"\xc1\xff\x00garbage",
    encode(HEARD).replace(bytes([0x94, BODY_VERSION]), b"\x94\x63", 1),
    encode(Ready()),
]


async def submitted_without_card(stage: Scene, name: str) -> str:
    """A job for which the bank waits for the card processor, in whose name a test may speak."""
    job_id = stage.submit(job(name))
    await stage.until(lambda: f"tercet.bank.{job_id}.control" in stage.memory_broker.queues)
    return job_id


async def test_a_malformed_message_is_its_senders_fault(tmp_path: Path) -> None:
    """The seal is valid, so the sender said it; nobody else can have. A repeat must be the same to the last byte."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.start(BANK, NOTARY)
        for number, body in enumerate(GARBAGE):
            job_id = await submitted_without_card(stage, f"credit-{number}")
            stage.memory_broker.accept(stage.forge(CARD, BANK, job_id, "received", "received", body), CARD)
            reason = off(await stage.ended(job_id), "message.malformed", CARD)
            assert "version" in reason
            assert "garbage" not in reason
        job_id = await submitted_without_card(stage, "another")
        for lowest in (1, 2):
            body = encode(Received(lowest=lowest, highest=PROTOCOL_VERSION, asks=False))
            stage.memory_broker.accept(stage.forge(CARD, BANK, job_id, "received", "received", body), CARD)
        off(await stage.ended(job_id), "message.malformed", CARD)
        nothing_left(stage)


async def test_a_message_that_was_changed_on_the_way_is_as_good_as_lost(tmp_path: Path) -> None:
    """Whoever can publish in a party's name may send anything: it does not open, ends nothing and blames nobody."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.start(BANK, NOTARY)
        job_id = await submitted_without_card(stage, "credit")
        whole = stage.forge(CARD, BANK, job_id, "received", "received", encode(HEARD))
        body = bytearray(whole.body)
        body[-20] ^= 1
        forged = type(whole)(whole.exchange, whole.routing_key, bytes(body), "received", whole.address, job_id, CARD)
        stage.memory_broker.accept(forged, CARD)
        await stage.start(CARD)
        assert {status.state for status in (await stage.ended(job_id)).values()} == {"done"}


def replacing(sender: str, model: type[Message], other: Callable[[Message], Message]) -> Callable[..., Message]:
    """A tap that changes what one party says."""

    def tap(address: Address, message: Message) -> Message:
        return other(message) if address.sender == sender and isinstance(message, model) else message

    return tap


async def test_a_message_of_more_than_the_limit_is_refused_before_it_is_complete(tmp_path: Path) -> None:
    """It comes in parts, of which no more than the limit are kept."""
    large = OrderContribution.model_construct(secret=b"x" * 2**22)
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.tap = replacing(CARD, OrderContribution, lambda _: large)
        stage.change(BANK, limits=Limits(message_mib=1))
        ended = await stage.run(job())
        assert "message_mib" in off(ended, "message.oversized", CARD)
        nothing_left(stage)


async def test_another_version_of_the_protocol_is_told_with_both_numbers(tmp_path: Path) -> None:
    """So that the operators know which of them has to install what."""
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.tap = replacing(CARD, Received, lambda _: Received(lowest=1, highest=2, asks=False))
        ended = await stage.run(job())
        reason = off(ended, "party.version", CARD)
        assert "card speaks version 1 to 2" in reason
        assert f"version {PROTOCOL_VERSION}" in reason
        nothing_left(stage)


async def test_a_tensor_of_another_shape_is_not_used(tmp_path: Path) -> None:
    """Its sender is named, with both shapes and no content."""

    def shorter(message: Message) -> Message:
        assert isinstance(message, MaskedInputs)
        return MaskedInputs.model_validate({"words": message.words[:, :-1]})

    async with scene(three(tmp_path), tmp_path) as stage:
        stage.tap = replacing(CARD, MaskedInputs, shorter)
        ended = await stage.run(job())
        assert "shape" in off(ended, "message.shape", CARD)


OTHER_TERMS: list[dict[str, Any]] = [
    {"rows": ROWS - 1},
    {"held_out": 1},
    {"outputs": 3},
    {"columns": (COLUMNS, COLUMNS + 1)},
    {"columns": (COLUMNS, COLUMNS, COLUMNS)},
    {"plan": bytes(32)},
    {"scoring": ScoringTerms(model="logistic", release="owners", fx=13, f=26, noise_bits=2, exponent=4)},
]


async def test_terms_with_other_numbers_are_noticed(tmp_path: Path) -> None:
    """The label party leads, but each party makes the plan for itself."""
    receiver, changes = "", dict[str, Any]()

    def tap(address: Address, message: Message) -> Message:
        changed = isinstance(message, Terms) and address.receiver == receiver
        return message.model_copy(update=changes) if changed else message

    async with scene(three(tmp_path), tmp_path) as stage:
        stage.tap = tap
        tried = [(CARD, OTHER_TERMS[0]), *((NOTARY, changes) for changes in OTHER_TERMS)]
        for number, (receiver, changes) in enumerate(tried):  # noqa: B007 - `tap` reads them
            off(await stage.run(job(f"credit-{number}")), "job.terms", BANK)
        nothing_left(stage)


OTHER_SIZES: list[dict[str, Any]] = [{"rows": ROWS - 1}, {"held_out": 1}, {"columns": (COLUMNS, COLUMNS + 1)}]


async def test_terms_that_agree_with_their_plan_and_not_with_the_table_are_noticed(tmp_path: Path) -> None:
    """The helper has nothing to compare them with, but the party whose table it is."""
    changes: dict[str, Any] = {}

    def other(message: Message) -> Message:
        assert isinstance(message, Terms)
        sizes: dict[str, Any] = {
            "rows": message.rows,
            "held_out": message.held_out,
            "columns": message.columns,
        } | changes
        job_says: dict[str, Any] = {"model": "logistic", "accept_narrow": False, **job().training.model_dump()}
        plan = make_plan(Request(**sizes, **job_says))
        return Terms(**sizes, plan=canonical_digest("tercet plan", plan.canonical()))

    async with scene(three(tmp_path), tmp_path) as stage:
        stage.tap = replacing(BANK, Terms, other)
        for number, changes in enumerate(OTHER_SIZES):  # noqa: B007 - `other` reads it
            ended = await stage.run(job(f"credit-{number}"))
            off(ended, "job.terms", BANK)
            assert ended[CARD].failure is not None
        nothing_left(stage)


async def test_sizes_that_are_not_the_label_partys_are_noticed(tmp_path: Path) -> None:
    """Both parties have split the same rows by the same key."""
    changes: dict[str, Any] = {}

    def other(message: Message) -> Message:
        assert isinstance(message, Sizes)
        return message.model_copy(update=changes)

    async with scene(three(tmp_path), tmp_path) as stage:
        stage.tap = replacing(CARD, Sizes, other)
        for number, changes in enumerate(OTHER_SIZES[:2]):  # noqa: B007 - `other` reads it
            off(await stage.run(job(f"credit-{number}")), "job.terms", CARD)
        nothing_left(stage)
