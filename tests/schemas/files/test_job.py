"""Job descriptions: what a person may write, and the id that follows from it."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.schemas.core.names import JOB_ID_PATTERN
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import METRICS, PredictionJob, Privacy, Training, TrainingJob, canonical_digest, read_job
from tests.schemas.strategies import descriptions

GOOD = """
name = "credit"
model = "logistic"
label = "bank"
helper = "notary"

[tables]
bank = "customers"
card = "delays"

[training]
epochs = 2
batch = 64
rate = 0.1
"""


def written(folder: Path, *changes: tuple[str, str]) -> Path:
    """A JOB.toml with some words replaced."""
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return path


def read_training(folder: Path, *changes: tuple[str, str]) -> TrainingJob:
    """The training job of such a file."""
    job = read_job(written(folder, *changes))
    assert isinstance(job, TrainingJob)
    return job


def test_a_job_is_read_in_the_order_of_its_tables(tmp_path: Path) -> None:
    """That order numbers the parties; what is not written has a default."""
    job = read_training(tmp_path)
    assert job.data_parties == ("bank", "card")
    assert job.parties == ("bank", "card", "notary")
    assert job.table_of("card") == "delays"
    assert (job.training.schedule, job.release, job.accept_narrow) == ("constant", "owners", False)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"logistic"', '"forest"', "model"),
        ('label = "bank"', 'label = "telco"', "'telco' has no entry in [tables]"),
        ('helper = "notary"', 'helper = "card"', "both helper and data party"),
        ('card = "delays"', "", "tables"),
        ('card = "delays"', 'card = "delays"\ntelco = "calls"\n[evaluation]\nholdout = 1.0', "evaluation.holdout"),
        ('name = "credit"', 'name = "credit"\nalignment = "guess"', "alignment"),
        ('name = "credit"', 'name = "credit"\nearly_stopping = {on = "loss"}', "loss = true under [evaluation]"),
        ('name = "credit"', 'name = "credit"\nearly_stopping = {on = "auc"}', 'metrics = "epoch"'),
        ('name = "credit"', 'name = "credit"\nearly_stopping = {on = "auc"}', 'on = "held_out_loss" stops by held-out'),
        ('name = "credit"', 'name = "credit"\nearly_stopping = {on = "r2"}', "one of held_out_loss, loss, auc"),
        ('name = "credit"', 'name = "credit"\nearly_stopping = {on = "held_out_loss"}', "held_out_loss = true under"),
        ('name = "credit"', 'name = "credit"\nevaluation = {held_out_loss = true}', "write holdout = 0.2, say"),
        ('name = "credit"', 'name = "credit"\nevaluation = {folds = 1}', "folds are at least 2"),
        ('name = "credit"', 'name = "credit"\nevaluation = {folds = 21}', "evaluation.folds"),
        ('name = "credit"', 'name = "credit"\nevaluation = {folds = 5, holdout = 0.2}', "one of them"),
        ('name = "credit"', 'name = "credit"\nevaluation = {folds = 5, holdout_column = "late"}', "one of them"),
        ('name = "credit"', 'name = "credit"\nevaluation = {folds = 5, metrics = "epoch"}', "scored once"),
        ('name = "credit"', 'name = "credit"\nevaluation = {folds = 5, held_out_loss = true}', "scored once"),
        ('name = "credit"', 'name = "credit"\nevaluation = {folds = 5, held_out_scores = true}', "scored once"),
        ('name = "credit"', 'name = "credit"\nscorecard = {pdo = 0}', "scorecard.pdo"),
        ('name = "credit"', 'name = "credit"\nscorecard = {odds = 50}', "did you mean `base_odds`"),
        ('"logistic"', '"poisson"\nscorecard = {pdo = 20}', "leave out [scorecard]"),
        (
            'name = "credit"',
            'name = "credit"\nevaluation = {folds = 5, loss = true}\nearly_stopping = {on = "loss"}',
            "the last model has none",
        ),
        ('"logistic"', '"mlp"', "hidden = [32], say, under [network]"),
        ('name = "credit"', 'name = "credit"\nnetwork = {hidden = [8]}', 'or use model = "mlp"'),
        ('"logistic"', '"mlp"\nnetwork = {hidden = []}', "network.hidden"),
        ('"logistic"', '"mlp"\nnetwork = {hidden = [0]}', "network.hidden.0"),
        ('"logistic"', '"mlp"\nnetwork = {hidden = [8], activation = "swish"}', "'relu', 'leaky-relu', 'tanh'"),
        ('"logistic"', '"mlp"\nnetwork = {hidden = [8], output = "gamma"}', "network.output"),
        ('"logistic"', '"tweedie"\npower = 2.0', "job.toml: power is from 1.001 to 1.999: for 1"),
        ('"logistic"', '"tweedie"\npower = nan', "power"),
        ('"logistic"', '"tweedie"\npower = 1.9995', "power is from"),
        ('"logistic"', '"gamma"\npower = 1.5', 'or use model = "tweedie"'),
        ('"logistic"', '"tweedie"\nprivacy = {helper_sees = "scores"}', 'leave it out, or use "gamma"'),
        ('"logistic"', '"softmax"\nearly_stopping = {on = "ks"}', "auc, accuracy, balanced_accuracy, log_loss"),
        ('"logistic"', '"poisson"\nearly_stopping = {on = "auc"}', "d2, deviance, rmse, mae"),
        ('name = "credit"', 'name = "credit"\nkind = "prediction"', "of is missing; write it"),
        ('name = "credit"', 'name = "credit"\nkind = "guess"', "kind"),
        ('name = "credit"', 'name = "credit"\nencoding = {woe = "Counts"}', "encoding.woe: write a job's id"),
        (
            'name = "credit"',
            'name = "credit"\nstart = "credit-01234567"\nencoding = {woe = "counts-01234567"}',
            "leave out [encoding] woe",
        ),
        ('name = "credit"', 'name = "Credit Default"', "name"),
        ('name = "credit"', 'name = "' + 33 * "a" + '"', "name"),
        ('name = "credit"', "", "name is missing; write it"),
        ("epochs = 2", "epochs = 0", "training.epochs"),
        ("epochs = 2", "epochs = 2.5", "training.epochs"),
        ("epochs = 2", 'epochs = "2"', "training.epochs"),
        ("rate = 0.1", "rate = nan", "training.rate"),
        ("rate = 0.1", "rate = inf", "training.rate"),
        ("rate = 0.1", "rate = -1.0", "training.rate"),
        ("rate = 0.1", 'rate = "fast"', 'training.rate is a number, without quotes, or "auto"'),
        ("rate = 0.1", "rate = 0.1\nfinal = 0.2", 'final is for schedule = "linear"'),
        ("rate = 0.1", "decay = 0.1", 'schedule = "linear" falls to final, and has no decay'),
        ('name = "credit"', 'name = "credit"\nevaluation = {every = 5}', 'write metrics = "epoch" too'),
        ("rate = 0.1", "rate = 0.1\nseed = 7", "unknown field `seed` under [training]"),
        ("rate = 0.1", "rate = 0.1\nl2 = 1.0", "training.l2"),
        ("[tables]", "[tabels]", "first [section]; did you mean `tables`?"),
        ("[tables]", "[tables", "not TOML"),
        ("model =", "modell =", "unknown field `modell` at the top of the file"),
        ("epochs =", "epoch =", "unknown field `epoch` under [training]; did you mean `epochs`?"),
        ("rate =", "hidden = [32]\nrate =", "unknown field `hidden` under [training]; it belongs under [network]"),
        ('bank = "cus', 'Bank = "cus', "tables.Bank: a name has small letters, digits and hyphens"),
        ("rate =", "rate = 'quick'\n# =", "training.rate is a number"),
        ("name =", "kind = 'lesson'\nname =", "kind: write one of 'training', 'prediction'"),
        ("name =", "kind = 'prediction'\nof = 'credit'\nname =", "unknown field `model` at the top"),
    ],
)
def test_a_mistake_is_told_with_its_file_and_field(tmp_path: Path, old: str, new: str, words: str) -> None:
    """So that it can be found."""
    path = written(tmp_path, (old, new))
    with pytest.raises(Invalid) as caught:
        read_job(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_job_may_leave_its_training_out(tmp_path: Path) -> None:
    """Everything of it has a default; a rate that is said does not fall unless that is said too."""
    left_out = read_training(tmp_path, ("[training]\nepochs = 2\nbatch = 64\nrate = 0.1\n", ""))
    training = left_out.training
    assert (training.epochs, training.batch, training.rate, training.schedule) == (10, "auto", "auto", "linear")
    said = read_training(tmp_path, ("epochs = 2\nbatch = 64\n", ""))
    assert (said.training.schedule, said.training.batch) == ("constant", "auto")
    assert TrainingJob.model_validate(left_out.model_dump()) == left_out


def test_held_out_rows_are_scored_every_so_many_epochs_and_after_the_last(tmp_path: Path) -> None:
    """Or never, or once."""
    evaluation = 'name = "credit"\nevaluation = {holdout = 0.2, metrics = "epoch", every = 3}'
    job = read_training(tmp_path, ('name = "credit"', evaluation), ("epochs = 2", "epochs = 8"))
    assert [epoch for epoch in range(8) if job.scored_after(epoch)] == [2, 5, 7]
    assert job.scorings == 3
    none = read_training(tmp_path, ('name = "credit"', evaluation.replace('"epoch", every = 3', '"none"')))
    assert (none.scorings, any(map(none.scored_after, range(2)))) == (0, False)


@pytest.mark.parametrize(
    ("model", "link"),
    [("logistic", "logistic"), ("gamma", "gamma"), ("mlp", "poisson")],
)
def test_labels_and_metrics_go_by_the_link_whatever_the_kind(tmp_path: Path, model: str, link: str) -> None:
    """A network's is that of its output layer."""
    network = '\nnetwork = {hidden = [64, 32], activation = "gelu", output = "poisson"}' if model == "mlp" else ""
    job = read_training(tmp_path, ('"logistic"', f'"{model}"{network}'))
    assert job.link == link
    assert job.link in METRICS
    assert (job.network is None) == (model != "mlp")
    if job.network:
        assert job.network.hidden == (64, 32)


