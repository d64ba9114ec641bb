"""What a statistics job tells is listed and counted before it is told; of a small bin nobody is told anything."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from tercet.agents.policy.audit_log import entries
from tercet.agents.policy.disclosures import revelations
from tercet.agents.statistics.data_party import Counting
from tercet.mpc.arithmetic.ring import Words, to_signed
from tercet.schemas.files.statistics import Measures
from tercet.schemas.messages.kinds import (
    BinCounts,
    CellGroups,
    CellMarks,
    CellOpening,
    Cells,
    CellSums,
    CellTables,
    ColumnNames,
    CorrelationShare,
    DealtSums,
    GateOpening,
    Inflation,
    LabelUnit,
    MaskedBins,
    MaskedNumbers,
    MaskedTargets,
    Message,
    Progress,
)
from tests.agents.statistics.world import CONSENTS, LEAST, Finished, finish_job, people, settings_of, statistics_job
from tests.agents.world import HELPER, OUTCOME, PERSON

Kinds = set[type[Message]]
Ways = dict[type[Message], set[tuple[str, str]]]
LEAST_P = 1e-6
MASKED: Kinds = {MaskedBins, MaskedTargets, MaskedNumbers, DealtSums, CellTables, CellOpening}
ALWAYS: Ways = {  # in every job of two classes: what is said to whom
    BinCounts: {("label", "other"), ("other", "label"), ("other", "other"), ("label", "helper"), ("other", "helper")},
    MaskedBins: {("other", "label")},
    MaskedTargets: {("label", "other")},
    DealtSums: {("helper", "label")},
    CellTables: {("helper", "other")},
    CellOpening: {("label", "other"), ("other", "label")},
    GateOpening: {("label", "other"), ("other", "label")},
    CellMarks: {("label", "other")},
    CellGroups: {("other", "label")},
    Cells: {("other", "label")},
    ColumnNames: {("other", "label")},
}
DATA = {("label", "other"), ("other", "label"), ("other", "other")}
WOE: Ways = {CellSums: {("label", "other")}}
MAP: Ways = {
    MaskedNumbers: DATA,
    DealtSums: {("helper", "label"), ("helper", "other")},
    CorrelationShare: {("other", "label")},
    Inflation: {("label", "other")},
}
SENTENCES: Mapping[type[Message], str] = {  # by which `tercet job show` lists what is told by a kind
    BinCounts: "how many bins each column of each party has",
    CellMarks: "which of its own bins have fewer than 20",
    CellGroups: "how many bins of each partner's column are too small",
    Cells: "rows and label of each partner's bins",
    ColumnNames: "names of partners' columns",
    CellSums: "label by bin of its own columns",
    LabelUnit: "the label's unit",
    CorrelationShare: "correlations of",
    Inflation: "VIF of its own numeric columns",
}
JOBS: dict[str, tuple[int, Measures, Ways]] = {
    "iv": (2, Measures(), ALWAYS),
    "all": (3, Measures(woe=True, correlations="label"), ALWAYS | WOE | MAP),
}


@pytest.fixture(scope="module", params=JOBS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A job that tells as little as can be, and one that tells all."""
    parties, measures, _ = JOBS[request.param]
    job, folder = statistics_job(parties, statistics=measures), tmp_path_factory.mktemp(request.param)
    policy = CONSENTS if request.param == "all" else CONSENTS.model_copy(update={"column_names": False})
    found = finish_job(job, folder, people(parties), settings_of(job, folder, policy=policy))
    assert found.simulation.done, found.simulation.label_run.failure
    return found


def expected(finished: Finished) -> Ways:
    """What is said to whom in such a job."""
    kinds = next(kinds for _, measures, kinds in JOBS.values() if measures == finished.job.statistics)
    pairs = {kind: set(who) for kind, who in kinds.items()}
    if len(finished.job.data_parties) == 2:
        pairs = {kind: who - {("other", "other")} for kind, who in pairs.items()}
    return pairs


