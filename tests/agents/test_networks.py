"""Whole jobs of networks: the joint model is the plaintext run's, bit for bit, and what is told of it is the oracle's.

What they show to whom is looked at in test_networks_disclosure, what befalls them in test_networks_failures.
"""

import asyncio
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, mean_tweedie_deviance, roc_auc_score

from agents import model_part
from agents.evaluate import metrics
from agents.pace import largest_batch, largest_message, words_ahead
from agents.simulate import bit_exact, network_arguments, network_words
from mpc import network_reference
from mpc.fixed import Floats, decode
from mpc.ring import total
from schemas.address import Address
from schemas.job import METRICS, EarlyStopping, Evaluation
from schemas.messages import (
    DealtShares,
    LossShare,
    MaskedInputs,
    MaskedLabels,
    MaskedWeights,
    MaskOpenings,
    Message,
)
from schemas.settings import Limits
from tests.agents.networks import (
    forward,
    mlp,
    oracle_losses,
    oracle_scores,
    parts_of,
    plain_scores,
    weights_after,
)
from tests.agents.recording import Heard, hear, hear_prediction
from tests.agents.scenes import SHARES
from tests.agents.test_evaluation import labels_of, told
from tests.agents.test_prediction import check_told, newcomers, people
from tests.agents.world import HELPER, Sample, contributions, exact, run

ACTIVATIONS = ["relu", "leaky-relu", "tanh", "sigmoid", "gelu", "silu", "softplus"]
OUTPUTS = ["logistic", "linear", "softmax", "poisson"]
EACH_EPOCH = Evaluation(holdout=0.35, metrics="epoch", loss=True)
FOR_ALL = EACH_EPOCH.model_copy(update={"loss_to": "all"})
AT_THE_END = Evaluation(holdout=0.3, loss=True)

SAMPLES = [
    mlp((7, 6), 5),
    mlp((7, 6), 5, label=1, output="linear", activation="leaky-relu", rate=0.03),
    mlp((4, 5, 6), 6, 4, label=2, output="softmax", activation="tanh", l2=0.02, schedule="inverse-time", decay=0.05),
    mlp((4, 5, 6), 6, label=1, output="poisson", activation="sigmoid", release="shared", rate=0.03),
    mlp((4, 5, 6), 3, 5, rows=101, batch=35, activation="gelu", release="shared", alignment="aligned"),
    mlp((7, 6), 4, 4, 3, activation="silu", output="softmax", l2=0.05, alignment="ecdh"),
    mlp((3, 1, 4, 1, 5), 5, 3, rows=97, batch=40, label=4, activation="softplus", schedule="exponential", decay=0.9),
    mlp((12, 1), 6, rows=20, batch=64, label=1, l2=0.3),  # one batch, smaller than the job's; alpha goes into slopes
    mlp((2, 3), 1, rows=70, batch=70, epochs=3),
]


def evaluations() -> st.SearchStrategy[Evaluation]:
    """Everything that may be asked for beside the model, none of which may change a bit of it."""
    return st.builds(
        Evaluation,
        holdout=st.sampled_from([0.0, 0.3]),
        metrics=st.sampled_from(["end", "epoch"]),
        loss=st.booleans(),
        loss_to=st.sampled_from(["label", "all"]),
    )