def test_a_linear_models_job_has_the_id_it_had_before_there_were_networks() -> None:
    """Predictions refer to it: nor does any word that came later change the id of a job that does without it."""
    path = Path(__file__).parents[3] / "examples/credit/job.toml"
    before = {"epochs": 8, "batch": 512, "rate": 0.5, "schedule": "inverse-time", "decay": 0.03}
    job = read_job(path)
    assert isinstance(job, TrainingJob)
    example = job.model_copy(update={"training": Training.model_validate(before), "privacy": Privacy()})
    assert example.id == "credit-default-154b9060"
    assert "network" not in example.canonical()


def test_a_job_names_its_purpose_and_columns_and_without_them_is_what_it_was(tmp_path: Path) -> None:
    """An earlier release, which does not know the fields, reads a job that does not use them."""
    plain = read_job(written(tmp_path))
    assert not {"purpose", "columns", "standby"} & plain.canonical().keys()
    named = read_job(
        written(tmp_path, ("[training]", '[columns]\ncard = ["delays", "amount"]\n[training]'),
                ('name = "credit"', 'name = "credit"\npurpose = "credit scoring"'))
    )  # fmt: skip
    assert named.purpose == "credit scoring"
    assert named.columns_of("card") == ("delays", "amount")
    assert named.columns_of("bank") is None
    assert plain.digest != named.digest
    assert TrainingJob.model_validate(named.model_dump()) == named


