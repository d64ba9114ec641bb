"""The attacks of `make attacks`: who, with what knowledge, and what is recovered with a protection out and in.

Each is a function from whether the protection is there to the part that is recovered; another attack is another line.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode_features
from tercet.mpc.arithmetic.ring import Words
from tercet.schemas.files.policy import PolicySettings
from tests.attacks import (
    blind_scores,
    cells,
    cosines,
    credit,
    deviations,
    differences,
    ideal,
    judge,
    leaks,
    page,
    profiles,
    row_weights,
    scorings,
    served_rows,
    tables,
)
from tests.attacks.tables import OPEN, PROTECTED, Table, Trained

FIVE = ("sex", "education", "marriage", "pay_delay_1", "pay_delay_2")
NOISE = "noise of ±0.25 instead of ±2^-21"
SCORE_BITS, KNOWN = round(-math.log2(PolicySettings().score_noise)), 300


@dataclass(frozen=True)
class Attack:
    """A row of the table."""

    name: str
    who: str
    knows: str
    recovers: str
    protection: str
    recovered: Callable[[bool], float]  # with the protection in?
    guess: Callable[[], float]
    least: float  # of what it recovers with the protection out: or the attack proves nothing
    margin: float  # beyond guessing with the protection in


# --- the helper


@functools.cache
def batch_scene(make: Callable[[], Table]) -> tuple[Table, Trained]:
    """A table, and a model of it that is one step from done."""
    table = make()
    return table, tables.trained(table)


def from_batch(make: Callable[[], Table], *, protected: bool) -> float:
    """Records of one batch by difference peaks."""
    table, model = batch_scene(make)
    view, rows = model.batch(PROTECTED if protected else OPEN)
    return judge.best_right(differences.attack(view), table.part(rows))


def batch_guess(make: Callable[[], Table]) -> float:
    """The most frequent record of that batch."""
    table, model = batch_scene(make)
    return table.part(model.order.rows(model.step)).guess


@functools.cache
def held_out_scene() -> tuple[Table, Trained, list[Words]]:
    """The credit example's five categories: held-out customers, the model of the others, and their words."""
    table = tables.credit_levels(*FIVE)
    held = np.random.default_rng(0).random(len(table.y)) < credit.HELD_OUT
    model = tables.trained(table.part(np.flatnonzero(~held)))
    halves = np.array_split(table.onehot[held], 2, axis=1)
    words = [encode_features(half, norm, model.plan.fx) for half, norm in zip(halves, model.plan.norms, strict=True)]
    return table.part(np.flatnonzero(held)), model, words


def from_pass(*, protected: bool) -> float:
    """Records of one pass of held-out customers by difference peaks."""
    table, model, words = held_out_scene()
    return judge.best_right(differences.attack(model.scoring(words, PROTECTED if protected else OPEN)), table)


def all_knowing(make: Callable[[], Table], *, protected: bool) -> float:
    """Records of a batch by a helper that has weights and frequencies: no attack on one view can do better."""
    table, model = batch_scene(make)
    chances = np.bincount(table.records) / len(table.records)
    scores = model.float_scores(model.xs)[np.unique(table.records, return_index=True)[1]]
    half = 2.0 ** -(PROTECTED if protected else OPEN)
    return ideal.rows_named(scores[:, None], chances, half, np.random.default_rng(0))


three_of_ten = functools.partial(tables.categorical, 3, 10, 4096, 0)
ten_yes_no = functools.partial(tables.yes_no, 10, 8192, 0)
twelve_yes_no = functools.partial(tables.yes_no, 12, 4096, 0)
twenty_yes_no = functools.partial(tables.yes_no, 20, 4096, 2, skewed=True)
five_of_credit = functools.partial(tables.credit_levels, *FIVE)
all_of_credit = functools.partial(tables.credit_levels, *credit.BANK_LEVELS, *credit.DELAYS)


# --- the label party


@functools.cache
def known_customers(rows: int) -> np.ndarray:
    """Whose records the label party knows, (rows,)."""
    known = np.zeros(rows, bool)
    known[np.random.default_rng(0).choice(rows, KNOWN, replace=False)] = True
    return known


@functools.cache
def solved(protected: bool) -> scorings.Solved:
    """Eight noiseless scorings, or one under the partner's noise."""
    scene, bits = credit.scorings(), SCORE_BITS if protected else None
    reported, known = (
        scene.reported(bits)[:, -1:] if protected else scene.reported(bits),
        known_customers(len(scene.parts)),
    )
    half = 2.0**-17 + (2.0**-SCORE_BITS if protected else 0.0)
    return scorings.solve(reported, known, scene.delays[known], scene.bills[known], scene.domain, scene.chances, half)


