"""A report's page stands alone, escapes what comes from outside, and says to each party what it may know."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.agents.evaluation.metrics import curves, histogram, metrics, probabilities
from tercet.agents.reports.report import ReportData, render
from tercet.agents.reports.wording import MINUS, listed, number, seconds, signed, size, weight
from tercet.schemas.core.visible import escape_invisible
from tercet.schemas.files.job import Network

WHEN = datetime(2025, 3, 14, 16, 5, tzinfo=UTC)
VOID = {"meta", "link", "br", "img", "input", "hr"}
EVIL = "<script>alert('x')</script> & \"q\" url(x) {{ 7 * 7 }} $a$"


def rows(count=400):
    """Labels and log-odds that go together."""
    random = np.random.default_rng(3)
    scores = random.normal(-1, 1.3, count)
    return (random.random(count) < probabilities(scores)) - 0.5, scores


def header(party="bank", **more) -> ReportData:
    """A report with nothing but what every report has."""
    fields = {
        "job": "credit-12345678",
        "kind": "training",
        "model": "logistic",
        "party": party,
        "label_party": "bank",
        "helper": "notary",
        "data_parties": ("bank", "card", "telco"),
        "release": "owners",
        "state": "done",
        "when": WHEN,
        "version": "1.2.3",
    }
    return ReportData(**(fields | more))


def common() -> dict[str, Any]:
    """What every party of a job knows."""
    return {
        "alignment": "helper",
        "common_rows": 30_015,
        "rows": 24_012,
        "held_out": 6_003,
        "columns": {"bank": 31, "card": 18, "telco": 42},
        "planning": ("few batches",),
        "stage_seconds": {"reading": 2.31, "training": 61.4},
        "round_seconds": {"activations": 31.2},
        "sent_messages": {"masked inputs": 752},
        "sent_bytes": {"masked inputs": 148_200_000},
        "steps": 376,
        "seconds_per_step": 0.0121,
        "processor_seconds": 41.3,
        "scored": "epoch",
        "loss_to": "label",
        "fx": 13,
        "f": 26,
    }


def of_label_party(**more) -> ReportData:
    """Everything that a label party can know."""
    labels, scores = rows()
    found = metrics("logistic", labels, scores)
    fields = {
        "table_rows": 34_211,
        "raw_columns": 19,
        "preprocessing": ("age was clipped",),
        "losses": (0.69, 0.6, 0.55),
        "metrics": {0: found | {"auc": 0.6}, 1: found, 2: found | {"auc": 0.7}},
        "best_epoch": 1,
        "epochs": 8,
        "curves": curves("logistic", labels, scores),
        "alone": {name: value * 0.9 for name, value in found.items()},
        "weights": {"limit": -0.7531, "age": 0.2468},
        "intercept": -1.31,
    }
    return header(**(common() | fields | more))


def of_partner(**more) -> ReportData:
    """A data party without the label."""
    return header("card", **(common() | {"table_rows": 51_020, "weights": {"delay": 0.8642}} | more))


def of_helper(**more) -> ReportData:
    """The helper's."""
    return header("notary", **(common() | more))


def of_prediction(**more) -> ReportData:
    """New rows, at the label party."""
    fields = {"kind": "prediction", "of": "credit-12345678", "rows": 400, "predictions": histogram(rows()[1])}
    return header(**(fields | more))


NOTHING_DRAWS: dict[str, Any] = {"curves": None, "losses": ()}