def test_a_job_without_a_held_out_loss_has_the_id_it_had_before_there_was_one(tmp_path: Path) -> None:
    """What is not asked for is not in the canonical form; the best way to stop early is easily written."""
    plain = read_job(written(tmp_path))
    assert "held_out_loss" not in plain.canonical()["evaluation"]
    more = '[evaluation]\nholdout = 0.2\nheld_out_loss = true\n[early_stopping]\non = "held_out_loss"\n[training]'
    asked = read_job(written(tmp_path, ("[training]", more)))
    assert asked.canonical()["evaluation"]["held_out_loss"] is True
    assert TrainingJob.model_validate(asked.model_dump()) == asked
    assert TrainingJob.model_validate_json(asked.model_dump_json()).digest == asked.digest != plain.digest


def test_a_job_that_does_not_say_what_the_helper_sees_has_the_id_it_had_before_it_could(tmp_path: Path) -> None:
    """Unset, it sees nothing where the model allows that; said, it is another job."""
    plain = read_training(tmp_path)
    assert plain.id == "credit-6e3d0b7e"
    assert plain.is_blind
    assert not {"helper_sees", "q", "terms"} & plain.canonical().get("privacy", {}).keys()
    for more in ('helper_sees = "nothing"', 'helper_sees = "scores"', "q = 16", "terms = 32"):
        said = read_training(tmp_path, ("[training]", f"[privacy]\n{more}\n[training]"))
        assert said.digest != plain.digest
        assert said.is_blind == ("scores" not in more)
        assert TrainingJob.model_validate_json(said.model_dump_json()).digest == said.digest