def delays_right(protected: bool) -> float:
    """Customers all of whose six delays are right."""
    scene = credit.scorings()
    truth = scene.delays[~known_customers(len(scene.parts))]
    return float((solved(protected).delays == truth).all(axis=1).mean())


def bills_near(protected: bool) -> float:
    """Bills that are right to a tenth of a deviation."""
    scene = credit.scorings()
    return _near(solved(protected).numbers, scene.bills[~known_customers(len(scene.parts))])


def bills_guess() -> float:
    """The same of the known customers' medians."""
    scene = credit.scorings()
    known = known_customers(len(scene.parts))
    return _near(np.median(scene.bills[known], axis=0), scene.bills[~known])


def _near(some: Floats, truth: Floats) -> float:
    return float((np.abs(some - truth) < 0.1).mean())


def equal_classes(protected: bool) -> float:
    """Classes of customers with equal delays that one scoring shows, of a partner that has nothing else."""
    scene = credit.scorings(bills=False)
    reported = scene.reported(SCORE_BITS if protected else None)[:, -1:]
    seen = scorings.equal_parts(reported, 2.0**-SCORE_BITS if protected else 0.0)
    truth = np.unique(scene.delays, axis=0, return_inverse=True)[1].ravel()
    sizes = np.bincount(truth)
    repeated = np.flatnonzero(sizes > 1)
    shown = [len(mine := np.flatnonzero(truth == one)) == (seen == seen[mine[0]]).sum() and
             (seen[mine] == seen[mine[0]]).all() for one in repeated]  # fmt: skip
    return float(np.mean(shown))


HELPER, LABEL, LIAR = "curious helper", "curious label party", "lying label party"
LYING_HELPER, PARTNER, SUBMITTER = "lying helper", "curious partner", "curious submitter"
NOTHING_AT_ALL = "nothing"
NOTHING, RECORDS = "nothing beside the plan", "whole records"
LABEL_KNOWS = f"own columns, {KNOWN} customers' records, how frequent records are"
ONE_NOISED = "one scoring for eight, partner's noise ±2^-5"


def _peaks(what: str, make: Callable[[], Table], least: float) -> Attack:
    def recovered(protected: bool) -> float:
        return from_batch(make, protected=protected)

    return Attack(f"difference peaks, {what}", HELPER, NOTHING, RECORDS, NOISE, recovered, lambda: batch_guess(make),
                  least, 0.03)  # fmt: skip


def _all_knowing(protected: bool) -> float:
    return all_knowing(ten_yes_no, protected=protected)


def _from_pass(protected: bool) -> float:
    return from_pass(protected=protected)


SITE, STRANGER = "a site that a person visits", "whoever reaches the page's port"


def _on_page(name: str, who: str, knows: str, recovers: str, protection: str, act: Callable[[bool], float]) -> Attack:
    return Attack(name, who, knows, recovers, protection, act, lambda: 0.0, 1.0, 0.0)


