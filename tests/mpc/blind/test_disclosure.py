"""What data parties receive in the blind mode is uniform, and the helper receives nothing.

A coalition's view is not affine in the masks that it does not know: what is opened enters cosines and sines, and so
does t. But every tensor has a mask of its own, by which it is shifted, and on which nothing depends that comes before
it in some order. So the view is exactly uniform, whatever the others hold. `test_every_tensor_...` follows that order.

The ranks say it of all masks together, with opened words fixed, and cosines and sines of t too. That is enough. The
honest party's word of t is used for nothing but t, so an opened angle is uniform and can stand in its place as a
variable; likewise e + r in the place of its word of r, which g hides behind r_ij. Its "angles" cover the cosines and
sines of t.
All the rest is affine modulo 2^64 then, and full row rank over GF(2) makes it uniform. What the openings themselves
look like is checked over many jobs.

Bundles that are opened tell nothing but masks, and no tensor has its cover there (`test_bundles`). So what was dealt of
them is no part of a view.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import pytest

from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.dealing.activation import dealt_words
from tercet.mpc.dealing.bundles import Bundle, ChosenBundles, StepBundles
from tercet.mpc.dealing.hidden_helper import mask_sums
from tercet.mpc.dealing.sizes import BlindLayout, layer_name
from tercet.mpc.functions import series
from tercet.mpc.functions.row_labels import RowLabels
from tercet.mpc.functions.series import Terms
from tercet.mpc.interface.script import HELPER
from tercet.mpc.plan.architecture import flat, unpack
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import Request
from tercet.mpc.plan.schedule import Step
from tests.mpc.blind_world import BlindWorld
from tests.mpc.driver import Sent
from tests.mpc.linear.test_disclosure import (
    Differences,
    Ledger,
    Vector,
    deficiency,
    differences_of,
    reusing,
    without,
)
from tests.mpc.network.test_disclosure import Cover, Piece, check_covers, shifted
from tests.mpc.world import Job, MaskSource, keyed, make_job, same

OF_STEPS = ("U", "U'", "U*", "V", "P", "P*", "R", "R'", "r", "U_y", "N", "Q")
OF_PAIRS = {"V", "P", "P*", "R", "R'", "N", "Q"}  # masks of one party's block or labels, at another one
MASKS = [*OF_STEPS, "t#", "angles#"]
OF_WEIGHTS = ["row weight#", "unweighted#", "weighted#"]
BLIND = {"logistic": Blind(16, 16), "linear": Blind(32, 1), "poisson": Blind(5, 12), "gamma": Blind(5, 12)}
BLIND |= {"one-vs-rest": BLIND["logistic"], "tweedie": Blind(5, 1, power=1.5)}
OPENINGS = ("score opening", "error opening")
COALITIONS = [
    (columns, label, coalition)
    for columns, label in [((2, 1), 0), ((2, 1, 2), 1), ((0, 2, 1), 0)]
    for coalition in itertools.combinations(range(len(columns)), len(columns) - 1)
]


RANKED = [*COALITIONS[:2], *(((1, 1, 1), 1, coalition) for coalition in itertools.combinations(range(3), 2))]


@pytest.fixture(autouse=True)
def _short_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sine is all that some models have here: a rank takes a run for every word of a mask."""
    terms = Terms(0.0, (1.0,), (0.0,), 0.0)
    short = {
        (name, reach, 1): replace(series.series_for(name, reach, count), multiples=(1,), phi=terms, second=terms,
                                  score=terms)
        for name, reach, count in (("linear", 32, 8), ("logistic", 32, 16))
    }  # fmt: skip
    short["tweedie", 5, 1] = replace(short["linear", 32, 1], slope=terms)
    monkeypatch.setattr(series, "SERIES", {**series.SERIES, **short})


def job_of(model: str, columns: tuple[int, ...], label: int = 1, **others: Any) -> Job:
    """Two rows, each a batch of its own, in two epochs."""
    seed = others.pop("seed", 0)
    numbers = {"rows": 2, "batch": 1, "epochs": 2, "rate": 0.1, "checked": 0.4, "checks": 1} | others
    numbers.setdefault("blind", BLIND[model])
    outputs = 3 if model == "one-vs-rest" else 1
    job = make_job(Request(model, columns=columns, outputs=outputs, **numbers), label, seed)
    return with_weights(job) if job.plan.request.weighted else job