class Page(HTMLParser):
    """Fails where tags do not match; keeps texts, tags, ids and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


EVERY = {
    "label party": of_label_party,
    "partner": of_partner,
    "helper": of_helper,
    "prediction": of_prediction,
    "nothing": header,
    "shared": lambda: of_partner(release="shared", weights={}),
    "linear": lambda: header(
        model="linear", metrics={0: metrics("linear", *rows())}, curves=curves("linear", *rows()), losses=(2.0, 1.0)
    ),
    "failed": lambda: header("card", state="failed", failure="two rows with one id", detail="line 12"),
}


@pytest.fixture(scope="module", params=EVERY)
def page(request) -> str:
    """One page of each sort."""
    return render(EVERY[request.param]())


def test_a_page_is_well_formed(page):
    """Tags match, ids differ, and every reference within the page leads somewhere."""
    found = Page(page)
    assert (found.tags[0], found.tags.count("h1"), page[:15]) == ("html", 1, "<!doctype html>")
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value.removeprefix("#") for name, value in found.attributes if name == "href" and value}
    assert targets <= set(ids)


def test_a_page_needs_nothing_but_itself(page):
    """No address, no script, no picture, no font of elsewhere."""
    assert re.findall(r"http|<script|url\(|@import|<link|<img|<iframe|src=|javascript:|\son\w+=", page) == []


def test_a_page_has_no_colour_but_its_own(page):
    """What was drawn takes its colours from the theme, so that dark mode changes all of them; text stays text."""
    body = page[page.index("<body>") :]
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?!\")", re.sub(r"href=\"[^\"]*\"", "", body)) == []
    assert "font-family" not in body
    assert "prefers-color-scheme: dark" in page


@pytest.mark.draws_all
def test_the_same_data_give_the_same_bytes():
    """Whatever was drawn before, and in whichever thread."""
    both = [of_label_party(), of_prediction()]
    first = [render(data) for data in both]
    with ThreadPoolExecutor(2) as threads:
        assert [*threads.map(render, both)] == first


def test_drawing_leaves_the_settings_of_the_process_alone():
    """Somebody else may draw too."""
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    render(of_label_party())
    assert dict(mpl.rcParams) == before


def test_the_label_party_sees_how_good_the_model_is():
    """Of the best epoch, not of the last."""
    text = Page(render(of_label_party())).text
    for part in ("How good the model is", "ROC", "Precision and recall", "Calibration", "Gain", "Loss by epoch"):
        assert part in text
    data = of_label_party()
    assert f"AUC {number(data.metrics[1]['auc'])}" in text
    assert "The model of epoch 2 of at most 8 was the best" in text
    assert "What the partners' columns were worth" in text
    assert f"{MINUS}0.7531" in text
    assert f"The intercept is {MINUS}1.3100." in text


def test_a_better_loss_is_a_smaller_one():
    """The verdict knows in which direction a metric is better."""
    data = of_label_party(
        metrics={0: {"auc": 0.8, "log_loss": 0.4}}, alone={"auc": 0.7, "log_loss": 0.5}, **NOTHING_DRAWS
    )
    text = Page(render(data)).text
    assert "0.800 0.700 +0.100 better" in text
    assert f"0.400 0.500 {MINUS}0.100 better" in text
    worse = of_label_party(
        metrics={0: {"auc": 0.6, "log_loss": 0.6}}, alone={"auc": 0.7, "log_loss": 0.5}, **NOTHING_DRAWS
    )
    assert Page(render(worse)).text.count("worse") == 2


def test_the_metrics_without_a_best_epoch_are_the_last_ones():
    """Where the job did not stop early, the last model is the one that is kept."""
    data = of_label_party(best_epoch=None, **NOTHING_DRAWS)
    assert data.result["auc"] == 0.7
    assert "The model after 8 epochs was kept." in Page(render(data)).text


@pytest.mark.parametrize(
    ("data", "there", "absent"),
    [
        (of_partner(), ["+0.8642"], ["How good", "ROC", "partners' columns", "Loss by epoch", "intercept is"]),
        (of_partner(release="shared", weights={}), ["leaves every weight shared"], []),
        (of_helper(), ["this helper saw no data", "148 MB"],
         ["How good", "own columns 1", "The weights of", "preparing the own table", "ROC"]),
        (header("card"), ["credit-12345678"],
         ["How good", "The weights", "Rows and columns", "Time and traffic", "Why the job ended"]),
    ],
    ids=["partner", "shared weights", "helper", "little to say"],
)  # fmt: skip
def test_a_page_has_what_its_party_knows_and_no_more(data, there, absent):
    """Weights that stay shared are explained; a part that has nothing is left out, its title too."""
    page = render(data)
    text = Page(page).text.replace("\xa0", " ")
    assert [part for part in there if part not in text] == []
    assert [part for part in absent if part in text] == []
    assert 'class="chart"' not in page


@pytest.mark.parametrize("make", [of_label_party, of_partner, of_helper])
def test_the_page_of_a_blind_training_says_that_the_helper_sees_no_score(make):
    """And what data parties are told of scores instead; of the other mode it says what is seen."""
    blind, shown = (Page(render(make(helper_sees=sees))).text for sees in ("nothing", "scores"))
    assert "no score, not even under noise" in blind
    assert "sizes of the scores" not in blind
    assert "the root mean square of each epoch's scores" in blind
    assert "in every batch the sizes of the scores without sign, under noise" in shown
    assert "root mean square" not in shown


def test_the_page_of_a_prediction_says_whether_the_helper_sees_scores():
    """By a blind model, and where each party scores its own columns, it sees none."""
    blind, shown = (Page(render(of_prediction(helper_sees=sees))).text for sees in ("nothing", "scores"))
    assert "the helper: no score" in blind
    assert "the sizes of the scores without sign, under noise" in shown


def test_a_label_party_without_held_out_rows_reads_why_it_sees_no_metric():
    """One sentence; of rows that were held out, and not scored, there may be a loss."""
    some = {"losses": (0.7, 0.6), "epochs": 2}
    assert "No rows were held out" in Page(render(header(**some))).text
    assert "No held-out row was scored, so nothing" in Page(render(header(**some, held_out=50))).text
    assert "their mean loss alone, 0.6500" in Page(
        render(header(**some, held_out=50, held_out_losses=(0.8, 0.65)))
    ).text.replace("\n", " ")


@pytest.mark.parametrize(
    ("party", "field", "value"),
    [
        ("card", "metrics", {0: {"auc": 0.7}}),
        ("card", "curves", curves("logistic", *rows())),
        ("card", "alone", {"auc": 0.7}),
        ("card", "intercept", 0.0),
        ("card", "predictions", histogram(rows()[1])),
        ("card", "classes", ("a", "b", "c")),
        ("card", "predicted", {"a": 1}),
        ("card", "losses", (0.7, 0.6)),
        ("notary", "losses", (0.7, 0.6)),
        ("notary", "weights", {"delay": 0.1}),
        ("notary", "metrics", {0: {"auc": 0.7}}),
        ("notary", "table_rows", 5),
        ("notary", "preprocessing", ("clipped",)),
    ],
)
def test_what_a_role_cannot_know_is_refused(party, field, value):
    """A mistake of ours must not be written to a disk where it does not belong."""
    with pytest.raises(ValueError, match=f"report of {party} has {field}"):
        header(party, **{field: value})


@pytest.mark.parametrize("field", ["weights", "intercept"])
def test_weights_of_a_model_that_stays_shared_are_refused(field):
    """Nobody can have them."""
    with pytest.raises(ValueError, match=field):
        header(release="shared", **{field: {"limit": 0.1} if field == "weights" else 0.5})


def test_a_loss_that_everybody_was_told_is_on_a_partner_s_page():
    """And the page of the label party does not call it its own."""
    assert "Loss by epoch" in Page(render(of_partner(losses=(0.7, 0.6), loss_to="all"))).text
    assert "the training loss," not in Page(render(of_label_party(loss_to="all", curves=None))).text
    assert "the training loss," in Page(render(of_label_party(curves=None))).text


def test_the_held_out_loss_is_drawn_beside_the_training_loss_or_by_itself():
    """And named among what the page's party should keep to itself, and what each could learn."""
    both = Page(render(header(losses=(0.7, 0.6, 0.5), held_out_losses=(0.8, 0.7, 0.75), best_epoch=1, epochs=9,
                              opened_losses=("training", "held-out"), loss_to="label"))).text  # fmt: skip
    assert "The training loss fell from 0.700 to 0.500" in both
    assert "held out 0.75" in both
    assert "the loss of the held-out rows" in both
    assert "the mean training and held-out loss of each epoch" in both
    alone_ = Page(render(header(held_out_losses=(0.8, 0.7), opened_losses=("held-out",), loss_to="label"))).text
    assert "The loss of the held-out rows fell from 0.800 to 0.700" in alone_
    assert "the mean held-out loss of each epoch" in alone_
    with pytest.raises(ValueError, match="held_out_losses"):
        of_partner(held_out_losses=(0.8, 0.7), loss_to="label")


