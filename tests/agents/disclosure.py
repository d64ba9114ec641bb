"""Checks what a recorded run shows to whom; roles/test_disclosure.py proves that each check can fail.

A check looks at the record of a run and at the plaintext, never at the protocol's code.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, permutations

import numpy as np
from scipy.stats import chi2

from tercet.agents.reports.build import Result
from tercet.broker.interface.base import Envelope
from tercet.broker.sealing.identity import Forged, parse_public
from tercet.broker.sealing.seal import NONCE_BYTES, SessionSeal, associated_data
from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.secret_order import derive_subkey
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.messages.address import Address, parse_address
from tercet.schemas.messages.kinds import (
    Accept,
    AlignedRows,
    Approvers,
    BlindedIds,
    BundleKey,
    Cancel,
    CheckCommitment,
    CheckedMasks,
    CheckOpening,
    Checkpoints,
    CheckRows,
    ColumnEncoding,
    DealtShares,
    Decide,
    EpochDecision,
    ErrorOpening,
    Failure,
    GoOn,
    GradientShare,
    Handshake,
    HeldOutDealtShares,
    HeldOutHiddenAnswer,
    HeldOutHiddenOpening,
    HeldOutHiddenShare,
    HeldOutInputs,
    HeldOutLabels,
    HeldOutLossScores,
    HeldOutLossShare,
    HeldOutMaskOpenings,
    HeldOutNarrowOpening,
    HeldOutRows,
    HeldOutScoreOpening,
    HeldOutShare,
    HeldOutTerms,
    HeldOutWeightOpening,
    HeldOutWeights,
    HiddenAnswer,
    HiddenOpening,
    HiddenShare,
    Inquiry,
    InterceptShare,
    Job,
    LabelUnit,
    LossShare,
    LossTerms,
    MaskedActivation,
    MaskedError,
    MaskedErrors,
    MaskedInputs,
    MaskedLabels,
    MaskedLossLabels,
    MaskedLossScores,
    MaskedRowWeights,
    MaskedScores,
    MaskedWeights,
    MaskOpenings,
    Message,
    ModelCommitments,
    ModelOpening,
    ModelShare,
    ModelUpperOpening,
    NarrowingDealtShares,
    NarrowingOpening,
    NarrowOpening,
    NextWeights,
    OrderCommitment,
    OrderConfirmation,
    OrderContribution,
    Outcome,
    OutputErrorOpening,
    PartialScores,
    Ping,
    Pong,
    PreactivationShare,
    Presence,
    Progress,
    Prune,
    Pseudonyms,
    Query,
    Ready,
    Received,
    Released,
    Resumption,
    RowMaskKey,
    ScoreAnswer,
    ScoreBound,
    ScoreOpening,
    ScoreQuery,
    ScoreRefusal,
    ScoreReply,
    ScoreRequest,
    Scores,
    ScoringDealtShares,
    ScoringHiddenAnswer,
    ScoringHiddenOpening,
    ScoringHiddenShare,
    ScoringInputs,
    ScoringMaskOpenings,
    ScoringScoreOpening,
    ScoringShare,
    ScoringWeightOpening,
    ScoringWeights,
    SentRowDigests,
    Sizes,
    SlopeOpening,
    SplitKey,
    SpreadShare,
    Start,
    Status,
    StepsDone,
    Submit,
    Terms,
    Transcript,
    TruncationOpening,
    TwiceBlindedIds,
    UpperShare,
    WeightMaskSeed,
    WeightOpening,
    WeightShare,
)
from tests.agents.ledger import (
    LEDGER,
    SAID,
    AbsentMaskError,
    Book,
    Pass,
    Prediction,
    Row,
    book_of,
    common_ids,
    pieces,
    split_key,
)
from tests.agents.recording import Heard
from tests.agents.statistics.test_disclosure import ALWAYS, MAP, WOE
from tests.agents.world import HELPER, PERSON

Kinds = set[type[Message]]
LEAST_P = 1e-6
SHORTEST = 8  # characters of a text that is told from chance
FEWEST_WORDS = 160  # ten for each value of four bits

DATA = {("label", "other"), ("other", "label"), ("other", "other")}
TO_LABEL = {("other", "label")}
LEADING = {("other", "label"), ("helper", "label")}
LED = {("label", "other"), ("label", "helper")}
DEALT = {("helper", "label"), ("helper", "other")}
TO_HELPER = {("label", "helper"), ("other", "helper")}
ALL = DATA | LEADING | DEALT | TO_HELPER

# Who says what to whom at all; "other" is a data party that is not the label party. Whatever is not here is a leak.
WHO: dict[type[Message], set[tuple[str, str]]] = {
    Received: LEADING,
    Approvers: LED,
    Accept: LEADING,
    Ready: LEADING,
    Start: LED,
    Progress: ALL,
    Handshake: ALL,
    Transcript: ALL,
    OrderCommitment: DATA,
    OrderContribution: DATA,
    SplitKey: DATA,
    Pseudonyms: TO_HELPER,
    Presence: DEALT,
    BlindedIds: DATA,
    TwiceBlindedIds: DATA,
    AlignedRows: DATA,
    HeldOutRows: {("label", "other")},  # where the job names a column for that
    Sizes: TO_LABEL,
    Terms: LED,
    OrderConfirmation: DATA,
    MaskedInputs: DATA,
    CheckedMasks: DATA,
    BundleKey: DATA,
    CheckRows: DATA,
    CheckCommitment: DATA,
    CheckOpening: DATA,
    MaskedLabels: {("label", "other")},
    MaskedWeights: DATA,
    GradientShare: DEALT,
    PreactivationShare: TO_HELPER,
    MaskedActivation: DEALT,
    MaskedLossLabels: {("label", "other")},
    LossTerms: {("helper", "label")},
    LossShare: TO_LABEL,  # and DATA where the job tells all
    EpochDecision: LED,
    ScoringInputs: DATA,
    ScoringWeights: DATA,
    ScoringShare: TO_HELPER,
    Scores: {("helper", "label")},
    PartialScores: TO_LABEL,
    HeldOutInputs: DATA,
    HeldOutWeights: DATA,
    HeldOutLabels: {("label", "other")},
    HeldOutShare: TO_HELPER,
    HeldOutTerms: {("helper", "label")},
    HeldOutLossShare: TO_LABEL,  # and DATA where the job tells all
    HeldOutMaskOpenings: DATA,
    HeldOutDealtShares: DEALT,  # of which the first data party is the only one
    HeldOutHiddenShare: TO_HELPER,
    HeldOutHiddenAnswer: DEALT,
    HeldOutWeightOpening: DATA,
    WeightShare: DATA,
    InterceptShare: TO_LABEL,
    ModelShare: TO_LABEL,
    ColumnEncoding: TO_LABEL,
    MaskOpenings: DATA,
    DealtShares: DEALT,
    HiddenShare: TO_HELPER,
    HiddenAnswer: DEALT,
    WeightOpening: DATA,
    NarrowOpening: DATA,
    TruncationOpening: DATA,
    SlopeOpening: DATA,
    ErrorOpening: DATA,
    MaskedError: DATA,
    ScoringMaskOpenings: DATA,
    ScoringDealtShares: DEALT,  # of which the first data party is the only one
    ScoringHiddenShare: TO_HELPER,
    ScoringHiddenAnswer: DEALT,
    ScoringWeightOpening: DATA,
    UpperShare: TO_LABEL,
    ModelCommitments: DEALT,
    ModelOpening: DATA,
    ModelUpperOpening: DATA,
    WeightMaskSeed: TO_HELPER,  # of a prediction; it shares what is made of it with its sender
    ScoreBound: TO_HELPER,  # where an attempt has no step left
    Released: ALL,
    Checkpoints: TO_LABEL,
    GoOn: LED,
    ScoreOpening: DATA,
    OutputErrorOpening: DATA,
    SpreadShare: DATA,
    NextWeights: DATA,
    StepsDone: {("label", "helper")},
    RowMaskKey: TO_HELPER,  # which shares the masks that are made of it with its sender
    SentRowDigests: DATA,  # where an attempt goes on
    MaskedRowWeights: {("label", "other")},
    MaskedErrors: TO_LABEL,
    MaskedLossScores: TO_LABEL,
    MaskedScores: TO_LABEL,
    HeldOutScoreOpening: DATA,
    HeldOutLossScores: TO_LABEL,
    HiddenOpening: DATA,
    ScoringScoreOpening: DATA,
    ScoringHiddenOpening: DATA,
    HeldOutHiddenOpening: DATA,
    HeldOutNarrowOpening: DATA,
    NarrowingOpening: DATA,
    NarrowingDealtShares: DEALT,  # of which the first data party is the only one
}
# Before a job, of its end, while rows are served, and at a party's own console.
ELSEWHERE: Kinds = {Job, Failure, Cancel, Submit, Query, Status, Decide, Prune, Ping, Pong, Inquiry, Outcome,
                    Resumption, ScoreRequest, ScoreAnswer, ScoreRefusal, ScoreQuery, ScoreReply}  # fmt: skip

BLOCKS: Kinds = {MaskedInputs, CheckedMasks, MaskedLabels, MaskedWeights, GradientShare, PreactivationShare,
                 MaskedActivation}  # fmt: skip
SCORED: Kinds = {ScoringInputs, ScoringShare, Scores}
LOST: Kinds = {HeldOutInputs, HeldOutLabels, HeldOutShare, HeldOutTerms}
LAYERS: Kinds = {MaskOpenings, DealtShares, HiddenShare, HiddenAnswer, WeightOpening, NarrowOpening,
                 TruncationOpening, MaskedError}  # fmt: skip
SCORED_LAYERS: Kinds = {ScoringMaskOpenings, ScoringDealtShares, ScoringHiddenShare, ScoringHiddenAnswer}
LOST_LAYERS: Kinds = {HeldOutMaskOpenings, HeldOutDealtShares, HeldOutHiddenShare, HeldOutHiddenAnswer}
OF_NETWORKS = (
    LAYERS
    | SCORED_LAYERS
    | LOST_LAYERS
    | {SlopeOpening, ErrorOpening, UpperShare, ScoringWeightOpening, HeldOutWeightOpening, ModelUpperOpening}
)  # whose ledger is with mpc's tests
BLIND: Kinds = {MaskedInputs, MaskedWeights, NextWeights, DealtShares, ScoreOpening, OutputErrorOpening, SpreadShare}
BLIND_LOSS: Kinds = {MaskedLossLabels, MaskedLossScores, LossShare}
BLIND_LOST: Kinds = {HeldOutInputs, HeldOutWeights, HeldOutLabels, HeldOutDealtShares,
                     HeldOutScoreOpening, HeldOutLossScores, HeldOutLossShare}  # fmt: skip
BLIND_LAYERS: Kinds = {HiddenOpening, WeightOpening, NarrowOpening, TruncationOpening, SlopeOpening,
                       NarrowingOpening, NarrowingDealtShares}  # fmt: skip
BLIND_SCORED: Kinds = {ScoringInputs, ScoringDealtShares, MaskedScores}
BLIND_SCORED_LAYERS: Kinds = {ScoringScoreOpening, ScoringHiddenOpening}
BLIND_LOST_LAYERS: Kinds = {HeldOutHiddenOpening, HeldOutWeightOpening, HeldOutNarrowOpening}
# Of trainings in which the helper sees nothing; their ledger is with mpc's tests, too.
OF_BLIND = {BundleKey, CheckRows, NextWeights, ScoreOpening, OutputErrorOpening, SpreadShare, MaskedLossScores,
            MaskedRowWeights, MaskedErrors, MaskedScores, HeldOutScoreOpening, HeldOutLossScores, HiddenOpening,
            NarrowingOpening, NarrowingDealtShares, HeldOutHiddenOpening, HeldOutNarrowOpening,
            *BLIND_SCORED_LAYERS}  # fmt: skip
FOR_HELPER = {HiddenShare, PreactivationShare, ScoringHiddenShare, ScoringShare, HeldOutHiddenShare, HeldOutShare}
# Few words, or meant to be known to whoever gets them.
OPENED: Kinds = {WeightShare, InterceptShare, UpperShare, ModelShare, LossShare, HeldOutLossShare, Scores,
                 ScoringWeights, ScoringWeightOpening, HeldOutWeights, HeldOutWeightOpening, ModelOpening,
                 ModelUpperOpening}  # fmt: skip
OF_STATISTICS: Kinds = {*ALWAYS, *WOE, *MAP, LabelUnit}  # whose tests and mpc's have who is told what
OF_SERVING = {ScoreAnswer}  # tests/agents/serving/test_disclosure.py tells what hides it


def due(heard: Heard) -> Kinds:
    """The kinds that a job like this one has, beside those that every job has."""
    job = heard.job
    kinds: Kinds = {Received, Approvers, Accept, Ready, Start, Progress, Handshake, Transcript, Released}
    kinds |= {OrderCommitment, OrderContribution, OrderConfirmation, AlignedRows, Sizes, Terms}
    kinds |= {Pseudonyms, Presence} if job.alignment == "helper" else set()
    kinds |= {BlindedIds, TwiceBlindedIds} if job.alignment == "ecdh" else set()
    kinds |= {SplitKey} if isinstance(job, TrainingJob) and job.evaluation.split is not None else set()
    network = heard.network
    is_blind = heard.sample.description().is_blind
    scored = SCORED if network is None else SCORED | SCORED_LAYERS
    if is_blind:
        scored = BLIND_SCORED if network is None else BLIND_SCORED | BLIND_SCORED_LAYERS
    scored = scored | ({ScoringDealtShares} if _outputs(heard) > 1 else set())
    alone = heard.sample.release == "owners" and network is None
    if not isinstance(job, TrainingJob):
        return kinds | ({PartialScores} if alone else scored | {WeightMaskSeed})
    kinds |= {Checkpoints, GoOn, ModelCommitments}
    kinds |= BLIND | {BundleKey, CheckRows, RowMaskKey, StepsDone} if is_blind else BLOCKS
    kinds |= {CheckCommitment, CheckOpening}
    if not alone:
        kinds |= {ModelOpening} if network is None else {ModelOpening, ModelUpperOpening}
    if alone or job.evaluation.metrics == "epoch":
        scored |= {ScoringWeights} if network is None else {ScoringWeights, ScoringWeightOpening}
    if network is not None and is_blind:
        kinds |= BLIND_LAYERS
    elif network is not None:
        kinds = kinds - {GradientShare} | LAYERS
        kinds |= {SlopeOpening} if heard.plan.smooth else set()
        kinds |= {ErrorOpening} if len(network.hidden) > 1 else set()
    loss = BLIND_LOSS if is_blind else {MaskedLossLabels, LossTerms, LossShare}
    kinds |= loss if job.evaluation.loss else set()
    kinds |= {MaskedRowWeights, MaskedErrors} if job.weighs_errors or job.model == "tweedie" else set()
    if job.evaluation.held_out_loss and is_blind:
        kinds |= BLIND_LOST if network is None else BLIND_LOST | BLIND_LOST_LAYERS
    elif job.evaluation.held_out_loss:
        kinds |= LOST | {HeldOutLossShare, HeldOutWeights} | ({HeldOutDealtShares} if _outputs(heard) > 1 else set())
        kinds |= set() if network is None else LOST_LAYERS | {HeldOutWeightOpening}
    kinds |= scored if job.scorings else set()
    kinds |= {EpochDecision} if job.early_stopping else set()
    released: dict[str, Kinds] = {
        "owners": {WeightShare, InterceptShare if network is None else UpperShare},
        "label": {ModelShare, ColumnEncoding},
    }
    return kinds | released.get(job.release, set())


def none_of(faults: Iterable[str]) -> None:
    """Name all that is wrong, so that of several mistakes in a run none hides behind another."""
    found = sorted(set(faults))
    assert not found, "; ".join(found)


# --- who hears what


def check_roles(heard: Heard) -> None:
    """Every kind went to exactly those roles that the table names, on the agents' side and on the broker's."""
    label = heard.names[heard.sample.label]

    def role(party: str) -> str:
        return {label: "label", HELPER: "helper"}.get(party, "other")

    found: dict[type[Message], set[tuple[str, str]]] = defaultdict(set)
    for address, message in heard.ear.said:
        found[type(message)].add((role(address.sender), role(address.receiver)))
    expected = {model: WHO[model] for model in due(heard)}
    if isinstance(heard.job, TrainingJob) and heard.job.evaluation.loss_to == "all":
        expected |= dict.fromkeys(expected.keys() & {LossShare, HeldOutLossShare}, DATA)
    is_blind, turns = heard.sample.description().is_blind, Kinds()
    if is_blind:  # of a network data parties are dealt words in turn
        several = heard.network is not None and heard.received(ScoringDealtShares).keys()
        turns = {HeldOutDealtShares} | ({ScoringDealtShares} if several and len(several) > 1 else set())
    carried = {ScoringDealtShares, HeldOutDealtShares, NarrowingDealtShares} - turns
    for model in expected.keys() & carried:
        expected[model] = {("helper", role(heard.names[0]))}
    if BundleKey in expected:  # few bundles are opened, and each has one data party in turn
        expected[BundleKey] = found[BundleKey] & DATA
    if len(heard.names) == 2:  # there is no third data party
        expected = {model: who - {("other", "other")} for model, who in expected.items()}
    none_of(f"{model.__name__} to others" for model, who in found.items() if expected.get(model) != who)
    assert expected.keys() == found.keys()
    allowed = {(model.kind, model.round, model.item): who for model, who in expected.items()}
    for envelope in heard.ear.envelopes:
        address = parse_address(envelope.address)
        pair = (role(address.sender), role(address.receiver))
        if envelope.kind == "job":
            assert pair[0] == "label"
        else:
            assert pair in allowed[envelope.kind, address.round, address.item]  # type: ignore[index]


def check_amounts(heard: Heard) -> None:
    """At each step every sender says each thing once to each receiver; the helper hears eight bytes a row of it."""
    book = book_of(heard)
    assert len(heard.ear.said) == len({address for address, _ in heard.ear.said}), "something was said twice"
    for passes, every, dealt, share, weights in (
        (book.passes, SCORED, ScoringDealtShares, ScoringShare, ScoringWeights),
        (book.held_out_passes, LOST, HeldOutDealtShares, HeldOutShare, HeldOutWeights),
    ):
        passed = {(step.epoch, step.position): step for one in passes.values() for step in one.steps}
        _check_steps(heard, (every | ({dealt} if heard.network is None else set())) & due(heard), passed, share)
        _check_places(heard, weights, {(epoch, 0) for epoch, _ in passed})  # once, whatever the number of batches
    _check_places(heard, ModelOpening, {(0, 0)})
    assert {key[2:] for key in heard.received(HeldOutLossShare)} == {(epoch, 0) for epoch in book.held_out_passes}
    if not isinstance(book, Book):
        assert len(heard.received(PartialScores)) in {0, len(heard.names) - 1}
        return
    obtained = {(step.epoch, step.position): step for step in book.obtained}
    along = {MaskedLossLabels, LossTerms} & due(heard)
    _check_steps(heard, (BLOCKS - {GradientShare}) | along, obtained, PreactivationShare)
    ahead = {key[2:] for key in heard.received(GradientShare)}  # perhaps for steps that an early stop drops
    assert obtained.keys() <= ahead <= {(step.epoch, step.position) for step in book.steps}
    if len(book.obtained) == len(book.steps):
        _check_steps(heard, {GradientShare}, obtained, GradientShare)
    _check_places(heard, LossShare, {(epoch, 0) for epoch, _ in obtained})


def _check_places(heard: Heard, model: type[Message], places: set[tuple[int, int]]) -> None:
    """A kind that is due was said at these places, and no other was said at all."""
    assert {key[2:] for key in heard.received(model)} == (places if model in due(heard) else set())


def _outputs(heard: Heard) -> int:
    """Of the model."""
    return heard.parts[0].part.outputs if heard.parts else heard.plan.outputs


def _check_steps(heard: Heard, models: Kinds, steps: dict[tuple[int, int], Step], to_helper: type[Message]) -> None:
    outputs = _outputs(heard)
    for model in models:
        received = heard.received(model)
        pairs = {key[:2] for key in received}
        assert received.keys() == {(*pair, *place) for pair in pairs for place in steps}, model.__name__
    if to_helper is not GradientShare:
        for (*_, epoch, position), words in heard.received(to_helper).items():
            assert words.shape == (steps[epoch, position].rows, outputs)


# --- the helper


def check_helpers_view(heard: Heard) -> None:
    """What the helper can put together is exactly s z P + noise in secret order; order, signs and noise do hide."""
    book = book_of(heard)
    views: list[tuple[Book | Pass, Sequence[Step], type[Message]]] = []
    views += [(one, one.steps, ScoringShare) for one in book.passes.values()]
    views += [(one, one.steps, HeldOutShare) for one in book.held_out_passes.values()]
    if isinstance(book, Book):
        views.append((book, book.obtained, PreactivationShare))
    signs, places, fixed, rows, faults = [], [], [], 0, set()
    for page, steps, model in views:
        order, numbers = page.order, page.numbers
        for step in steps:
            seen, scores = helpers_sum(heard, page, step, model), page.scores(step)
            if numbers.link.odd:
                signs.append(np.sign(decode(seen, numbers.fz)) * np.sign(decode(scores, numbers.fz)))
            fixed.append((order.classes(step, numbers.outputs) == np.arange(numbers.outputs)).sum())
            places.append(np.corrcoef(np.arange(step.rows), order.rows(step))[0, 1])
            rows += step.rows
            bits = np.uint64((1 << (numbers.fx - 1)) - 1)
            for words in (seen, seen[:, :-1] - seen[:, 1:]):  # noise of a whole row is none in differences
                whole = np.unique(words & bits).size <= 0.5 * words.size > 0
                faults |= {"no noise: the lowest bits are those of whole numbers"} if whole else set()
            assert np.array_equal(np.sort(seen, axis=0), np.sort(page.z(step), axis=0)), "others than s z + noise"
            assert np.array_equal(seen, page.z(step)), "another order"
    if signs:
        together = np.concatenate(signs)
        together = together[together != 0]  # before the first step every score is
        if abs(together.mean()) >= 6 / len(together) ** 0.5:
            faults.add("signs agree with the scores")
    # A permutation leaves one place as it is on average, with a deviation of one.
    if views and abs(np.mean(fixed) - 1) >= 6 / len(fixed) ** 0.5:
        faults.add("the classes' own order")
    if views and abs(np.mean(places)) >= 6 / rows**0.5:
        faults.add("the table's own order")
    none_of(faults)


def helpers_sum(heard: Heard, page: Book | Pass, step: Step, model: type[Message]) -> Words:
    """The sum of all it received at a step and of what it knows: sum_i z_i + sum_i U_i sum_j v_ij."""
    shares = [heard.received(model)[name, HELPER, step.epoch, step.position] for name in page.names]
    known = []
    if isinstance(page, Pass) and page.numbers.outputs > 1:  # the data parties add that, in their order
        return total(shares)
    for i in page.ids:
        masks = [page.mask("U", i, i, step), *(page.mask("V", i, j, step) for j in page.others(i))]
        assert all(mask.receiver == HELPER for mask in masks)
        u, *v = (page.words(mask) for mask in masks)
        known.append(u @ total(v))
    return total([*shares, *known])


# --- the ledger


def check_ledger(heard: Heard) -> None:
    """Every tensor that any role received is its value plus and minus the masks that the ledger names."""
    book, faults = book_of(heard), unequal_masks(heard)
    for address, message in heard.ear.said:
        if "words" in type(message).model_fields and not is_masked(book, address, message):
            faults.add(f"{type(message).__name__}: not its value under its masks")
    none_of(faults)


def unequal_masks(heard: Heard) -> set[str]:
    """A fault, where there are such."""
    return {"two holders of a mask computed different words"} if heard.ear.inconsistent else set()


def is_masked(book: Book | Prediction, address: Address, message: Message) -> bool:
    """Whether a tensor is what the ledger says."""
    try:
        return all(np.array_equal(bare(book, *one), one.row.value) for one in pieces(book, address, message))
    except AbsentMaskError:
        return False


def bare(book: Book | Prediction, words: Words, row: Row) -> Words:
    """A tensor without its masks."""
    plus, minus = ([book.fitted(mask, row.value) for mask in masks] for masks in (row.plus, row.minus))
    return total([words, *minus]) - total([np.zeros_like(words), *plus])


def check_said(heard: Heard) -> None:
    """What is said beside tensors is what follows from what its receiver may know, to the last byte."""
    secret: dict[str, set[str]] = defaultdict(set)  # by what they begin with
    for text in secret_texts(heard):
        secret[text[:SHORTEST]].add(text)
    for address, message in heard.ear.said:
        kind = type(message)
        assert kind in WHO, f"{kind.__name__} is not known here"
        if kind in SAID and not (heard.job.alignment != "helper" and kind is AlignedRows):
            assert message == SAID[kind](heard, address), f"{address}: something else is said"
        elif isinstance(message, (BlindedIds, TwiceBlindedIds)):
            check_elements(heard, address, message)
        elif "words" not in kind.model_fields:
            texts = repr(message.model_dump())
            begins = (texts[k : k + SHORTEST] for k in range(len(texts)))
            found = [text for begin in begins if begin in secret for text in secret[begin]]
            assert not any(text in texts for text in found), f"{address}: something of a table"


def check_elements(heard: Heard, address: Address, message: BlindedIds | TwiceBlindedIds) -> None:
    """One for each id of the list, all different; no exponent is known here that could tell more."""
    blinded = isinstance(message, BlindedIds)
    whole, size = (message.elements, 32) if isinstance(message, BlindedIds) else (message.hashes, 16)
    entries = [whole[at : at + size] for at in range(0, len(whole), size)]
    owner = address.sender if blinded else address.receiver
    assert len(set(entries)) == len(entries) == len(heard.tables[owner][PERSON])


def check_kinds(_: Heard) -> None:
    """Every message that there is has a place here, and every one with a tensor a row in a ledger."""
    kinds = set(Message.__subclasses__())
    assert kinds == WHO.keys() | ELSEWHERE | OF_STATISTICS
    with_tensors = {kind for kind in kinds - OF_STATISTICS if "words" in kind.model_fields}
    assert with_tensors == LEDGER | OF_NETWORKS | OF_BLIND | OF_SERVING
    carrying = {kind for kind in kinds if any(field.annotation is bytes for field in kind.model_fields.values())}
    # Uniform, or public, or a hash of words that its receiver has too, or for this party's own console.
    secret = {OrderContribution, OrderConfirmation, Handshake, Transcript, Job, Terms, Inquiry, Resumption, RowMaskKey,
              WeightMaskSeed, CheckCommitment, CheckOpening, SpreadShare, ScoreRequest, ScoreReply}  # fmt: skip
    assert carrying - secret - OF_STATISTICS <= SAID.keys() | {BlindedIds, TwiceBlindedIds}


def check_split(heard: Heard) -> None:
    """Which rows are held out follows from a key that the helper has not, and is the same at all data parties."""
    job = heard.job
    assert isinstance(job, TrainingJob)
    key = derive_subkey(split_key(heard), "split")
    for role, party in zip(heard.roles, heard.names, strict=True):
        common = [heard.tables[party][PERSON][row] for row in role.own.rows]
        assert job.alignment != "helper" or common == common_ids(heard)
        hashes = [hashlib.blake2b(one.encode(), digest_size=8, key=key).digest() for one in common]
        expected = [int.from_bytes(one, "little") < int(job.evaluation.holdout * 2**64) for one in hashes]
        assert role.held_out.tolist() == expected


def check_masks_once(heard: Heard) -> None:
    """Each mask hides one value in the whole run, and no two addresses share a word, whatever they are for.

    A stream of the zero share is added by one party and subtracted by the other: once each. So is a q_j.
    """
    book, hidden = book_of(heard), defaultdict(set)
    for address, message in heard.ear.said:
        if type(message) not in LEDGER:
            continue
        for words, row in pieces(book, address, message):
            value = bare(book, words, row)
            for sign, masks in (("+", row.plus), ("-", row.minus)):
                for mask in masks:
                    hidden[mask, sign].add((type(message), value.tobytes()))
    assert all(len(values) == 1 for values in hidden.values()), "a mask hides two values"
    idle = heard.ear.masks.keys() - {mask for mask, _ in hidden}
    assert all(book.is_spare(mask) for mask in idle), "a mask was drawn for something else"
    if heard.ear.masks:
        check_masks_apart(heard)


def check_masks_apart(heard: Heard) -> None:
    """Both ends of a mask draw the same, and no two addresses share a word, whatever they are for."""
    faults = unequal_masks(heard)
    words = np.sort(np.concatenate([words.ravel() for words in heard.ear.masks.values()]))
    twice = words[1:][words[1:] == words[:-1]]
    if twice.size:
        masks = [mask for mask, words in heard.ear.masks.items() if any_of(words, twice)]
        faults |= {f"two addresses of masks gave the same word: {one.purpose} {one.name}" for one in masks}
    none_of(faults)


def any_of(words: Words, ascending: Words) -> bool:
    """Whether any of the words is in an array that is sorted; faster than `np.isin`, which sorts it each time."""
    places = np.minimum(np.searchsorted(ascending, words), ascending.size - 1)
    return bool((ascending[places] == words).any())


# --- statistics


def check_uniform(heard: Heard) -> None:
    """Every kind between each two parties is uniform in all its bits, and so are the partial sums of shares of z."""
    check_streams(heard, (LEDGER & due(heard)) - OPENED)


def check_streams(heard: Heard, models: Iterable[type[Message]]) -> None:
    """So is all that was said of these kinds; of shares for the helper also sums of all but one party's, and fewer."""
    uneven = set[str]()
    for model in models:
        joined = defaultdict(list)
        for (sender, receiver, *_), words in sorted(heard.received(model).items()):
            joined[sender, receiver].append(words.ravel())
        streams = [np.concatenate(parts) for parts in joined.values()]
        assert streams, f"nobody has sent {model.__name__}"
        if model is MaskedScores:  # whose low bits are left out
            streams = [top_bits(words) for words in streams]
        if model in FOR_HELPER:
            sizes = range(2, len(streams))
            streams += [total(some) for size in sizes for some in combinations(streams, size)]
        for words in streams:
            assert words.size >= FEWEST_WORDS, f"{model.__name__}: {words.size} words are too few"
            if uniformity(words) < LEAST_P:
                uneven.add(model.__name__)
    assert not uneven, f"not uniform: {sorted(uneven)}"