def with_weights(job: Job) -> Job:
    """The same job; its rows have weights."""
    weights = np.array([1.0 + row % 3 for row in range(len(job.y))])
    rows: Any = RowLabels(job.plan.link, job.y).weighed(weights, np.ones(len(job.y), np.bool_))
    return job._replace(y=rows)


Tamper = Callable[["Watched", Sent], None]


def leave(world: "Watched", sent: Sent) -> None:
    """Changes nothing."""


def forgetful(reused: set[str], source: MaskSource | None = None) -> MaskSource:
    """Masks of which some forget the step, or the bundle."""
    of_steps: MaskSource = reusing({mask for mask in reused if not mask.endswith("#")}, source)

    def masks(a: int, b: int) -> Any:
        pair = of_steps(a, b)
        return lambda mask, i, j, step, shape: pair(
            mask, i, j, replace(step, index=0, position=0) if mask in reused and mask.endswith("#") else step, shape
        )

    return masks


@dataclass
class Watched(BlindWorld):
    """With a loss. Hands every message to `tamper`, which may change its words, or note another one as sent."""

    loss: bool = True
    by_keys: bool = False
    trains: bool = True  # or there are no g but of the loss
    tamper: Tamper = field(kw_only=True, default=leave)

    @property
    def dealt_bundles(self) -> ChosenBundles | StepBundles:
        """Of the training, or of a pass."""
        return self.bundles if self.trains else StepBundles(len(self.ids))

    def address(self, step: int, mask: str) -> tuple[int, str]:
        """Where a step's mask is: of the step, or of the bundle that it uses."""
        number = self.dealt_bundles.used(step_of(self, step)).number
        return (step, mask) if number is None or not is_bundled(mask) else (number, f"{mask}#")

    @cached_property
    def layout(self) -> BlindLayout:
        """Of the plan."""
        return BlindLayout(self.job.plan)

    @cached_property
    def steps(self) -> list[Step]:
        """Of the training."""
        return list(self.job.plan.steps())

    @property
    def uses(self) -> dict[int | None, int]:
        """Which step uses a bundle, by number."""
        return {self.bundles.used(step).number: step.index for step in self.steps} if self.trains else {}

    def _note(self, task: Any) -> None:
        before = len(self.sent)
        super()._note(task)
        for sent in self.sent[before:]:
            self.tamper(self, sent)


def split_dealt(world: Watched, sent: Sent) -> dict[tuple[str, int], Words]:
    """What the helper dealt but for bundles: by kind and the other party, and of a loss. All may be written to."""
    rows, plan = step_of(world, sent.step).rows, world.job.plan
    entries = world.layout.row_words(sent.receiver, rows, plan.request.checks * world.trains, trains=world.trains)
    _, own = flat(entries)
    loss = own + (world.loss and sent.receiver == world.job.label)
    return unpack(entries, sent.words[:, :own], "dealt") | {("loss g", sent.receiver): sent.words[:, own:loss]}


def split_inputs(world: Watched, sent: Sent) -> dict[str, Words]:
    """Masked features and check columns."""
    columns = world.job.plan.columns[sent.sender]
    return {"masked inputs": sent.words[:, :columns], "check columns": sent.words[:, columns:]}


def split_bundles(world: Watched, sent: Sent) -> list[tuple[Bundle, dict[str, Words]]]:
    """The explicit words of bundles in what the helper dealt, which may be written to."""
    layout, step = world.layout, step_of(world, sent.step)
    bundles = [bundle for bundle in world.dealt_bundles.sent(step) if bundle.turn == sent.receiver]
    entries, found = layout.dealt(step.rows, trains=world.trains), []
    _, size = flat(entries)
    for n, bundle in enumerate(reversed(bundles)):
        end = sent.words.shape[1] - n * size
        tensors = unpack(entries, sent.words[:, end - size : end], "explicit words")
        found.append((bundle, {layer_name(name, k): words for (name, k), words in tensors.items()}))
    return found[::-1]