def test_everything_from_outside_is_text():
    """Names, warnings, reasons, kinds and stages."""
    data = of_label_party(
        job=EVIL,
        label_party=EVIL,
        party=EVIL,
        helper=EVIL + "h",
        data_parties=(EVIL, "card"),
        columns={EVIL: 3},
        state=EVIL,
        version=EVIL,
        failure=EVIL,
        detail=EVIL,
        weights={EVIL: 0.5, **{f"{EVIL}{i}": 0.1 for i in range(30)}},
        preprocessing=(EVIL,),
        planning=(EVIL,),
        notes=(EVIL,),
        stage_seconds={EVIL: 1.0},
        round_seconds={EVIL: 1.0},
        sent_bytes={EVIL: 10},
        sent_messages={EVIL: 1},
    )
    page = render(data)
    assert "<script" not in page
    assert "script" not in Page(page).tags
    assert Page(page).text.count("{{ 7 * 7 }}") == Page(page).text.count(" ".join(EVIL.split()))
    assert Page(page).text.count(" ".join(EVIL.split())) > 40


@settings(max_examples=3, deadline=None)  # a page takes a tenth of a second
@given(names=st.lists(st.text(min_size=1, max_size=30), min_size=4, max_size=20, unique=True))
def test_any_column_name_comes_back_as_it_was(names):
    """As far as a page can hold it: white space is one space, and what nobody sees is an escape."""
    text = " ".join("".join(Page(render(header("card", weights=dict.fromkeys(names, 1.0)))).texts).split())
    assert all(" ".join(escape_invisible(name, keep="\n").split()) in text for name in names)


