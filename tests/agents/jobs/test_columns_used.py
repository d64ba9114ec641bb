"""What a console is told of the columns that a job uses, and of what follows from them for whom."""

from pathlib import Path
from typing import Any

import pytest

from tercet.agents.jobs.approvals import summarize_revelations
from tercet.agents.jobs.columns_used import MOST_SHOWN, UsedColumns, column_sentences
from tercet.agents.policy.disclosures import revelations
from tercet.agents.policy.known_job import AppliedModel, JobFacts
from tercet.agents.simulation.simulate import Simulation
from tercet.schemas.files.job import Network
from tercet.schemas.messages.kinds import Job
from tests.agents.recording import prediction_of
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, job, make_table, party_settings, prediction, scene, three
from tests.agents.world import Sample, run

ALONE = {BANK: 0, CARD: 6}


def asked(description: Any) -> Job:
    """As it is announced."""
    return Job(id=description.id, run=bytes(32), description=description, members=(), submitter=CARD)


def learns(description: Any, known: JobFacts = JobFacts()) -> list[str]:  # noqa: B008 - it does not change
    """A sentence for each party and thing."""
    return list(map(str, revelations(description, known)))


# --- which columns


def test_own_columns_have_names_and_a_partners_only_a_number() -> None:
    """Of which each party says as much as it knows: nothing, how many, or which."""
    used = UsedColumns({BANK: ("age", "region")}, {BANK: 5, CARD: 12})
    assert list(column_sentences(job(), used)) == [
        "bank uses 2 columns: age, region; 5 when encoded (table customers)",
        "card uses columns that only it can name; 12 when encoded (table customers)",
    ]
    assert (
        list(column_sentences(job(), UsedColumns({}, {})))[1]
        == "card uses the columns that its own settings list (table customers)"
    )
    (bank, _) = column_sentences(job(), UsedColumns({BANK: ()}, ALONE))
    assert bank == "bank uses no column beside the label (table customers)"


def test_many_or_long_names_are_cut_to_a_sentence_that_can_be_said() -> None:
    """How many are left out is told; one is always there."""
    for names in (tuple(f"a column {n}" for n in range(5000)), ("x" * 256,) * 40):
        (said, _) = column_sentences(job(), UsedColumns({BANK: names}, {}))
        assert MOST_SHOWN < len(said) + 300 < 2000
        assert f"{len(names)} columns: {names[0]}, " in said
        assert said.endswith("more (table customers)")


async def test_a_console_reads_of_its_own_columns_before_a_job_and_after(tmp_path: Path) -> None:
    """A partner's names reach nobody, unless the job itself has them."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        description = job(columns=((BANK, ("bank-1", "bank-3")),))
        ended = await stage.run(description)
        assert {one.state for one in ended.values()} == {"done"}
        found = {}
        for party in (BANK, CARD, NOTARY):
            async with stage.console(party) as console:
                found[party] = "\n".join((await console.reveals(ended[BANK].job)).reveals)
    for text in found.values():
        assert "bank uses 2 columns: bank-1, bank-3" in text
    assert "card uses 6 columns: card-0, card-1, card-2, card-3, card-4, card-5; 6 when encoded" in found[CARD]
    assert "card uses columns that only it can name; 6 when encoded" in found[BANK]
    assert "card-1" not in found[BANK] + found[NOTARY]
    assert "card uses the columns that its own settings list" in found[NOTARY]


def test_before_a_table_is_read_its_owner_sees_what_settings_and_job_say(tmp_path: Path) -> None:
    """Which is what an operator decides by who is asked at once, of a database say."""
    settings = three(tmp_path, PATIENT)[CARD]
    table = settings.tables["customers"].model_copy(update={"columns": ("card-1", "card-2")})
    listed = settings.model_copy(update={"tables": {"customers": table}})
    assert "card uses 2 columns: card-1, card-2 (table customers)" in summarize_revelations(asked(job()), listed)
    assert "card uses the columns that its own settings list (table customers)" in summarize_revelations(
        asked(job()), settings
    )
    named = job(columns=((CARD, ("card-2",)),))
    assert "card uses 1 column: card-2 (table customers)" in summarize_revelations(asked(named), listed)


async def test_the_holder_of_a_whole_model_reads_everybodys_names(tmp_path: Path) -> None:
    """They went with it, by its partners' word; of a prediction by it, too."""
    sample = Sample((3, 2), label=1, release="label")
    done: Simulation = await run(sample, tmp_path)
    settings = sample.settings(tmp_path)
    for party, names_it in (("card", True), ("bank", False)):
        state = {"state": tmp_path / party}
        for one in (done.runs[party].job, asked(prediction_of(sample))):
            text = "\n".join(summarize_revelations(one, settings[party].model_copy(update=state)))
            assert ("bank_quantity_0" in text) == (names_it or party == "bank")
            assert ("card_quantity_0" in text) == (party == "card")
            assert "bank uses" in text


