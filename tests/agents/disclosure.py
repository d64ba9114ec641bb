"""What a recorded run may show to whom, as checks that raise AssertionError; test_disclosure.py proves each can fail.

A check looks at the record of a run and at the plaintext, never at the protocol's code.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations, permutations

import numpy as np
from scipy.stats import chi2  # type: ignore[import-untyped]

from broker.base import Parcel
from broker.identity import Forged, parse_public
from broker.seal import NONCE_BYTES, SessionSeal, associated_data
from mpc.fixed import decode
from mpc.ring import Words, total
from mpc.schedule import Step
from schemas.address import Address, parse_address
from schemas.messages import (
    Accept,
    GradientShare,
    Handshake,
    InterceptShare,
    MaskedActivation,
    MaskedInputs,
    MaskedLabels,
    MaskedWeights,
    Message,
    OrderConfirmation,
    OrderContribution,
    PreactivationShare,
    Progress,
    Ready,
    Released,
    Start,
    Transcript,
    WeightShare,
)
from tests.agents.ledger import LEDGER, Book
from tests.agents.recording import Heard
from tests.agents.world import HELPER

LEAST_P = 1e-6
FEWEST_WORDS = 160  # ten for each value of four bits

DATA = {("label", "other"), ("other", "label"), ("other", "other")}
LEADING = {("other", "label"), ("helper", "label")}
DEALT = {("helper", "label"), ("helper", "other")}
ALL = DATA | LEADING | DEALT | {("label", "helper"), ("other", "helper")}

# Who says what to whom at all; "other" is a data party that is not the label party. Whatever is not here is a leak.
WHO: dict[type[Message], set[tuple[str, str]]] = {
    Accept: LEADING,
    Ready: LEADING,
    Start: {("label", "other"), ("label", "helper")},
    Progress: ALL,
    Handshake: ALL,
    Transcript: ALL,
    OrderContribution: DATA,
    OrderConfirmation: DATA,
    MaskedInputs: DATA,
    MaskedLabels: {("label", "other")},
    MaskedWeights: DATA,
    GradientShare: DEALT,
    PreactivationShare: {("label", "helper"), ("other", "helper")},
    MaskedActivation: DEALT,
    WeightShare: DATA,
    InterceptShare: {("other", "label")},
    Released: ALL,
}


# --- who hears what


def check_roles(heard: Heard) -> None:
    """Every kind went to exactly those roles that the table names, on the agents' side and on the broker's."""
    label = heard.names[heard.sample.label]

    def role(party: str) -> str:
        return {label: "label", HELPER: "helper"}.get(party, "other")

    found: dict[type[Message], set[tuple[str, str]]] = defaultdict(set)
    for address, message in heard.ear.said:
        found[type(message)].add((role(address.sender), role(address.receiver)))
    expected = dict(WHO)
    if len(heard.names) == 2:  # there is no third data party
        expected = {model: who - {("other", "other")} for model, who in expected.items()}
    if heard.sample.release == "shared":  # nothing is opened to anybody
        del expected[WeightShare], expected[InterceptShare]
    assert found == expected
    allowed = {(model.kind, model.round, model.item): who for model, who in expected.items()}
    for parcel in heard.ear.parcels:
        address = parse_address(parcel.address)
        pair = (role(address.sender), role(address.receiver))
        if parcel.kind == "job":
            assert pair[0] == "label"
        else:
            assert pair in allowed[parcel.kind, address.round, address.item]  # type: ignore[index]


def check_amounts(heard: Heard) -> None:
    """At each step every sender says each thing once to each receiver; the helper hears eight bytes a row of it."""
    steps = {(step.epoch, step.position): step for step in heard.plan.steps()}
    for model in (MaskedInputs, MaskedLabels, MaskedWeights, GradientShare, PreactivationShare, MaskedActivation):
        received = heard.received(model)
        assert len(received) == sum(type(message) is model for _, message in heard.ear.said)
        pairs = {key[:2] for key in received}
        assert received.keys() == {(*pair, *place) for pair in pairs for place in steps}
    for (*_, epoch, position), words in heard.received(PreactivationShare).items():
        assert words.shape == (steps[epoch, position].rows, 1)


# --- the helper


def check_helpers_view(heard: Heard) -> None:
    """What the helper can put together is exactly s z + noise in secret order; order, signs and noise do hide."""
    book, signs, places = Book(heard), [], []
    for step in book.steps:
        seen, scores = helpers_sum(heard, book, step), book.scores(step)
        if step.index:  # before, every score is zero
            signs.append(np.sign(decode(seen, book.plan.fz)) * np.sign(decode(scores, book.plan.fz)))
        places.append(np.corrcoef(np.arange(step.rows), heard.order.rows(step))[0, 1])
        low = np.unique(seen & np.uint64((1 << (book.plan.fx - 1)) - 1)).size
        assert low > 0.5 * step.rows, "no noise: the lowest bits are those of whole numbers"
        assert np.array_equal(np.sort(seen, axis=0), np.sort(book.z(step), axis=0)), "other values than s z + noise"
        assert np.array_equal(seen, book.z(step)), "another order"
    count = sum(map(len, signs))
    assert abs(np.concatenate(signs).mean()) < 6 / count**0.5, "signs agree with the scores"
    assert abs(np.mean(places)) < 6 / sum(step.rows for step in book.steps) ** 0.5, "the table's own order"


def helpers_sum(heard: Heard, book: Book, step: Step) -> Words:
    """The sum of all it received at a step and of what it knows: sum_i z_i + sum_i U_i sum_j v_ij."""
    shares = [heard.received(PreactivationShare)[name, HELPER, step.epoch, step.position] for name in book.names]
    known = []
    for i in book.ids:
        masks = [book.mask("U", i, i, step), *(book.mask("V", i, j, step) for j in book.others(i))]
        assert all(mask.receiver == HELPER for mask in masks)
        u, *v = (book.words(mask) for mask in masks)
        known.append(u @ total(v))
    return total([*shares, *known])


# --- the ledger


def check_ledger(heard: Heard) -> None:
    """Every tensor that any role received is its value plus and minus the masks that the ledger names."""
    book = Book(heard)
    assert not heard.ear.inconsistent, "two holders of a mask computed different words"
    for address, message in heard.ear.said:
        if "words" in type(message).model_fields:
            row = book.row(address, message)
            expected = row.value
            for mask in row.plus:
                expected = expected + book.words(mask)
            for mask in row.minus:
                expected = expected - book.words(mask)
            assert np.array_equal(message.words, expected), f"{address}: not its value under its masks"  # type: ignore[attr-defined]


def check_masks_once(heard: Heard) -> None:
    """Each mask hides one value in the whole run, and no two addresses share a word.

    A stream of the zero share is added by one party and subtracted by the other: once each.
    """
    book, hidden = Book(heard), defaultdict(set)
    for address, message in heard.ear.said:
        if type(message) not in LEDGER:
            continue
        row = book.row(address, message)
        value = message.words - total([np.zeros_like(row.value), *map(book.words, row.plus)])  # type: ignore[attr-defined]
        value = value + total([np.zeros_like(row.value), *map(book.words, row.minus)])
        for sign, masks in (("+", row.plus), ("-", row.minus)):
            for mask in masks:
                hidden[mask, sign].add((type(message), value.tobytes()))
    assert {len(values) for values in hidden.values()} == {1}, "a mask hides two values"
    assert {mask for mask, _ in hidden} == heard.ear.masks.keys(), "a mask was drawn for something else"
    words = np.concatenate([words.ravel() for words in heard.ear.masks.values()])
    assert np.unique(words).size == words.size, "two addresses of masks gave the same word"


# --- statistics


def check_uniform(heard: Heard) -> None:
    """Every kind between each two parties is uniform in all its bits, and so are the partial sums of shares of z."""
    kinds = set()
    for (model, _, _), words in streams(heard):
        assert words.size >= FEWEST_WORDS
        p = uniformity(words)
        assert p >= LEAST_P, f"{model.__name__} is not uniform: p = {p:.1e}"
        kinds.add(model)
    assert kinds == LEDGER.keys() - {WeightShare, InterceptShare}  # of which there are few words, meant to be opened


def streams(heard: Heard) -> Iterator[tuple[tuple[type[Message], str, str], Words]]:
    """All words of one kind between two parties; of the shares of z also sums of all but one party's, and fewer."""
    for model in LEDGER.keys() - {WeightShare, InterceptShare}:
        joined = defaultdict(list)
        for (sender, receiver, *_), words in sorted(heard.received(model).items()):
            joined[sender, receiver].append(words.ravel())
        for (sender, receiver), parts in joined.items():
            yield (model, sender, receiver), np.concatenate(parts)
        if model is PreactivationShare:
            shares = [np.concatenate(parts) for parts in joined.values()]
            for size in range(2, len(shares)):
                for some in combinations(shares, size):
                    yield (model, "several", HELPER), total(some)