def is_bundled(mask: str) -> bool:
    """Whether it is a mask of a bundle in a training."""
    return mask not in OF_STEPS


def step_of(world: Watched, index: int) -> Step:
    """The step of this number; passes over held-out rows have as many rows in each as a training's first."""
    steps = world.steps
    return steps[index] if world.trains else replace(steps[0], index=index, stop=world.job.plan.request.rows // 2)


# What a coalition of data parties receives

ORDER = [  # of tensors in a step, each with its mask and the sign of that; those of a line depend on earlier lines only
    [("masked inputs", "U", -1), ("check columns", "U'", -1), ("masked weights", "V", -1), ("loss labels", "U_y", -1),
     ("row weights", "row weight", -1)],
    [("check rows", "U*", -1), ("c", "P", -1), ("check c", "P*", -1)],
    [("score opening", "t", 1)],
    [("angles", "angles", -1)],
    [("unweighted errors", "unweighted", -1), ("masked scores", "N", -1)],
    [("weighted", "weighted", -1)],
    [("error opening", "r", 1), ("loss g", "Q", 1)],
    [("g", "R", -1), ("check g", "R'", -1), ("bundle key", "key", 1)],
]  # fmt: skip
Places = dict[str, tuple[int, str, int]]
Split = Callable[[Watched, Sent, tuple[int, ...]], list[tuple[int, str, Words]]]
PLACES: Places = {kind: (place, mask, sign) for place, kinds in enumerate(ORDER) for kind, mask, sign in kinds}


def pieces(
    world: Watched, coalition: tuple[int, ...], places: Places = PLACES, split: Split | None = None
) -> list[Piece]:
    """All that comes from others, in order; what all of the coalition receive alike is there once."""
    found: dict[tuple[Any, ...], Piece] = {}
    (honest,) = set(world.ids) - {*coalition}
    for sent in world.sent:
        if sent.receiver not in coalition or sent.sender in coalition:
            continue
        for used, kind, words in (split or parts_of)(world, sent, coalition):
            place, mask, sign = places[kind]
            index, named = (used, f"{mask}#") if kind == "bundle key" else world.address(used, mask)
            alike = mask not in OF_PAIRS and sent.what not in {"dealt", "bundle key"}
            what = (index, kind, HELPER if alike else sent.receiver)
            cover = Cover(honest, named, sent.receiver if mask in OF_PAIRS else honest, honest, sign)
            if words.size:
                at = sent.step if kind == "bundle key" else used
                piece = found.setdefault(what, Piece((at, place), what, words, cover))
                assert np.array_equal(piece.words, words)
    return sorted(found.values(), key=lambda piece: (piece.place, str(piece.what)))


def parts_of(world: Watched, sent: Sent, known: tuple[int, ...] = ()) -> list[tuple[int, str, Words]]:
    """The tensors of a message: of which step, or of a key of which bundle; what they are; the words.

    What is dealt for a pair of parties that are `known` follows from masks of theirs.
    """
    if sent.what == "bundle key":
        opened = world.bundles.opened(step_of(world, sent.step))
        assert opened is not None
        assert opened.number is not None
        return [(opened.number, sent.what, sent.words)]
    if sent.what == "masked inputs":
        return [(sent.step, kind, words) for kind, words in split_inputs(world, sent).items()]
    if sent.what == "check rows":  # of all steps since the last ones were sent
        parts = np.split(sent.words, len(sent.words) // world.checks)
        return [(sent.step + 1 - len(parts) + n, sent.what, words) for n, words in enumerate(parts)]
    if sent.what != "dealt":
        return [(sent.step, sent.what, sent.words)]
    found = [
        (sent.step, kind, words)
        for (kind, j), words in split_dealt(world, sent).items()
        if kind == "loss g" or j not in known
    ]
    uses = world.uses
    for bundle, tensors in split_bundles(world, sent):
        used = sent.step if bundle.number is None else uses.get(bundle.number)
        found += [] if used is None else [(used, kind, words) for kind, words in tensors.items()]
    return found


@pytest.mark.parametrize(
    ("model", "columns", "label", "coalition"),
    [("linear", *case) for case in COALITIONS]
    + [(model, (2, 1), 1, (i,)) for model in ("gamma", "one-vs-rest", "tweedie") for i in (0, 1)],
)
def test_every_tensor_that_a_coalition_receives_has_a_mask_of_its_own(model, columns, label, coalition):
    """Which shifts it, and shifts nothing before it: the whole view of a job is uniform.

    Of three parties and of most models over one epoch: who they are matters no more in another.
    """
    check_view(job_of(model, columns, label, epochs=2 if (model, len(columns)) == ("linear", 2) else 1), coalition)


@pytest.mark.parametrize(
    ("model", "columns", "label", "coalition"),
    [("linear", *case) for case in COALITIONS[:5]]
    + [(model, (2, 1), 1, (i,)) for model in ("one-vs-rest", "tweedie") for i in (0, 1)],
)
def test_so_has_every_tensor_where_rows_have_weights(model, columns, label, coalition):
    """Those of weights and of errors that are weighed too, and the labels of a loss beside them."""
    epochs = 2 if (model, len(columns)) == ("linear", 2) else 1
    check_view(job_of(model, columns, label, epochs=epochs, weighted=True), coalition)


def check_view(
    job: Job, coalition: tuple[int, ...], change: Callable[[MaskSource], MaskSource] = lambda masks: masks
) -> None:
    """Each tensor's mask shifts it, and nothing before it."""

    def view(deltas: dict[tuple[Any, ...], Words], stop: int | None = None) -> list[Piece]:
        return pieces(Watched(job, change(shifted(deltas))).run(1, stop=stop), coalition)

    check_covers(view({}), view, coalition)


def take_off_angles(world: Watched, sent: Sent) -> None:
    """Leave of explicit words what covers cos and sin of t."""
    for bundle, tensors in split_bundles(world, sent) if sent.what == "dealt" else ():
        if bundle.number not in world.uses:
            continue  # it is opened, and no part of a view
        step, layout = step_of(world, sent.step), world.layout
        numbers, explicit = layout.numbers(step, 0), tensors["angles"]
        t = mask_sums(layout, world.bundle_masks(bundle))("t", 0, step)
        explicit[:] -= dealt_words(t, numbers.series, numbers.bits.dealt).reshape(explicit.shape)


@dataclass
class SuppliedWorld(Watched):
    """What is opened is zeros, and so are cos and sin of t, whatever the masks are; all is sent as ever."""

    tamper: Tamper = field(kw_only=True, default=take_off_angles)

    def _answer(self, task: Any) -> Any:
        ready, answer = super()._answer(task)
        if answer is None or task.event.kind not in OPENINGS:
            return ready, answer
        mine = (task.event.kind, task.step.index, task.party)
        share = next(sent.words for sent in self.sent if (sent.what, sent.step, sent.sender) == mine)
        return ready, {j: (-share if j == min(answer) else 0 * share) for j in answer}


def coalition_deficiency(
    jobs: list[Job],
    coalition: tuple[int, ...],
    source: Callable[[Vector, int], MaskSource] = lambda masks, _: masks,
    tamper: Tamper = take_off_angles,
) -> int:
    """Of all that comes from others in these jobs; `source` gives the masks of each by number."""

    def view(masks: Vector) -> Words:
        worlds = [SuppliedWorld(job, cache(source(masks, n)), tamper=tamper).run(1) for n, job in enumerate(jobs)]
        return np.concatenate([piece.words.ravel() for world in worlds for piece in pieces(world, coalition)])

    return deficiency(Vector(lambda a, b: a in coalition or b in coalition), view)


@pytest.mark.parametrize(("columns", "label", "coalition"), RANKED)
def test_what_a_coalition_of_data_parties_receives_is_uniform(columns, label, coalition):
    """All of it together, for every coalition of all but one."""
    assert coalition_deficiency([job_of("linear", columns, label, epochs=1)], coalition) == 0


@pytest.mark.parametrize("shared", ["V", "P", "R", "r", "t#", "angles#", "U_y", "N"])
def test_no_mask_can_serve_two_outputs(shared):
    """One that is the same for all of them is noticed: a tensor's columns are not shifted each by its own word."""
    (kind,) = [kind for kind, (_, mask, _) in PLACES.items() if mask == shared.removesuffix("#")]
    job = job_of("one-vs-rest", (1, 1), int(shared != "N"), epochs=1)
    with pytest.raises(AssertionError, match=f"'{kind}'"):
        check_view(job, (0,), lambda masks: lambda a, b: for_all_outputs(masks(a, b), shared))


@pytest.mark.parametrize(("shared", "kind"), [("row weight#", "row weights"), ("unweighted#", "unweighted errors")])
def test_no_mask_can_serve_weight_and_label(shared, kind):
    """Where rows have weights, both multiply a function of their own."""
    job = job_of("tweedie", (1, 1), int(shared != "unweighted#"), epochs=1, weighted=True)
    with pytest.raises(AssertionError, match=f"'{kind}'"):
        check_view(job, (0,), lambda masks: lambda a, b: for_all_outputs(masks(a, b), shared))


def for_all_outputs(masks: Any, shared: str) -> Any:
    """Masks of a pair, of which one has the same words in each column."""

    def words(mask: str, i: int, j: int, step: Any, shape: tuple[int, int]) -> Words:
        found = masks(mask, i, j, step, shape)
        return np.repeat(found[:, :1], shape[1], axis=1) if mask == shared else found

    return words


def smallest_job(label: int = 1, *, model: str = "linear", **more: Any) -> Job:
    """Two steps: a turn of either party."""
    return job_of(model, (1, 1), label=label, epochs=1, checked=0.0, **more)


def label_for(mask: str) -> int:
    """The label party with which party 1 holds the mask: N and Q are not the label party's."""
    return int(mask not in {"N", "Q", "unweighted#"})


@cache
def differences(label: int, *, weighted: bool, model: str = "linear") -> Differences:
    """Differences of what party 0 receives in the smallest job by the masks that it does not know."""

    def view(masks: MaskSource) -> Words:
        world = SuppliedWorld(smallest_job(label, weighted=weighted, model=model), cache(masks)).run(1)
        return np.concatenate([piece.words.ravel() for piece in pieces(world, (0,))])

    return differences_of(lambda a, b: 0 in {a, b}, view)


@pytest.mark.parametrize("omitted", [*MASKS, *OF_WEIGHTS])
def test_no_mask_can_be_left_out(omitted):
    """Neither t of a share of z + t, nor r_ij, which looks spare; nor any other. With all of them the rank is full."""
    found = differences(label_for(omitted), weighted=omitted in OF_WEIGHTS)
    assert found.deficiency() == 0
    assert found.deficiency({omitted}) > 0


@pytest.mark.parametrize("omitted", OF_WEIGHTS)
def test_no_mask_of_labels_can_be_left_out(omitted):
    """They multiply a function of scores as weights do."""
    found = differences(label_for(omitted), weighted=False, model="tweedie")
    assert found.deficiency() == 0
    assert found.deficiency({omitted}) > 0


@pytest.mark.parametrize("reused", [*MASKS, *OF_WEIGHTS])
def test_no_mask_can_serve_two_steps(reused):
    """A mask that forgets the step is noticed, although the model comes out right."""
    ledger = Ledger(forgetful({reused}))
    Watched(smallest_job(label_for(reused), weighted=reused in OF_WEIGHTS, rows=3), ledger).run(1)
    with pytest.raises(AssertionError, match="the same word"):
        ledger.check_words()


def test_no_two_tables_can_share_their_masks_of_rows():
    """Two jobs with the same U over different rows give away a difference for each word; with U of their own none."""
    jobs = [job_of("linear", (1, 1), batch=2, epochs=1, checked=0.0, seed=seed) for seed in (0, 1)]

    def source(shared: set[str], masks: Vector, n: int) -> MaskSource:
        def of_job(a: int, b: int) -> Any:
            first, own = masks(a, b), masks(a, b, f"job {n}")
            return lambda mask, *address: (first if mask in shared else own)(mask, *address)

        return of_job

    assert coalition_deficiency(jobs, (0,), partial(source, set())) == 0
    assert coalition_deficiency(jobs, (0,), partial(source, {"U"})) == 2


def test_no_second_party_can_be_sent_the_explicit_words():
    """It knows the streams under them, if it is not the party whose turn it is, and so reads cosines of t."""

    def tell_all(world: Watched, sent: Sent) -> None:
        take_off_angles(world, sent)
        for used, kind, words in parts_of(world, sent):
            if kind == "angles":
                others = [i for i in world.ids if i != sent.receiver]
                world.sent += [Sent("angles", used, HELPER, i, words) for i in others]

    assert coalition_deficiency([smallest_job()], (0,), tamper=tell_all) > 0


# What is opened


def opened(world: BlindWorld, kind: str) -> Words:
    """The sums of all shares, one after another."""
    shares = {(sent.step, sent.sender): sent.words for sent in world.sent if sent.what == kind}
    sums = [total(shares[step.index, j] for j in world.ids) for step in world.job.plan.steps()]
    return np.concatenate(sums).ravel()


def openings_of_jobs(source: Callable[[int], MaskSource], model: str = "logistic") -> dict[str, Words]:
    """By kind, (jobs, elements): all with the same data, and masks by number."""
    job = job_of(model, (2, 1), rows=8, batch=4, epochs=1)
    worlds = [BlindWorld(job, source(n), by_keys=False).run(1) for n in range(16)]
    return {kind: np.array([opened(world, kind) for world in worlds]) for kind in OPENINGS}


def is_uniform(words: Words) -> bool:
    """Each half of each byte of each element, over the jobs: six deviations of all chi-squares together."""
    halves, due = np.array([words >> np.uint64(shift) & np.uint64(15) for shift in range(0, 64, 4)]), len(words) / 16
    counts = np.array([(halves == value).sum(axis=1) for value in range(16)])
    statistic, freedom = float(((counts - due) ** 2 / due).sum()), 15 * counts[0].size
    return bool(abs(statistic - freedom) < 6 * (2 * freedom) ** 0.5)


@pytest.mark.parametrize("model", ["logistic", "one-vs-rest"])
def test_what_is_opened_is_uniform(model):
    """z + t and e + r of every row and output, whatever the data are."""
    assert all(is_uniform(words) for words in openings_of_jobs(keyed, model).values())


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (lambda _: keyed(), [False, False]),
        (lambda n: without({"t#"}, keyed(n)), [False, True]),
        (lambda n: without({"r"}, keyed(n)), [True, False]),
    ],
    ids=["one key", "no t", "no r"],
)
def test_openings_under_old_or_missing_masks_are_not(source, found):
    """Of scores, and of errors."""
    assert [is_uniform(words) for words in openings_of_jobs(source).values()] == found