@pytest.mark.parametrize("model", ["softmax", "mlp"])
def test_a_model_without_a_series_needs_a_helper_that_sees_scores(tmp_path: Path, model: str) -> None:
    """Unset it does; asked to see nothing it is refused with what to write instead."""
    network = "" if model == "softmax" else '\nnetwork = {hidden = [4], activation = "relu"}'
    plain = ('"logistic"', f'"{model}"{network}')
    unset = read_training(tmp_path, plain)
    assert not unset.is_blind
    with pytest.raises(Invalid, match='helper_sees = "scores"'):
        read_job(written(tmp_path, plain, ("[training]", '[privacy]\nhelper_sees = "nothing"\n[training]')))


def test_one_against_the_rest_is_what_a_helper_that_sees_nothing_has_in_place_of_softmax(tmp_path: Path) -> None:
    """Each of the two is refused with the other one's name where it cannot be."""
    blind, shown = (("[training]", f'[privacy]\nhelper_sees = "{sees}"\n[training]') for sees in ("nothing", "scores"))
    softmax, one_vs_rest = (('"logistic"', f'"{model}"') for model in ("softmax", "one-vs-rest"))
    for more in ((), (blind,)):
        job = read_training(tmp_path, one_vs_rest, *more)
        assert job.is_blind
    with pytest.raises(Invalid, match='for "softmax" use "one-vs-rest", or write helper_sees'):
        read_job(written(tmp_path, softmax, blind))
    with pytest.raises(Invalid, match='is not for one-vs-rest models: leave it out, or use "softmax"'):
        read_job(written(tmp_path, one_vs_rest, shown))


def test_a_job_may_use_no_column_of_the_label_party(tmp_path: Path) -> None:
    """Its label is enough."""
    alone = read_job(written(tmp_path, ("[training]", "[columns]\nbank = []\n[training]")))
    assert alone.label == "bank"
    assert alone.columns_of("bank") == ()


@pytest.mark.parametrize("columns", ['telco = ["a"]', 'notary = ["a"]', "card = []", 'card = ["a", "a"]', "card = 1"])
def test_columns_are_named_for_data_parties_each_once(tmp_path: Path, columns: str) -> None:
    """Or nobody could say which of them are meant."""
    with pytest.raises(Invalid, match="columns"):
        read_job(written(tmp_path, ("[training]", f"[columns]\n{columns}\n[training]")))