def uniformity(words: Words) -> float:
    """Pearson's chi-square of each of the sixteen groups of four bits, added up: the p-value."""
    statistic = 0.0
    for shift in range(0, 64, 4):
        counts = np.bincount(((words >> np.uint64(shift)) & np.uint64(15)).astype(np.int64), minlength=16)
        statistic += float(((counts - words.size / 16) ** 2).sum() / (words.size / 16))
    return float(chi2.sf(statistic, 16 * 15))


# --- the broker's operator


def check_sealed(heard: Heard) -> None:
    """What crossed the broker holds no word, key, id, name of a column or value of a table in clear."""
    secret = [*secret_bytes(heard), *(text.encode() for text in secret_texts(heard))]
    first = np.frombuffer(b"".join(text[:8] for text in secret), "<u8").astype(np.uint64)  # all are eight bytes or more
    words = np.unique(np.concatenate([first, *(words.ravel() for words in secret_words(heard))]))
    for parcel in heard.ear.parcels:
        outside = (parcel.exchange, parcel.routing_key, parcel.kind, parcel.address, parcel.job, parcel.sender)
        for where, text in (("body", parcel.body[NONCE_BYTES:]), ("envelope", " ".join(outside).encode())):
            found = windows(text)
            places = np.minimum(np.searchsorted(words, found), words.size - 1)
            assert not (words[places] == found).any(), f"{parcel.kind}: something in clear in its {where}"