# What the helper receives


def check_helper_receives_nothing(world: BlindWorld) -> None:
    """No message of a job goes to it. Nor does it wait for one: the job has come to its end."""
    assert {sent.receiver for sent in world.sent} == {*world.ids}, "the helper was told something"


@pytest.mark.parametrize("columns", [(2, 1), (2, 1, 2)])
@pytest.mark.parametrize("model", BLIND)
def test_the_helper_receives_nothing(model, columns):
    """In a whole job, with every link."""
    check_helper_receives_nothing(Watched(job_of(model, columns)).run(1))


@pytest.mark.parametrize("kind", OPENINGS)
def test_a_helper_that_is_told_one_opened_word_is_noticed(kind):
    """One row's share of it, at one step."""

    def tell(world: Watched, sent: Sent) -> None:
        if (sent.what, sent.step, sent.sender) == (kind, 1, 0):
            world.sent.append(sent._replace(receiver=HELPER, words=sent.words[:1]))

    world = Watched(job_of("logistic", (2, 1)), tamper=tell).run(1)
    with pytest.raises(AssertionError, match="the helper was told"):
        check_helper_receives_nothing(world)


def test_a_helper_that_lies_changes_the_model_and_reads_nothing():
    """It adds a word to one party's g, at the first step."""

    def lie(world: Watched, sent: Sent) -> None:
        if (sent.what, sent.step, sent.receiver) == ("dealt", 0, 0):
            split_dealt(world, sent)["g", 1][0, 0] += np.uint64(1 << world.job.plan.f)

    job = job_of("logistic", (2, 1))
    world = Watched(job, tamper=lie).run(1)
    check_helper_receives_nothing(world)
    assert not same(world.weights(), Watched(job).run(1).weights())