@st.composite
def samples(draw) -> Sample:
    """Small jobs of every kind of network."""
    parties = draw(st.sampled_from([2, 3]))
    return mlp(
        tuple(draw(st.lists(st.integers(1, 6), min_size=parties, max_size=parties))),
        *draw(st.lists(st.integers(1, 6), min_size=1, max_size=2)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        output=draw(st.sampled_from(OUTPUTS)),
        rows=draw(st.integers(60, 160)),
        label=draw(st.integers(0, parties - 1)),
        batch=draw(st.integers(32, 70)),
        epochs=draw(st.integers(1, 3)),
        rate=draw(st.floats(0.01, 0.05)),
        l2=draw(st.sampled_from([0.0, 0.05])),
        release=draw(st.sampled_from(["owners", "shared"])),
        alignment=draw(st.sampled_from(["helper", "aligned"])),
        evaluation=draw(evaluations()),
        seed=draw(st.integers(0, 1000)),
    )


def name(sample: Sample) -> str:
    """What a test of it is called."""
    assert sample.network is not None
    widths = "-".join(map(str, sample.network.hidden))
    return f"{len(sample.columns)} parties {widths} {sample.network.activation} {sample.link} {sample.release}"


# --- equality


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_the_network_is_the_oracles_bit_for_bit(sample):
    """Two to five data parties, label anywhere, all activations, outputs and releases, batches that do not divide."""
    simulation, same = exact(sample)
    assert simulation.done, simulation.label_run.failure
    assert same


@settings(max_examples=10, deadline=None, derandomize=True)
@given(samples())
def test_any_job_of_a_network_that_ends_has_the_oracles(sample):
    """A job ends with that model or, where columns are wild and errors unbounded, with a clear refusal."""
    simulation, same = exact(sample)
    failure = simulation.label_run.failure
    if failure is not None:
        assert failure.code in {"job.plan", "training.diverged", "scoring.range"}
        assert failure.code == "job.plan" or sample.link in {"linear", "poisson"}
    assume(failure is None)
    assert same


@pytest.mark.parametrize("ahead", [1, 3, 64])
def test_how_far_ahead_is_sent_changes_nothing(ahead, tmp_path):
    """Nor does it matter that parties do not agree on it, or that messages come in parts."""
    sample = mlp((5, 4, 3), 6, 4, rows=200, batch=40)
    settings = sample.settings(tmp_path, limits=Limits(min_rows=1, look_ahead=ahead, part_bytes=1024))
    settings["card"] = settings["card"].model_copy(update={"limits": Limits(min_rows=1, look_ahead=2)})
    simulation = asyncio.run(run(sample, tmp_path, settings=settings))
    assert simulation.done, simulation.label_run.failure
    assert bit_exact(simulation)
    for one in simulation.runs.values():
        assert not one.context.mailbox._parts
        assert not any(one.context.mailbox._held.values())


def test_first_weights_differ_from_run_to_run_and_are_known_to_nobody(tmp_path):
    """With the same order of rows: each party draws its own shares, and no share of another comes near the sum."""
    found = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        simulation = asyncio.run(run(mlp((5, 4), 6), folder, contribute=contributions(seed)))
        assert bit_exact(simulation)
        found.append(network_words(simulation))
    assert not any(np.array_equal(one, other) for one, other in zip(*found, strict=True))


# --- parts


@pytest.mark.parametrize("label", [0, 2])
@pytest.mark.parametrize("release", ["owners", "shared"])
def test_parts_hold_shares_and_where_the_job_says_so_each_partys_own_block(label, release, tmp_path):
    """With `owners` the label party has what is above the first layer, too; the shares stay with all of them."""
    sample = mlp((4, 5, 4), 6, 3, label=label, l2=0.05, activation="tanh", output="softmax", release=release)
    simulation = asyncio.run(run(sample, tmp_path))
    assert bit_exact(simulation)
    parts = parts_of(tmp_path, sample)
    plan = simulation.label_run.context.ready_plan
    joint = network_words(simulation)
    shares = {f"shares/{party}" for party in sample.parties} | {"shares/upper.0", "shares/upper.1"}
    shares |= {f"shares/bias.{k}" for k in range(3)}
    upper = {
        f"{kind}{words}" for kind in ("upper.0", "upper.1", "bias.0", "bias.1", "bias.2") for words in ("", "_words")
    }
    for number, (party, (part, arrays)) in enumerate(parts.items()):
        folder = simulation.runs[party].model_part
        assert folder is not None
        own = {"weights", "weight_words"} if release == "owners" else set()
        more = upper if own and number == label else set()
        assert set(arrays) == shares | own | more
        assert (part.model, part.network, part.link) == ("mlp", sample.network, "softmax")
        assert (part.classes is not None) == (number == label)
        assert not any(np.array_equal(arrays[name], words) for name in shares for words in joint)
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
        if own:
            assert np.array_equal(arrays["weight_words"], joint[number])
            assert np.array_equal(arrays["weights"], plan.weights(joint[number]))
        if more:
            opened = [arrays[f"upper.{k}_words"] for k in range(2)] + [arrays[f"bias.{k}_words"] for k in range(3)]
            assert all(np.array_equal(a, b) for a, b in zip(opened, joint[3:], strict=True))
            assert np.array_equal(arrays["upper.1"], plan.weights(joint[4]))
            assert np.array_equal(arrays["bias.2"], plan.intercept(joint[7]))
    assert simulation.runs[HELPER].model_part is None


# --- losses, scores, metrics


def heard(sample: Sample) -> Heard:
    """A run in a folder that is gone afterwards, whose network is the oracle's."""
    with tempfile.TemporaryDirectory() as folder:
        found = hear(sample, Path(folder))
        assert bit_exact(found.simulation)
        return found


@st.composite
def evaluated(draw) -> Sample:
    """Small jobs that evaluate, of every kind."""
    evaluation = draw(st.sampled_from([EACH_EPOCH, FOR_ALL, AT_THE_END]))
    sample = draw(samples())
    return mlp(
        sample.columns, *sample.network.hidden, activation=sample.network.activation, output=sample.link,
        rows=sample.rows, label=sample.label, epochs=sample.epochs, rate=min(sample.rate, 0.02), l2=sample.l2,
        release=sample.release, evaluation=evaluation, seed=sample.seed,
    )  # fmt: skip


@settings(max_examples=6, deadline=None, derandomize=True)
@given(evaluated())
@example(mlp((3, 2, 4), 5, 4, rows=120, label=1, output="linear", evaluation=FOR_ALL, epochs=3, l2=0.05, rate=0.03))
@example(mlp((3, 4), 5, 4, rows=120, label=1, output="softmax", activation="tanh", evaluation=FOR_ALL, l2=0.05))
@example(
    mlp((3, 4), 5, rows=120, output="poisson", activation="gelu", evaluation=AT_THE_END, release="shared", rate=0.02)
)
def test_losses_and_scores_are_the_oracles(sample):
    """The loss's words add up to the oracle's, at whoever may know it; scores and metrics are equal to the last bit."""
    found = heard(sample)
    check_losses(found)
    check_scores(found)


def check_losses(found: Heard) -> None:
    """The opened words, and the mean that each party is told or not."""
    expected = oracle_losses(found)
    means = [float(decode(words, found.plan.loss_bits.total)[0, 0]) / found.plan.request.rows for words in expected]
    for role in found.roles:
        knows = role is found.label or found.sample.evaluation.loss_to == "all"
        assert role.context.history.losses == (means if knows else [])
    if found.sample.evaluation.loss_to == "all":  # else the label party's own share is never sent
        for epoch, words in enumerate(expected):
            shares = [share for (*_, of, _), share in found.received(LossShare).items() if of == epoch]
            every = {share.tobytes(): share for share in shares}  # each comes once to every other party
            assert np.array_equal(total(every.values()), words)


def check_scores(found: Heard) -> None:
    """Of each pass; only the label party has any."""
    plan, history, sample = found.plan, found.label.context.history, found.sample
    ends = {epoch: (epoch + 1) * plan.steps_per_epoch for epoch in range(sample.epochs)}
    passes = ends if sample.evaluation.metrics == "epoch" else {sample.epochs - 1: plan.steps_total}
    scores = {epoch: told(found, oracle_scores(found, steps, epoch)) for epoch, steps in passes.items()}
    labels = labels_of(found)
    assert history.metrics == {epoch: metrics(sample.link, labels, seen) for epoch, seen in scores.items()}
    assert history.scores is not None
    assert np.array_equal(history.scores, scores[max(scores)])
    for role in found.roles:
        if role is not found.label:
            assert (role.context.history.metrics, role.context.history.scores) == ({}, None)


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_metrics_are_scikit_learns_on_plaintext_scores(output, tmp_path):
    """Scores by the opened network on the parties' encoded rows, in float64."""
    sample = mlp((5, 4, 4), 8, rows=500, batch=64, epochs=12, label=2, rate=0.1,
                 output=output, evaluation=AT_THE_END)  # fmt: skip
    found = hear(sample, tmp_path)
    xs = {p: decode(x, found.plan.fx) for p, x in zip(sample.parties, found.held_out_xs, strict=True)}
    scores, truth = told(found, forward(parts_of(tmp_path, sample), xs)), labels_of(found)
    seen = found.label.context.history.last_metrics
    assert set(seen) == set(METRICS[output])
    assert max(seen.get(one, 0) for one in ("auc", "r2", "d2")) > 0.05, "the model says nothing"
    for one, value in plaintext_metrics(output, truth, scores).items():
        assert seen[one] == pytest.approx(value, rel=1e-3), one


def plaintext_metrics(output: str, truth: Floats, scores: Floats) -> dict[str, float]:
    """Some of them, by scikit-learn."""
    if output == "poisson":
        return {"deviance": mean_tweedie_deviance(truth, np.exp(scores), power=1)}
    if output == "linear":
        return {"rmse": mean_squared_error(truth, scores) ** 0.5}
    if output == "softmax":
        chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        likely = chances.argmax(axis=1)
        return {"accuracy": accuracy_score(truth, likely), "log_loss": log_loss(truth, chances)}
    chances = 1 / (1 + np.exp(-scores))
    return {"auc": roc_auc_score(truth > 0, scores), "log_loss": log_loss(truth > 0, chances)}


def test_a_hidden_layer_learns_what_no_line_can(tmp_path):
    """Rows are positive where two parties' columns have the same sign: nothing of either alone says so."""
    sample = mlp((2, 2), 8, rows=600, batch=64, epochs=30, rate=1.0, evaluation=Evaluation(holdout=0.3))
    tables = sample.tables()
    signs = [float(a) * float(b) for a, b in
             zip(tables["bank"]["bank_quantity_0"], tables["card"]["card_quantity_0"], strict=True)]  # fmt: skip
    tables["bank"]["defaulted_later"] = [str(int(one > 0)) for one in signs]
    found = hear(sample, tmp_path, tables=tables)
    assert found.label.context.history.last_metrics["auc"] > 0.9


# --- early stopping


STOPPING = [
    mlp((6, 5), 6, rows=120, batch=40, epochs=12, rate=0.3, evaluation=EACH_EPOCH, seed=1,
        early_stopping=EarlyStopping(on="loss", patience=1, least_gain=0.03)),
    mlp((6, 5), 6, 4, rows=120, batch=40, epochs=16, rate=0.6, evaluation=EACH_EPOCH, l2=0.05, seed=3, label=1,
        activation="tanh", early_stopping=EarlyStopping(on="auc", patience=2), release="shared"),
    mlp((4, 5, 4), 6, rows=150, batch=40, epochs=16, rate=0.5, evaluation=EACH_EPOCH, output="softmax", label=2,
        early_stopping=EarlyStopping(on="log_loss", patience=2, least_gain=0.04)),
    mlp((4, 5, 4), 5, rows=150, batch=40, epochs=14, rate=0.2, evaluation=AT_THE_END, l2=0.1, activation="gelu",
        early_stopping=EarlyStopping(on="loss", patience=2, least_gain=0.05)),
]  # fmt: skip


@pytest.mark.parametrize("sample", STOPPING, ids=name)
def test_early_stopping_keeps_the_best_epochs_network_and_ends_everywhere_at_once(sample, tmp_path):
    """As the plaintext's losses and scores would decide; the last epochs have taught nothing to the model."""
    found = hear(sample, tmp_path)
    best, epochs = decided(found)
    per_epoch = found.plan.steps_per_epoch
    assert best + 1 < epochs < sample.epochs, "this sample does not show that the best epoch's model is kept"
    kept = weights_after(found, (best + 1) * per_epoch)
    joint = network_words(found.simulation)
    assert all(np.array_equal(a, b) for a, b in zip([*kept.blocks, *kept.upper, *kept.biases], joint, strict=True))
    assert {one.context.statistics.step for one in found.simulation.runs.values()} == {epochs * per_epoch}
    assert {role.context.history.best_epoch for role in found.roles} == {best}
    epoch = best if sample.evaluation.metrics == "epoch" else sample.epochs - 1
    scores, history = told(found, oracle_scores(found, (best + 1) * per_epoch, epoch)), found.label.context.history
    assert history.scores is not None
    assert np.array_equal(history.scores, scores)
    assert history.last_metrics == metrics(sample.link, labels_of(found), scores)
    parts = parts_of(tmp_path, sample)
    assert {part.steps for part, _ in parts.values()} == {(best + 1) * per_epoch}


def decided(found: Heard) -> tuple[int, int]:
    """The best epoch, and how many epochs there are, by the rule on the oracle's values."""
    rule, plan, link = found.sample.early_stopping, found.plan, found.sample.link
    assert rule is not None
    if rule.on == "loss":
        values = [float(decode(word, plan.loss_bits.total)[0, 0]) / plan.request.rows for word in oracle_losses(found)]
    else:
        ends = [(epoch, (epoch + 1) * plan.steps_per_epoch) for epoch in range(found.sample.epochs)]
        scores = [told(found, oracle_scores(found, steps, epoch)) for epoch, steps in ends]
        values = [metrics(link, labels_of(found), one)[rule.on] for one in scores]
    gains = np.array(values) if METRICS[link].get(rule.on, False) else -np.array(values)
    best = 0
    for epoch in range(1, len(gains)):
        if gains[epoch] - gains[best] > rule.least_gain:
            best = epoch
        elif epoch - best == rule.patience:
            return best, epoch + 1
    return best, len(gains)


# --- prediction


PREDICTED = [
    mlp((4, 3), 6, rows=160, epochs=3, rate=0.3, label=1),
    mlp((4, 3), 6, 4, rows=160, epochs=3, rate=0.1, output="linear", release="shared", alignment="ecdh",
        activation="tanh"),
    mlp((3, 2, 3), 5, rows=160, epochs=3, rate=0.2, label=2, output="softmax", l2=0.1, activation="gelu"),
    mlp((3, 2, 3), 5, 4, rows=160, epochs=3, rate=0.05, label=1, output="poisson", release="shared", l2=0.1,
        activation="softplus"),
]  # fmt: skip


@pytest.mark.parametrize("sample", PREDICTED, ids=name)
def test_scores_of_new_rows_are_those_of_the_opened_network(sample, tmp_path):
    """To 1e-4, for both releases, with categories, gaps, other orders and rows that one party lacks."""
    assert bit_exact(hear(sample, tmp_path, tables=people(sample, sample.rows, 1)).simulation)
    tables = newcomers(sample, 80)
    found = hear_prediction(sample, tmp_path, tables)
    check_told(found, tables, plain_scores(tmp_path, sample, tables))
    label = sample.parties[sample.label]
    assert list(tmp_path.rglob("scores.*")) == [found.simulation.runs[label].scores]
    assert found.simulation.label_run.context.statistics.step > 1, "more than one batch"


def test_a_prediction_uses_the_network_that_early_stopping_kept(tmp_path):
    """Not the one of the last step; with a penalty, whose alpha is that of the kept step."""
    rule = EarlyStopping(on="loss", patience=1, least_gain=0.05)
    sample = mlp((4, 3), 5, rows=160, epochs=12, rate=0.3, l2=0.1, activation="tanh", evaluation=EACH_EPOCH,
                 early_stopping=rule)  # fmt: skip
    trained = hear(sample, tmp_path, tables=people(sample, sample.rows, 1))
    part, _ = model_part.load(tmp_path / "card" / "models" / sample.description().id)
    steps = trained.label.context.statistics.step
    assert part.steps == steps - trained.plan.steps_per_epoch < trained.plan.steps_total
    assert part.alpha == trained.plan.alpha_after(part.steps) != trained.plan.last_alpha
    tables = newcomers(sample)
    check_told(hear_prediction(sample, tmp_path, tables), tables, plain_scores(tmp_path, sample, tables))


def test_the_oracle_rounds_as_the_joint_run_does_and_not_otherwise():
    """Handed other masks of truncations, it ends elsewhere in the last bits: so equality says that it was these."""
    found = heard(mlp((5, 4), 6))
    same = network_arguments(found.simulation)
    other = network_reference.train(same._replace(dealt=lambda *address: ~same.dealt(*address)))
    ours = weights_after(found, found.plan.steps_total)
    assert not np.array_equal(other.upper[0], ours.upper[0])
    gap = (other.upper[0] - ours.upper[0]).view(np.int64) / 2.0**found.plan.fw
    assert np.abs(gap).max() < 1e-4


# --- the trace


def test_a_trace_counts_steps_whatever_layer_a_message_is_of(tmp_path):
    """Messages of hidden layers are addressed by step and layer; in a trace they belong to their step."""
    simulation = asyncio.run(run(mlp((5, 4), 4, 3, 3, rows=200, batch=40, activation="tanh"), tmp_path))
    for party, one in simulation.runs.items():
        kept = one.context.trace._kept
        assert [step.step for step in kept] == list(range(1, 10))
        waits = {(step.step, event.what, event.step) for step in kept for event in step.events if event.kind == "wait"}
        online = "hidden share" if party == HELPER else "error opening"
        assert {step for step, what, _ in waits if what == online} <= set(range(1, 10))
        assert all(step == of for step, what, of in waits if what == online)
        assert max(event.step for step in kept for event in step.events) == 9


# --- memory


AHEAD = (MaskedInputs, MaskOpenings, MaskedLabels, MaskedWeights, DealtShares)


@pytest.mark.parametrize("sample", [
    mlp((6, 7), 8, 6, rows=480, batch=240),
    mlp((6, 7), 24, rows=480, batch=240, activation="tanh", label=1, output="softmax"),
    mlp((4, 5, 4), 8, 5, 3, rows=480, batch=240, activation="gelu", l2=0.1),
], ids=name)  # fmt: skip
def test_the_look_ahead_counts_what_is_on_its_way(sample, tmp_path):
    """All words of the largest step that one party sends and receives ahead of it; not many more are counted."""
    found = hear(sample, tmp_path)
    words = dict.fromkeys((*sample.parties, HELPER), 0)
    for address, message in found.ear.said:
        if isinstance(message, AHEAD) and (address.epoch, address.step) == (0, found.plan.steps_per_epoch - 1):
            words[address.sender] += message.words.size
            words[address.receiver] += message.words.size
    assert max(words.values()) <= words_ahead(found.plan) <= 1.4 * max(words.values())


@pytest.mark.parametrize("sample", [mlp((6, 7), 8, 6, rows=80, batch=40), mlp((60, 7), 3, rows=80, batch=40)], ids=name)
@pytest.mark.parametrize("helper", [False, True])
def test_no_message_of_a_step_is_larger_than_the_planner_is_told(sample, helper, tmp_path):
    """To a data party or to the helper; the largest one is as large."""
    found = hear(sample, tmp_path)
    sizes = [
        message.words.size  # type: ignore[attr-defined]
        for address, message in found.ear.said
        if "words" in type(message).model_fields and (address.receiver == HELPER) == helper
    ]
    rows = max(step.rows for step in found.plan.steps())
    largest = largest_message(found.plan, helper=helper)
    assert max(sizes) <= largest <= max(sizes) * largest_batch(found.plan) / rows


async def test_a_batch_that_a_party_cannot_take_in_is_refused_before_any_share_leaves(tmp_path):
    """What the helper deals is larger than the inputs: a wide network is refused by whom it would be too much for."""
    sample = mlp((6, 7), 512, 64, rows=400, batch=320)
    settings = sample.settings(tmp_path)
    settings["bank"] = settings["bank"].model_copy(update={"limits": Limits(min_rows=1, message_mib=16)})
    sent: set[str] = set()

    def note(_: Address, message: Message) -> Message:
        sent.add(message.kind)
        return message

    simulation = await run(sample, tmp_path, settings=settings, tap=note)
    failure = simulation.label_run.failure
    assert failure is not None
    assert failure.code == "job.batch"
    assert "narrower layers" in failure.reason
    assert "message_mib at bank" in failure.reason
    assert not sent & SHARES
