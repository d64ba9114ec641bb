"""What a recorded run of a network may show to whom, as checks that raise AssertionError.

A check looks at the record of a run and at the plaintext, worked out here anew. That every tensor is its value under
the masks of its address is looked at in mpc's own tests, where one can see into the roles.
"""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np

from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import Signed, Words, total
from tercet.mpc.plan.forward import noise_width
from tercet.schemas.messages.kinds import (
    BundleKey,
    DealtShares,
    ErrorOpening,
    HeldOutHiddenAnswer,
    HeldOutInputs,
    HeldOutLabels,
    HeldOutLossShare,
    HeldOutMaskOpenings,
    HeldOutWeightOpening,
    HiddenAnswer,
    LossShare,
    MaskedActivation,
    MaskedInputs,
    MaskedLabels,
    MaskOpenings,
    Message,
    ModelUpperOpening,
    NarrowOpening,
    Scores,
    ScoringHiddenAnswer,
    ScoringInputs,
    ScoringMaskOpenings,
    ScoringWeightOpening,
    SlopeOpening,
    SpreadShare,
    TruncationOpening,
    WeightOpening,
)
from tests.agents.disclosure import (
    LEAST_P,
    OPENED,
    any_of,
    check_sealed,
    check_streams,
    due,
    none_of,
    uniformity,
)
from tests.agents.networks_book import NetworkBook
from tests.agents.recording import Heard, Mask
from tests.agents.world import HELPER

ALIKE: tuple[type[Message], ...] = (
    MaskedInputs, MaskOpenings, MaskedLabels, WeightOpening, NarrowOpening, HiddenAnswer, MaskedActivation,
    TruncationOpening, SlopeOpening, ErrorOpening, LossShare, ScoringInputs, ScoringMaskOpenings, ScoringWeightOpening,
    ScoringHiddenAnswer, HeldOutInputs, HeldOutMaskOpenings, HeldOutLabels, HeldOutWeightOpening, HeldOutHiddenAnswer,
    HeldOutLossShare, ModelUpperOpening,
)  # fmt: skip
TOTAL = (WeightOpening, NarrowOpening, TruncationOpening, SlopeOpening, ErrorOpening, ScoringWeightOpening,
          HeldOutWeightOpening, ModelUpperOpening)  # fmt: skip


# --- the helper