# --- what follows for whom


def test_several_parties_learn_and_one_learns() -> None:
    """By their names."""
    said = learns(job())
    assert any(line.startswith("bank, card and notary learn how many rows are in common") for line in said)
    assert "bank and card learn which of their own ids all of them have" in said
    assert "bank learns the weights of its own columns" in said
    assert "bank learns the intercept" in said
    assert "card learns the weights of its own columns" in said


@pytest.mark.parametrize(
    ("model", "helpers", "equations"),
    [
        (AppliedModel("logistic", "owners", hidden=False), 0, 0),
        (AppliedModel("logistic", "shared", hidden=False), 1, 0),
        (AppliedModel("gamma", "label", hidden=False), 1, 1),
        (AppliedModel("softmax", "owners", hidden=True), 4, 0),
    ],
)
def test_of_a_prediction_the_one_sentence_is_said_that_holds_for_its_model(model, helpers, equations) -> None:
    """The helper sees nothing of a score where each party scores its own columns."""
    before = len([line for line in learns(prediction("credit-1")) if line.startswith(NOTARY)])
    said = learns(prediction("credit-1"), JobFacts(model=model))
    assert not any("unless" in line or 'with release = "label"' in line for line in said)
    assert len([line for line in said if line.startswith(NOTARY)]) == before - 1 + helpers
    (scores,) = (line for line in said if "the score of each row" in line)
    assert scores.endswith("(protection: noise of each partner's own)")
    assert len([line for line in said if "by each score an equation" in line]) == equations
    assert not any("logarithm" in line for line in said)


@pytest.mark.parametrize("exposed", [None, "", "records have only 4 bits"])
def test_what_narrow_columns_expose_is_said_of_this_job_once_that_is_known(exposed) -> None:
    """Before, on which condition; then why, or nothing at all."""
    said = [line for line in learns(job(accept_narrow=True), JobFacts(exposed=exposed)) if "columns themselves" in line]
    assert len(said) == (exposed != "")
    assert all((exposed or "where records are of few kinds") in line for line in said)


def test_a_label_party_without_columns_reads_who_can_do_without_it() -> None:
    """One partner alone or all together hold every weight; not of a network, nor where weights stay shared."""
    known = JobFacts(columns=ALONE)
    said = learns(job(), known)
    assert "bank learns the intercept" in said
    assert "bank learns the weights of its own columns" not in said
    assert "card learns all weights there are" in said
    assert "card learns from all weights how to rank customers without bank" in said
    network = {"model": "mlp", "network": Network(hidden=(4,))}
    for other in (job(release="shared"), job(release="label"), job(**network)):
        assert not any("without bank" in line for line in learns(other, known))


async def test_a_label_party_that_holds_labels_alone_is_told_what_follows(tmp_path: Path) -> None:
    """In the status of every party, on the page, and by `tercet job show`."""
    settings = three(tmp_path, PATIENT)
    make_table(tmp_path / f"{BANK}.csv", seed=1, columns=0, label=True)
    settings |= {party: party_settings(tmp_path, party, PATIENT, report=True) for party in (BANK, CARD)}
    async with scene(settings, tmp_path) as stage:
        ended = await stage.run(job())
        assert {one.state for one in ended.values()} == {"done"}
        for party in (BANK, CARD, NOTARY):
            assert any('release = "owners" gives card all weights' in text for text in ended[party].warnings)
        async with stage.console(BANK) as console:
            shown = (await console.reveals(ended[BANK].job)).reveals
    assert "bank uses no column beside the label (table customers)" in shown
    page = (tmp_path / BANK / "reports" / f"{ended[BANK].job}.html").read_text()
    assert "over the columns of card and the label of bank, which they do not show one another" in page
    assert "bank has no columns of its own. The intercept is" in page
    other = (tmp_path / CARD / "reports" / f"{ended[BANK].job}.html").read_text()
    assert "those of all partners are all that there are, and rank customers without bank" in other
