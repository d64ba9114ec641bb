"""A training in which the helper sees nothing has the oracle's model bit for bit, whatever the job asks for beside."""

import pytest
from hypothesis import assume, given, settings

from tercet.schemas.files.job import EarlyStopping, Evaluation, Privacy
from tests.agents.networks import mlp, name
from tests.agents.recording import Ear
from tests.agents.simulation.test_exactness import RELEASES, samples
from tests.agents.world import NOTHING, Sample, exact

ALL = Evaluation(holdout=0.3, metrics="epoch", loss=True, held_out_loss=True)
PATIENT = EarlyStopping(on="held_out_loss", patience=1, least_gain=10.0)  # ends after two epochs
SAMPLES = [
    Sample(
        (4, 5, 6), label=2, l2=0.02, schedule="inverse-time", decay=0.05, privacy=Privacy(helper_sees="nothing", q=16)
    ),
    Sample(
        label=1, model="linear", release="label", alignment="ecdh", schedule="exponential", decay=0.97, privacy=NOTHING
    ),
    Sample((4, 5, 6), rows=101, batch=35, release="shared", outliers=0.03, alignment="aligned", privacy=NOTHING),
    Sample((0, 3, 2), rows=70, batch=70, release="shared", privacy=NOTHING),  # labels alone
    Sample((12, 1), rows=20, batch=64, label=1, privacy=NOTHING),  # one batch, smaller than the job's
    Sample(model="poisson", rate=0.03, release="label", evaluation=ALL, privacy=NOTHING),
    Sample((4, 5, 6), model="gamma", label=2, rate=0.03, evaluation=ALL, privacy=NOTHING),
    Sample(model="one-vs-rest", label=1, l2=0.02, outliers=0.02, evaluation=ALL),
    Sample(privacy=Privacy(helper_sees="nothing", q=32, terms=32)),
    Sample((4, 5, 6), epochs=5, label=2, model="linear", evaluation=ALL, early_stopping=PATIENT, privacy=NOTHING),
]

NETWORKS = [
    mlp((7, 6), 5, epochs=1, activation="silu", evaluation=ALL, privacy=NOTHING),
    mlp((4, 5), 6, epochs=1, label=1, activation="sigmoid", output="poisson", rate=0.03, release="shared",
        privacy=NOTHING),
    mlp((4, 5, 6), 3, 5, rows=101, batch=35, activation="gelu", release="shared", alignment="aligned", l2=0.02,
        schedule="exponential", decay=0.97, privacy=NOTHING),
    mlp((7, 0), 4, 4, 3, epochs=1, label=1, activation="softplus", output="one-vs-rest", l2=0.05, alignment="ecdh",
        evaluation=ALL),
    mlp((4, 5, 6), 3, label=2, rows=300, batch=16, epochs=5, activation="tanh", rate=0.5, release="label",
        evaluation=ALL, early_stopping=PATIENT, privacy=NOTHING),
]  # fmt: skip


@pytest.mark.parametrize("sample", [*SAMPLES, *(pytest.param(one, id=name(one)) for one in NETWORKS)], ids=str)
def test_the_model_is_the_oracles_bit_for_bit(sample: Sample) -> None:
    """Two and three data parties, label anywhere, all models, releases and alignments, and the loss."""
    simulation, same = exact(sample)
    assert simulation.done, simulation.label_run.failure
    assert same
    if sample.early_stopping is not None:
        assert simulation.label_run.context.statistics.steps < sample.epochs * -(-sample.rows // sample.batch)


SMOOTH = mlp((7, 6), 5, activation="silu", privacy=Privacy())


@pytest.mark.parametrize("sample", [Sample(privacy=Privacy()), SMOOTH], ids=["logistic", "network"])
def test_a_job_that_says_nothing_trains_in_this_way(sample: Sample) -> None:
    """The helper deals, and answers nothing."""
    ear = Ear()
    _, same = exact(sample, tap=ear.tap)
    assert same
    heard = {message.kind for _, message in ear.said}
    assert "score opening" in heard
    assert not heard & {"pre-activation share", "masked activation", "hidden share", "hidden answer"}


MODELS = ("logistic", "linear", "one-vs-rest", "poisson", "gamma", "tweedie")


@settings(max_examples=2, deadline=None, derandomize=True)
@given(samples(most=3, models=MODELS, releases=(*RELEASES, "label"), privacy=NOTHING))
def test_any_job_that_ends_has_the_oracles_model(sample: Sample) -> None:
    """Or it is refused clearly, where columns are wild or few."""
    simulation, same = exact(sample)
    failure = simulation.label_run.failure
    if failure is not None:
        assert failure.code in {"job.plan", "table.label", "training.diverged", "scoring.range"}
    assume(failure is None)
    assert same