def by_kind(finished: Finished, kinds: Iterable[type[Message]]) -> dict[type[Message], set[tuple[str, str]]]:
    """Who said these kinds to whom."""
    roles = defaultdict(lambda: "other", {finished.job.label: "label", HELPER: "helper"})
    found: dict[type[Message], set[tuple[str, str]]] = defaultdict(set)
    for address, message in finished.ear.said:
        if type(message) in kinds:
            found[type(message)].add((roles[address.sender], roles[address.receiver]))
    return found


def words_of(finished: Finished, kind: type[Message], sender: str, receiver: str) -> list[Words]:
    """The tensors of a kind between two parties."""
    return [
        message.words  # type: ignore[attr-defined]
        for address, message in finished.ear.said
        if (type(message), address.sender, address.receiver) == (kind, sender, receiver)
    ]


def sides(finished: Finished) -> dict[str, Counting]:
    """What each data party counts by."""
    found = {party: finished.simulation.runs[party].reached for party in finished.job.data_parties}
    return {party: side for party, side in found.items() if isinstance(side, Counting)}


def test_each_kind_goes_to_those_that_are_listed(finished: Finished) -> None:
    assert by_kind(finished, {*ALWAYS, *WOE, *MAP, LabelUnit}) == expected(finished)


def test_the_helper_hears_sizes_and_nothing_of_the_counts(finished: Finished) -> None:
    heard = {type(message) for address, message in finished.ear.said if address.receiver == HELPER}
    tensors = {kind for kind in heard if "words" in kind.model_fields}
    assert tensors == set()
    assert heard & {*ALWAYS, *WOE, *MAP} == {BinCounts}