def windows(body: bytes) -> Words:
    """Every eight bytes in a row, read as a word."""
    parts = [np.frombuffer(body[k : k + (len(body) - k) // 8 * 8], "<u8") for k in range(min(8, len(body)))]
    return np.concatenate(parts).astype(np.uint64)


def secret_words(heard: Heard) -> Iterator[Words]:
    """Values, shares, masked words, masks: everything that is a word in this run."""
    book = Book(heard)
    yield from heard.xs
    yield from heard.ear.masks.values()
    yield from (message.words for _, message in heard.ear.said if "words" in type(message).model_fields)  # type: ignore[attr-defined]
    for step in book.steps:
        yield from (*(book.x(i, step) for i in book.ids), book.y(step), book.z(step), book.a(step))
    for weights in book.history:
        yield from (*weights.blocks, weights.intercept)


def secret_bytes(heard: Heard) -> Iterator[bytes]:
    """Contributions to the order key and the secrets of the handshake."""
    for _, message in heard.ear.said:
        if isinstance(message, OrderContribution):
            yield message.secret
    for run in heard.simulation.runs.values():
        assert run.context.secrets is not None
        yield from run.context.secrets.pairs.values()


def secret_texts(heard: Heard) -> Iterator[str]:
    """Ids, names of columns, and values of tables; those of eight characters or more, to be told from chance."""
    for table in heard.sample.tables().values():
        for column, values in table.items():
            yield from (text for text in (column, *values) if len(text) >= 8)


def check_keys(heard: Heard) -> None:
    """Only its receiver opens a parcel, only as from its sender, only under its own address; no nonce repeats."""
    parties = heard.sample.description().parties
    contexts = {party: heard.simulation.runs[party].context for party in parties}
    publics = {member.name: parse_public(member.key) for member in contexts[HELPER].job.members}
    runs = (contexts[HELPER].job.run, b"")  # an announcement says it within
    nonces: set[tuple[str, str, bytes]] = set()
    bodies: dict[Address, bytes] = {}

    def opens(parcel: Parcel, reader: str, sender: str, address: str) -> bool:
        session, associated = (
            contexts[reader].mailbox._session,
            associated_data(address, parcel.kind, runs[parcel.kind == "job"]),
        )
        assert isinstance(session, SessionSeal)
        try:
            if sealed_by_identity(parcel):
                contexts[reader].identity.open(parcel.body, publics[sender], associated)
            else:
                session.open(sender, parcel.body, associated)
        except Forged:
            return False
        return True

    for parcel in heard.ear.parcels:
        address = parse_address(parcel.address)
        assert bodies.setdefault(address, parcel.body) == parcel.body, "two bodies for one address"
        for reader, sender in permutations(parties, 2):
            rightly = (reader, sender) == (address.receiver, address.sender)
            assert opens(parcel, reader, sender, parcel.address) == rightly
        elsewhere = address._replace(step=address.step + 1)
        assert not opens(parcel, address.receiver, address.sender, str(elsewhere))
        if not sealed_by_identity(parcel):
            nonces.add((address.sender, address.receiver, parcel.body[:NONCE_BYTES]))
    assert len(nonces) == sum(not sealed_by_identity(parcel) for parcel in distinct(heard)), "a nonce twice"


def sealed_by_identity(parcel: Parcel) -> bool:
    """What is said before there are session keys, or without them."""
    return parse_address(parcel.address).round in {"control", "handshake"}


def distinct(heard: Heard) -> list[Parcel]:
    """Parcels without their repeats."""
    return list({parcel.address: parcel for parcel in heard.ear.parcels}.values())