def top_bits(words: Words) -> Words:
    """The upper sixteen bits of each word, four in one."""
    return np.ascontiguousarray((words >> np.uint64(48)).astype(np.uint16)[: words.size // 4 * 4]).view(np.uint64)


def uniformity(words: Words) -> float:
    """Pearson's chi-square of each of the sixteen groups of four bits, added up: the p-value."""
    statistic = 0.0
    for shift in range(0, 64, 4):
        counts = np.bincount(((words >> np.uint64(shift)) & np.uint64(15)).astype(np.int64), minlength=16)
        statistic += float(((counts - words.size / 16) ** 2).sum() / (words.size / 16))
    return float(chi2.sf(statistic, 16 * 15))


# --- the broker's operator


def check_sealed(heard: Heard, values: Iterable[Words] | None = None) -> None:
    """What crossed the broker holds no word, key, id, name of a column or value of a table in clear.

    `values` are the plain ones of the run, if not those of its book.
    """
    secret = [*secret_bytes(heard), *(text.encode() for text in secret_texts(heard))]
    first = np.frombuffer(b"".join(text[:8] for text in secret), "<u8").astype(np.uint64)  # all are eight bytes or more
    words = np.sort(np.concatenate([first, *(words.ravel() for words in secret_words(heard, values))]))
    begins = np.zeros(1 << 24, np.bool_)  # whether any of them begins with these bits: few windows do
    begins[words >> np.uint64(40)] = True
    for envelope in heard.ear.envelopes:
        outside = (
            envelope.exchange,
            envelope.routing_key,
            envelope.kind,
            envelope.address,
            envelope.job,
            envelope.sender,
        )
        for where, text in (("body", envelope.body[NONCE_BYTES:]), ("envelope", " ".join(outside).encode())):
            found = windows(text)
            found = found[begins[found >> np.uint64(40)]]
            assert not any_of(found, words), f"{envelope.kind}: something in clear in its {where}"


def windows(body: bytes) -> Words:
    """Every eight bytes in a row, read as a word."""
    parts = [np.frombuffer(body[k : k + (len(body) - k) // 8 * 8], "<u8") for k in range(min(8, len(body)))]
    return np.concatenate(parts).astype(np.uint64)


def secret_words(heard: Heard, values: Iterable[Words] | None) -> Iterator[Words]:
    """Values, shares, masked words, masks: everything that is a word in this run."""
    yield from book_of(heard).values() if values is None else values
    yield from heard.ear.masks.values()
    yield from (message.words for _, message in heard.ear.said if "words" in type(message).model_fields)  # type: ignore[attr-defined]


def secret_bytes(heard: Heard) -> Iterator[bytes]:
    """Contributions to the order key, pseudonyms, and the secrets of the handshake."""
    for _, message in heard.ear.said:
        if isinstance(message, (OrderContribution, WeightMaskSeed)):
            yield message.secret
        if isinstance(message, Pseudonyms):
            yield from (message.pseudonyms[at : at + 16] for at in range(0, len(message.pseudonyms), 16))
    for run in heard.simulation.runs.values():
        assert isinstance(run.reached, Result)
        yield from run.reached.context.session.secrets.pairs.values()


def secret_texts(heard: Heard) -> Iterator[str]:
    """Ids, names of columns, and values of tables; those of eight characters or more, to be told from chance."""
    for table in heard.tables.values():
        for column, values in table.items():
            yield from (text for text in (column, *values) if len(text) >= SHORTEST)


def check_keys(heard: Heard) -> None:
    """Only its receiver opens an envelope, only as from its sender, only under its own address; no nonce repeats."""
    parties = heard.sample.description().parties
    contexts = {party: heard.simulation.runs[party].context for party in parties}
    publics = {member.name: parse_public(member.key) for member in contexts[HELPER].job.members}
    runs = (contexts[HELPER].job.run, b"")  # an announcement says it within
    nonces: set[tuple[str, str, bytes]] = set()
    faults: set[str] = set()
    bodies: dict[Address, bytes] = {}

    def opens(envelope: Envelope, reader: str, sender: str, address: str) -> bool:
        session, associated = (
            contexts[reader].mailbox._session,
            associated_data(address, envelope.kind, runs[envelope.kind == "job"]),
        )
        assert isinstance(session, SessionSeal)
        try:
            if sealed_by_identity(envelope):
                contexts[reader].identity.open(envelope.body, publics[sender], associated)
            else:
                session.open(sender, envelope.body, associated)
        except Forged:
            return False
        return True

    for envelope in heard.ear.envelopes:
        address = parse_address(envelope.address)
        assert bodies.setdefault(address, envelope.body) == envelope.body, "two bodies for one address"
        key = "an identity's" if sealed_by_identity(envelope) else "a session's"
        for reader, sender in tried(parties, address):
            rightly = (reader, sender) == (address.receiver, address.sender)
            if opens(envelope, reader, sender, envelope.address) != rightly:
                faults.add(f"{key} envelope opens to others, or not")
        elsewhere = address._replace(step=address.step + 1)
        if opens(envelope, address.receiver, address.sender, str(elsewhere)):
            faults.add(f"{key} envelope opens under another address")
        if not sealed_by_identity(envelope):
            nonces.add((address.sender, address.receiver, envelope.body[:NONCE_BYTES]))
    if len(nonces) != sum(not sealed_by_identity(envelope) for envelope in distinct(heard)):
        faults.add("a nonce twice")
    none_of(faults)


def tried(parties: Iterable[str], address: Address) -> list[tuple[str, str]]:
    """Who may try to open an envelope as whose: any pair with one of its ends in its place, or with both turned round.

    A stranger to it who takes it for another stranger's knows less than one who takes it for its sender's.
    """
    receiver, sender = address.receiver, address.sender
    pairs = permutations(parties, 2)
    return [pair for pair in pairs if pair[0] == receiver or pair[1] == sender or pair == (sender, receiver)]


def sealed_by_identity(envelope: Envelope) -> bool:
    """What is said before there are session keys, or without them."""
    return parse_address(envelope.address).round in {"control", "handshake"}


def distinct(heard: Heard) -> list[Envelope]:
    """Envelopes without their repeats."""
    return list({envelope.address: envelope for envelope in heard.ear.envelopes}.values())