def test_no_name_reorders_or_hides_what_stands_beside_it():
    """Columns, classes, categories, warnings and reasons of whoever gave them; one escape for each such sign."""
    name = "limit\u202e9.0- \u2066\u200b\u061c\u200fok\u2069\x00\x1b[2J\ufeff"
    names = dict.fromkeys([name, *(f"{name}{place}" for place in range(30))], 0.5)
    data = of_label_party(
        weights=names, state=name, failure=name, detail=name, preprocessing=(name,), planning=(name,), notes=(name,)
    )
    pages = [render(data), render(of_prediction(predicted={name: 3}, classes=(name,)))]
    for page in pages:
        assert escape_invisible(page, keep="\n") == page
        assert escape_invisible(name) in Page(page).text
    assert escape_invisible(pages[0].replace(escape_invisible(name), "")).count("\\u202e") == 0


def test_many_weights_are_all_there_and_the_page_stays_small():
    """The largest as bars, all of them in a table."""
    weights = {f"a_column_with_a_long_name_{i}": (-1) ** i / (i + 1) for i in range(1000)}
    page = render(of_label_party(weights=weights))
    assert len(page.encode()) < 500_000
    text = Page(page).text
    assert "The 20 largest of 1,000." in text
    assert all(text.count(f"{name} ") == (2 if i < 20 else 1) for i, name in enumerate(weights))
    assert "+1.0000" in text


def test_a_long_training_gives_a_small_page():
    """More epochs than can be seen are thinned."""
    losses = tuple(np.random.default_rng(1).random(20_000).tolist())
    assert len(render(header(losses=losses)).encode()) < 60_000


def test_a_bar_is_as_long_as_its_weight_says():
    """To the left of the middle where it is negative."""
    page = render(header("card", weights={"up": 0.5, "down": -1.0}))
    bars = re.findall(r'<rect x="([\d.]+)" width="([\d.]+)"', page)
    assert bars == [("0.00", "50.00"), ("50.00", "25.00")]


@pytest.mark.parametrize(
    ("model", "labels", "scores"),
    [
        ("logistic", [0.5], [0.0]),
        ("linear", [0.5], [0.0]),
        ("linear", [0.5, -0.5], [0.0, 0.0]),
        ("logistic", [0.5, -0.5], [800.0, -800.0]),
        ("logistic", [-0.5, -0.5, -0.5], [-800.0, -900.0, -850.0]),
        ("linear", [0.5, -0.5] * 20, [1e-9, -1e-9] * 20),
    ],
)
def test_strange_held_out_rows_still_make_a_page(model, labels, scores):
    """And no warning."""
    labels, scores = np.array(labels), np.array(scores)
    found = metrics(model, labels, scores)
    page = render(header(model=model, metrics={0: found, 1: found}, curves=curves(model, labels, scores)))
    Page(page)
    assert page.count('class="chart"') >= 1


def test_a_training_whose_loss_never_moves_still_makes_a_page():
    """And one of a single epoch has no line to draw."""
    assert "The training loss stayed" in Page(render(header(losses=(0.5, 0.5)))).text
    assert 'class="chart"' not in render(header(losses=(0.5,)))


def chosen(classes, count=300):
    """Numbers of classes, and scores that go with them."""
    random = np.random.default_rng(5)
    labels = random.integers(0, classes, count)
    return labels.astype(float), random.normal(size=(count, classes)) + 2 * np.eye(classes)[labels]


def test_many_classes_have_figures_and_no_matrix():
    """Which nobody could read; and the page stays small."""
    names = tuple(f"kind of thing {number}" for number in range(200))
    found = metrics("softmax", *chosen(3))  # whose names are those of more classes, too
    page = render(header(model="softmax", curves=curves("softmax", *chosen(200, 400)), metrics={0: found},
                         classes=names))  # fmt: skip
    text = Page(page).text
    assert all(f"{name} " in text for name in names)
    assert "is / is taken for" not in text
    assert len(page.encode()) < 200_000
    few = render(header(model="softmax", curves=curves("softmax", *chosen(3)), classes=names[:3]))
    assert "is / is taken for" in Page(few).text