def test_what_is_masked_is_uniform(finished: Finished) -> None:
    """By hexadecimal digits of all words of a kind."""
    for kind in MASKED & {type(message) for _, message in finished.ear.said}:
        plan = sides(finished)[finished.job.label].context.plan
        tensors = [message.words for _, message in finished.ear.said if type(message) is kind]  # type: ignore[attr-defined]
        if kind is CellTables:  # behind the tables are bits, one to a word
            table = 2 * plan.table // 64
            tensors = [words[:, : words.size // (1 + table) * table] for words in tensors]
        data = np.concatenate([np.ascontiguousarray(words).reshape(-1).view(np.uint8) for words in tensors])
        bits = plan.word_bits
        if kind in {DealtSums, CellOpening} or (kind is MaskedTargets and bits == 32):
            data = data.reshape(-1, 8)[:, : bits // 8].reshape(-1)  # a smaller ring in words of 64 bits
        if kind is CellOpening:
            data = data.reshape(-1, bits // 8)[:, 0]  # modulo the rows' power of two
        counts = np.bincount(np.concatenate([data & 15, data >> 4]), minlength=16)
        statistic = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        assert chi2.sf(statistic, 15) > LEAST_P, (kind.__name__, counts)


def test_no_opened_cell_is_below_the_minimum_and_none_can_be_computed_from_others(finished: Finished) -> None:
    """What the label party and the owner hold of a column: sums of groups, which determine no small bin."""
    label, small = finished.job.label, 0
    y = sides(finished)[label].targets
    assert y is not None
    for party, side in sides(finished).items():
        if party == label:
            continue
        (groups,), (cells,) = (words_of(finished, kind, party, label) for kind in (CellGroups, Cells))
        assert len(cells) == int(groups.max())
        plan, numbers, order = side.context.plan, groups[:, 0].astype(int), side.party._order
        for place, column in enumerate(plan.columns(side.context.number(party))):
            bins, mine = order.cells[column], side.columns.indexes[:, place]
            counts = [(int(((mine == b) & (y.labels == c)).sum())) for b in range(len(bins)) for c in (0, 1)]
            fails = [b for b in range(len(bins)) if min(counts[2 * b : 2 * b + 2]) < LEAST]
            opened = [numbers[cell] for cell in bins]
            combined = np.array([[number == each for number in opened] for each in {*opened} - {0}], np.float64)
            known = np.vstack([combined.reshape(-1, len(bins)), np.ones(len(bins))])  # and all rows together
            for b in fails:
                small += 1
                assert in_span(known, np.eye(len(bins))[b]) == (len(bins) == 1)
        rows = to_signed(cells[:, 0])
        assert (rows >= 2 * LEAST).all()
    assert small > 1, "no bin was small"


def in_span(known: np.ndarray, wanted: np.ndarray) -> bool:
    """Tell whether one follows from the others."""
    return bool(np.linalg.matrix_rank(np.vstack([known, wanted])) == np.linalg.matrix_rank(known))


def test_results_hold_no_small_cell_of_the_label(finished: Finished) -> None:
    for party in finished.job.data_parties:
        result = finished.result(party)
        cells = [zip(one.rows, one.sums or (), strict=False) for one in result.own]
        cells += [zip(one.rows, one.sums, strict=True) for one in result.partners]
        assert all(min(cell[0], rows - cell[0]) >= LEAST for column in cells for rows, cell in column)


def test_each_thing_that_is_told_is_listed_word_for_word(finished: Finished) -> None:
    said = {type(message) for _, message in finished.ear.said} & SENTENCES.keys()
    sentences = [one.what for one in revelations(finished.job)]
    for kind in said:
        assert any(what.startswith(SENTENCES[kind]) for what in sentences), kind.__name__
    if finished.job.statistics == Measures():
        assert not any("WOE" in what or "correlation" in what or "VIF" in what for what in sentences)


def test_each_party_has_counted_and_logged_before_anything_is_opened(tmp_path: Path) -> None:
    """At the first opening the line is in the log, and the job in the budget."""
    job, seen = statistics_job(), list[str]()
    folder = tmp_path

    def look(sender: str) -> None:
        lines = [one for one in entries((folder / sender / "audit.log").read_bytes()) if one.event == "revealing"]
        (release,) = [one for one in lines if one.fields["stage"] == "release"]
        assert release.fields["counts"] == {"statistics": 1}
        assert any("IV, KS and Gini" in one["what"] for one in release.fields["revelations"])
        assert '"statistics":1' in (folder / sender / "exposure.jsonl").read_text().replace(" ", "")
        seen.append(sender)

    finish_job(job, folder, people(2), on_said={CellOpening: look, CellGroups: look, Cells: look})
    assert {*seen} == {"bank", "card"}


def test_names_stay_where_the_settings_keep_them(finished: Finished) -> None:
    """No message has a column's name or a level in it, but for the names that may be told."""
    words = {name for party in ("card",) for name in finished.tables[party] if name not in {PERSON, OUTCOME}}
    words |= {"tenant", "lodger", "caravan"}
    where = {
        (type(message), word)
        for _, message in finished.ear.said
        if not isinstance(message, Progress)
        for word in words
        if word in repr(message.model_dump())
    }
    names = {(ColumnNames, word) for word in words if word.startswith("card")}
    assert where == (names if finished.job.statistics != Measures() else set())


ORDERED = "secret order, 20 or more of a class"
SAYINGS = [
    (Measures(), "bank", f"rows and label of each partner's bins (protection: {ORDERED})"),
    (Measures(least=50), "card", "which of its own bins have fewer than 50 of a class"),
    (
        Measures(woe=True),
        "card",
        "label by bin of its own columns (protection: 20 or more of a class)",
    ),
    (
        Measures(correlations="pairs"),
        "bank and card",
        "correlations of its own numeric columns with each other party's",
    ),
]


@pytest.mark.parametrize(("measures", "who", "what"), SAYINGS)
def test_the_sentences_that_a_person_approves(measures: Measures, who: str, what: str) -> None:
    assert (who, what) in [(one.party, one.what) for one in revelations(statistics_job(2, statistics=measures))]