ON_PAGE = [
    _on_page("another site's form", SITE, "the run of a partner's job", "an approval",
             "a secret in each form, a look at its origin", page.cross_site_post),
    _on_page("a name turned to loopback", SITE, NOTHING_AT_ALL, "the page", "a look at the host's name",
             page.dns_rebinding),
    _on_page("a session's id planted before", STRANGER, "the id", "the session", "a new id at each login",
             page.session_fixation),
    _on_page("guessing a password", STRANGER, "a list that has it", "a login", "five tries in five minutes",
             page.login_guessing),
    _on_page("an id that leads elsewhere", "a viewer", NOTHING_AT_ALL, "a file beside the reports",
             "ids of jobs that are known", page.path_traversal),
    _on_page("an id that ends a quotation", "a viewer", NOTHING_AT_ALL, "a download's name",
             "ids of jobs that are known", page.header_injection),
    _on_page("a request of a MiB", STRANGER, NOTHING_AT_ALL, "memory", "8 KiB at most", page.oversized_request),
    _on_page("sixteen slow requests", STRANGER, NOTHING_AT_ALL, "all connections", "a deadline for each",
             page.slow_requests),
    _on_page("a script in a purpose", PARTNER, NOTHING_AT_ALL, "a place in a page", "every text is escaped",
             page.partners_markup),
]  # fmt: skip
ATTACKS = [
    *ON_PAGE,
    _peaks("3 variables of 10 levels", three_of_ten, 0.7),
    _peaks("12 yes/no columns", twelve_yes_no, 0.9),
    _peaks("20 yes/no columns", twenty_yes_no, 0.4),
    _peaks("credit, five categories", five_of_credit, 0.45),
    _peaks("credit, all nine categories", all_of_credit, 0.3),
    Attack("difference peaks, credit's held-out pass", HELPER, NOTHING, RECORDS, NOISE, _from_pass,
           lambda: held_out_scene()[0].guess, 0.7, 0.03),
    Attack("most likely record, 10 yes/no columns", HELPER, "all weights, how frequent records are", RECORDS, NOISE,
           _all_knowing, lambda: batch_scene(ten_yes_no)[0].guess, 0.95, 0.03),
    Attack("solving scores, credit", LABEL, LABEL_KNOWS, "all six delays of a customer", ONE_NOISED, delays_right,
           lambda: credit.scorings().guess, 0.9, 0.15),
    Attack("solving scores, credit", LABEL, LABEL_KNOWS, "bills to 0.1 deviations", ONE_NOISED, bills_near,
           bills_guess, 0.7, 0.15),
    Attack("equal scores, credit's delays alone", LABEL, "own columns", "who has equal delays",
           "partner's noise ±2^-5", equal_classes, lambda: 0.0, 0.99, 0.02),
    Attack("two openings of a model's weights", LIAR, "scores of two predictions", "a partner's column",
           "weights are opened once for a model", deviations.two_openings, deviations.guessed,
           0.99, 0.02),
    Attack("one opening, an enormous constant", LIAR, "scores of one prediction", "a partner's column",
           "no score beyond four times training's", deviations.enormous_lie, deviations.guessed,
           0.99, 0.02),
    Attack("one opening, a lie that fills a blind score", LIAR, "scores of one prediction",
           "twelve yes/no columns of a customer", "spare bits left out, partner's noise ±2^-5",
           blind_scores.one_lie, blind_scores.guessed, 0.99, 0.05),
    Attack("two openings, a lie in each", LIAR, "scores of two blind predictions",
           "twelve yes/no columns of a customer", "weights are opened once for a model",
           blind_scores.two_lies, blind_scores.guessed, 0.99, 0.05),
    Attack("wrong gradient shares at two steps", LYING_HELPER, "the two values of a yes/no column",
           "six columns of an epoch's rows", "gradient shares are checked", deviations.dealt_wrongly,
           deviations.most_frequent, 0.99, 0.02),
    Attack("asking again and again", LABEL, "scores", "predictions that are let through",
           "a budget of 4 scorings", deviations.asked_again, lambda: 4 / deviations.ASKED, 0.99, 0.001),
    Attack("asking for one row 400 times", LABEL, "scores", "a partner's part of the score",
           "a row's noise is always the same", served_rows.averaged, served_rows.guessed, 0.99, 0.1),
    Attack("the spread of a table that is not whitened", HELPER, NOTHING, "how many raw columns it has",
           "no spread but for an automatic rate", leaks.raw_columns, leaks.guessed_columns, 0.99, 0.02),
    Attack("entropies of chosen columns", SUBMITTER, "nothing of the table", "how frequent each of 8 yes/no columns is",
           "whole bits, of 4 sets of columns", profiles.recovered, profiles.guessed, 0.9, 0.15),
    Attack("the mean cosine of 32 rows", PARTNER, "weights, all records in it but one",
           "six yes/no columns of a customer",
           "noise of ±1/128 from each party", cosines.recovered, cosines.guessed, 0.8, 0.1),
    Attack("bins of single rows", PARTNER, "own rows, WOE of own bins", "labels of 40 rows",
           "cells of 20 rows of each class", cells.single_rows, cells.guessed, 0.99, 0.02),
    Attack("small cells", LABEL, "cells of a partner, in no order", "how many rows each rare level has",
           "cells of 20 rows of each class", cells.rare_levels, lambda: 0.0, 0.99, 0.02),
    Attack("weights of rows on their way", PARTNER, "that there are two", "the weight of a row",
           "a mask of each step", row_weights.recovered_weights, row_weights.guessed_weights, 0.99, 0.05),
    Attack("labels of a Tweedie model on their way", PARTNER, "how many are 0", "a label to a hundredth of the mean",
           "a mask of each step", row_weights.recovered_amounts, row_weights.guessed_amounts, 0.99, 0.02),
    Attack("errors that are to be weighed", LABEL, "labels and weights", "the score of a training row to 0.05",
           "a mask of each partner and step", row_weights.recovered_scores, row_weights.guessed_scores, 0.6, 0.02),
    Attack("the loss of a Poisson model", PARTNER, "that counts are as a Poisson model has them",
           "the mean count to a tenth", 'loss_to = "label"', leaks.mean_counts, leaks.guessed_means, 0.6, 0.02),
]  # fmt: skip