def test_a_class_without_rows_or_that_is_never_predicted_has_no_share():
    """Rather than one of nothing."""
    labels, scores = np.array([0.0, 0.0, 1.0]), np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0]])
    text = Page(render(header(model="softmax", curves=curves("softmax", labels, scores), classes=("a", "b", "c")))).text
    assert "a 2 100.0 % 66.7 % b 1 0.0 % c 0" in text.replace("\xa0", " ")


def test_names_of_classes_are_text():
    """Whatever a label holds."""
    names = (EVIL, "b", "c")
    page = render(of_prediction(model="softmax", classes=names, predicted=dict.fromkeys(names, 3)))
    assert "script" not in Page(page).tags
    assert " ".join(EVIL.split()) in Page(page).text


LAYERS = Network(hidden=(64, 32), activation="relu", output="softmax")


@pytest.mark.parametrize(
    ("model", "network", "words"),
    [
        ("poisson", None, "A poisson regression over"),
        ("mlp", LAYERS, "A neural network of 64 and 32 hidden ReLU units with a"),
    ],
)
def test_a_model_is_named_by_its_kind(model, network, words):
    """And what the helper sees follows from its layers and its link."""
    text = Page(render(header("notary", model=model, network=network))).text
    assert words in text
    assert ("each hidden layer, mixed" in text) == (network is not None)
    assert ("rows of scores, whose classes" in text) == (network is not None)


@pytest.mark.parametrize(
    ("alignment", "scored", "loss_to", "said", "unsaid"),
    [
        ("helper", "", "", "under pseudonyms", "the mean training loss"),
        ("ecdh", "end", "label", "how many ids the other has", "under pseudonyms"),
        ("aligned", "epoch", "all", "after each epoch", "which of their own rows"),
    ],
)
def test_the_end_of_the_page_says_what_each_could_learn(alignment, scored, loss_to, said, unsaid):
    """From what the job allows."""
    text = Page(render(header("card", alignment=alignment, scored=scored, loss_to=loss_to))).text
    assert said in text
    assert unsaid not in text
    assert ("the scores of held-out rows" in text) == bool(scored)
    assert text.count("the mean training loss of each epoch") == {"": 0, "label": 1, "all": 3}[loss_to]


def test_time_is_told_in_one_zone():
    """Whatever zone the agent's clock has."""
    there = WHEN.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert render(header(when=there)) == render(header())
    assert "2025-03-14 16:05 UTC" in render(header())


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(0.7594), "0.759"),
        (number(-0.0571), f"{MINUS}0.057"),
        (number(1234.5), "1,234"),
        (number(12.34), "12.3"),
        (number(0.0), "0.000"),
        (number(0.00123), "0.0012"),
        (signed(0.0571), "+0.057"),
        (weight(-0.12345), f"{MINUS}0.1235"),
        (weight(0.000012), f"+1.2e{MINUS}05"),
        (seconds(0.0004), "0.4 ms"),
        (seconds(0.42), "420 ms"),
        (seconds(0.9999), "1.0 s"),
        (seconds(3.21), "3.2 s"),
        (seconds(59.99), "1 min 0 s"),
        (seconds(125), "2 min 5 s"),
        (seconds(3720), "1 h 2 min"),
        (size(0), "0 B"),
        (size(512), "512 B"),
        (size(1234), "1.2 kB"),
        (size(148_200_000), "148 MB"),
        (size(999_999), "1.0 MB"),
        (listed(["a"]), "a"),
        (listed(["a", "b"]), "a and b"),
        (listed(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_are_written_for_people(shown, expected):
    """With a space that does not break before a unit."""
    assert shown.replace("\xa0", " ") == expected


def test_a_job_with_folds_shows_each_of_them_their_mean_and_deviation() -> None:
    """And says that the model itself was judged by no rows; nobody else has such figures."""
    folds = ({"auc": 0.7, "ks": 0.31}, {"auc": 0.8, "ks": 0.37})
    found = {"folds": folds, "means": {"auc": 0.75, "ks": 0.34}, "deviations": {"auc": 0.071, "ks": 0.042}}
    page = render(header(**common(), **found))
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page[page.index("fold 1") - 4 :])
    assert cells[:6] == ["fold 1", "0.700", "0.310", "fold 2", "0.800", "0.370"]
    assert cells[6:12] == ["mean", "0.750", "0.340", "standard deviation", "0.071", "0.042"]
    assert "trained without one fold" in page
    assert "nothing is known" not in page
    with pytest.raises(ValueError, match="cannot know"):
        header(party="card", **common(), **found)