def check_hidden_views(heard: Heard) -> None:
    """Of a hidden layer the helper sees signed and noised elements in secret order, and no place tells of a row."""
    rows, units, agreeing, noises, seen = [], [], [], [], 0
    for view in heard.book(NetworkBook).views:
        shares = heard.received(view.hidden)
        for step in view.steps:
            for k, z in enumerate(view.layers(step).hidden):
                place = step.position * len(view.layers(step).hidden) + k
                words = total(shares[name, HELPER, step.epoch, place] for name in heard.names)
                assert words.shape == (1, z.size), "not one row of elements"
                order, _, noise = view.arranged(step, k, z)
                assert np.array_equal(words[0], view.seen(step, k, z)), "others than signed elements and noise"
                rows.append(along(order // z.shape[1]) * z.size)
                units.append(along(order % z.shape[1]) * z.size)
                agreeing.append(decode(words[0], view.numbers.fz) * decode(z.reshape(-1)[order], view.numbers.fz))
                noises.append(noise.view(np.int64) / 2.0 ** noise_width(view.numbers, step.alpha))
                seen += z.size
    noise, most = np.concatenate(noises), 6 / seen**0.5
    wrong = {
        "places tell of rows": abs(sum(rows)) / seen >= most,
        "places tell of units": abs(sum(units)) / seen >= most,
        "signs agree with the elements": abs(np.sign(np.concatenate(agreeing)).mean()) >= most,
        "more noise than there should be": np.abs(noise).max() > 1,
        "no noise, or a little": abs(np.square(noise).mean() - 1 / 3) >= most / 2,
    }
    none_of(fault for fault, is_so in wrong.items() if is_so)


def along(values: Signed) -> float:
    """The correlation of some values with their places; nothing where they are all alike."""
    if np.ptp(values) == 0:
        return 0.0
    return float(np.corrcoef(np.arange(len(values)), values)[0, 1])


def check_output_views(heard: Heard) -> None:
    """Of the scores it sees rows in secret order with secret signs, or classes in secret order at a secret level."""
    signs, fixed, places, rows, levels, bare = [], [], [], 0, [], False
    for view in heard.book(NetworkBook).views:
        outputs, fz = view.numbers.outputs, view.numbers.fz
        for step in view.steps:
            shares = heard.received(view.output)
            words = total(shares[name, HELPER, step.epoch, step.position] for name in heard.names)
            classes, scores = view.order.classes(step, outputs), view.layers(step).scores
            noise = view.order.noise(step, noise_width(view.numbers, step.alpha), outputs)
            due = view.signs(step) * scores[:, classes] + noise
            if view.purpose != "training":
                own = partial(heard.own_noise, purpose=view.purpose, numbers=view.numbers, alpha=step.alpha, bits=fz)
                due = due + total(own(i, step) for i in range(len(view.xs)))
            if outputs > 1:
                levels.append(words[:, 0])
                words, due = words - words[:, :1], due - due[:, :1]
                fixed.append((classes == np.arange(outputs)).sum())
            assert np.array_equal(words, due), "others than scores and noise"
            bare = bare or not noise.any()
            if view.numbers.link.odd:
                signs.append(np.sign(decode(words, fz)) * np.sign(decode(scores, fz)))
            places.append(along(view.order.rows(step)))
            rows += step.rows
    most = 6 / rows**0.5
    wrong = {
        "no noise": bare,
        "the table's own order": abs(np.mean(places)) >= most,
        "signs agree with the scores": bool(signs) and abs(np.concatenate(signs).mean()) >= most,
        "the classes' own order": bool(levels) and abs(np.mean(fixed) - 1) >= 6 / len(fixed) ** 0.5,
        "no secret level": bool(levels) and uniformity(np.concatenate(levels)) < LEAST_P,
    }
    none_of(fault for fault, is_so in wrong.items() if is_so)


# --- everybody


def check_alike(heard: Heard) -> None:
    """Whatever goes to several receivers is the same for all of them, so that no mask meets two values by it."""
    for model in ALIKE:
        by_place: dict[tuple[str, int, int], set[bytes]] = defaultdict(set)
        for (sender, _, *place), words in heard.received(model).items():
            by_place[sender, place[0], place[1]].add(words.tobytes())
        assert all(len(said) == 1 for said in by_place.values()), f"{model.__name__} differs"


def check_nothing_in_clear(heard: Heard) -> None:
    """No tensor that anybody received, nor any sum that data parties open, holds a word that means something."""
    plain = np.sort(np.concatenate([words.ravel() for words in heard.book(NetworkBook).values()]))
    plain = plain[np.abs(plain.view(np.int64)) > 2**8]  # a word as small may come by chance
    reported = {Scores}  # to the label party, which the job lets know them
    faults = set()
    for model in {type(message) for _, message in heard.ear.said if "words" in type(message).model_fields} - reported:
        by_place: dict[tuple[int, int], dict[str, Words]] = defaultdict(dict)
        for (sender, _, epoch, place), words in heard.received(model).items():
            if any_of(words, plain):
                faults.add(f"{model.__name__}: something in clear")
            by_place[epoch, place][sender] = words
        if model in TOTAL:
            for shares in by_place.values():
                assert len(shares) == len(heard.names)
                if any_of(total(shares.values()), plain):
                    faults.add(f"{model.__name__} opens something")
    none_of(faults)


def check_zero_shares(heard: Heard) -> None:
    """Everything that goes to the helper carries a zero share, whose streams two data parties have and it has not."""
    draws, faults = {replace(mask, mask=mask.name) for mask in heard.ear.masks}, set()
    for view in heard.book(NetworkBook).views:
        names = [f"zero/{k}" for k in range(len(view.layers(view.steps[0]).hidden))]
        for step in view.steps:
            for i, j in combinations(range(len(heard.names)), 2):
                for mask in ("zero", *names):
                    pair = (heard.names[i], heard.names[j])
                    address = Mask(*pair, view.purpose, mask, i, j, step.epoch, step.position)
                    if address not in draws:
                        faults.add(f"{view.purpose} {mask}: no zero share")
    none_of(faults)


def check_words_uniform(heard: Heard) -> None:
    """Every kind between each two parties is uniform in all its bits, and so are partial sums of shares."""
    with_words = {kind for kind in due(heard) if "words" in kind.model_fields}
    check_streams(heard, with_words - OPENED - {SpreadShare, BundleKey})  # which have few words


def check_amounts_of_networks(heard: Heard) -> None:
    """At each step every sender says each thing once to each receiver; nobody hears of a step that is none."""
    assert len(heard.ear.said) == len({address for address, _ in heard.ear.said}), "something was said twice"
    for view in heard.book(NetworkBook).views:
        layers = len(view.layers(view.steps[0]).hidden)
        for model, times in ((view.hidden, layers), (view.output, 1)):
            places = {(step.epoch, step.position * times + k) for step in view.steps for k in range(times)}
            epochs = {step.epoch for step in view.steps}
            said = {key for key in heard.received(model) if key[2] in epochs}
            assert said == {(name, HELPER, *place) for name in heard.names for place in places}, model.__name__
    dealt = {key[1] for key in heard.received(DealtShares)}
    assert dealt in ({*heard.names}, set())


def check_networks_sealed(heard: Heard) -> None:
    """What crossed the broker holds no word of the network, no key, id, name of a column or value of a table."""
    check_sealed(heard, heard.book(NetworkBook).values())