def test_a_missing_file_is_told_by_name(tmp_path: Path) -> None:
    """And one that is not text."""
    with pytest.raises(Invalid, match="give the path"):
        read_job(tmp_path / "nothing.toml")
    (tmp_path / "job.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Invalid, match="not TOML"):
        read_job(tmp_path / "job.toml")


def test_a_prediction_names_the_model_and_nothing_of_training(tmp_path: Path) -> None:
    """The parties and tables are named as in training."""
    changes = (('name = "credit"', 'kind = "prediction"\nname = "scores"\nof = "credit-12345678"'),)
    training = GOOD[GOOD.index("[training]") :]
    job = read_job(written(tmp_path, *changes, ('model = "logistic"\n', ""), (training, "")))
    assert isinstance(job, PredictionJob)
    assert (job.of, job.alignment, job.format) == ("credit-12345678", "helper", "csv")
    with pytest.raises(Invalid, match="unknown field `training` at the top"):
        read_job(written(tmp_path, *changes, ('model = "logistic"\n', "")))


def test_ecdh_is_for_two(tmp_path: Path) -> None:
    """Among three, two would learn what they have in common without the third."""
    two = ('helper = "notary"', 'helper = "notary"\nalignment = "ecdh"')
    assert read_job(written(tmp_path, two)).alignment == "ecdh"
    with pytest.raises(Invalid, match="two data parties"):
        read_job(written(tmp_path, two, ('card = "delays"', 'card = "delays"\ntelco = "calls"')))


@given(descriptions())
def test_the_id_follows_from_the_description_and_fits_into_queue_names(job: TrainingJob) -> None:
    """A copy has the same."""
    assert re.fullmatch(JOB_ID_PATTERN, job.id)
    assert TrainingJob.model_validate(job.model_dump()).id == job.id
    assert TrainingJob.model_validate_json(job.model_dump_json()).digest == job.digest


@given(descriptions(), descriptions())
def test_other_descriptions_have_other_digests(one: TrainingJob, other: TrainingJob) -> None:
    """Whatever differs."""
    assert (one.digest == other.digest) == (one == other)


@given(descriptions())
def test_anew_changes_the_id_and_nothing_that_shapes_the_model(job: TrainingJob) -> None:
    """Each time."""
    again, once_more = job.with_new_id(), job.with_new_id()
    assert len({job.id, again.id, once_more.id}) == 3
    assert again.model_copy(update={"again": job.again}) == job
    assert TrainingJob.model_validate(again.model_dump()) == again


@given(st.text(), st.text())
def test_a_digest_is_of_its_domain_too(one: str, other: str) -> None:
    """The same value under two domains has two digests."""
    assert (canonical_digest(one, [1]) == canonical_digest(other, [1])) == (one == other)


def test_a_description_has_no_place_for_a_seed_a_path_or_a_key() -> None:
    """What shapes a model beside it comes from the parties' own randomness."""
    described: dict[str, Any] = TrainingJob.model_fields
    assert set(described) == {
        "name", "kind", "model", "network", "label", "helper", "tables", "training", "evaluation", "early_stopping",
        "release", "alignment", "accept_narrow", "again", "purpose", "columns", "standby", "privacy", "encoding",
        "start", "scorecard", "offset", "exposure", "power",
    }  # fmt: skip


def test_a_job_that_leaves_privacy_out_says_nothing_of_it_and_checks_what_the_helper_deals(tmp_path: Path) -> None:
    """Its checks are part of the job, and so of its id, where they are others than usual."""
    usual = read_training(tmp_path)
    same, none = (read_training(tmp_path, ("[training]", f"[privacy]\nchecks = {n}\n[training]")) for n in (2, 0))
    assert usual.privacy.checks == 2
    assert "privacy" not in usual.canonical()
    assert usual.id == same.id != none.id
    with pytest.raises(Invalid, match=r"privacy\.checks"):
        read_training(tmp_path, ("[training]", "[privacy]\nchecks = 9\n[training]"))
