"""The chain of who waits for whom, over all small situations that Hypothesis thinks of."""

from hypothesis import given
from hypothesis import strategies as st

from tercet.agents.core.problems import BROKER
from tercet.agents.machine.blame import Report, blame_for_deadline, culprits

ORDER = ("bank", "card", "telco", "notary")
names = st.sampled_from(ORDER)
reports = st.dictionaries(
    names, st.builds(Report, st.just("training"), st.lists(names, max_size=3, unique=True).map(tuple)), max_size=4
)


def waiting(*parties: str) -> Report:
    """A party that waits for these."""
    return Report("training", parties)


def test_the_one_who_hangs_is_named_and_not_the_one_who_waits_for_it() -> None:
    """The bank waits for the helper, the helper for the card processor, which says nothing."""
    known = {"bank": waiting("notary"), "notary": waiting("card")}
    problem = blame_for_deadline(known, "bank", "step", ORDER)
    assert (problem.code, problem.culprit) == ("party.silent", "card")
    assert "bank waits for notary (training), notary waits for card (training)" in problem.reason
    assert "'step'" in problem.reason


def test_a_party_that_speaks_and_waits_for_nobody_is_busy() -> None:
    """It computes, or hangs in its own affairs."""
    known = {"bank": waiting("notary"), "notary": waiting("card"), "card": waiting()}
    problem = blame_for_deadline(known, "bank", "step", ORDER)
    assert (problem.code, problem.culprit) == ("party.busy", "card")


def test_parties_that_wait_for_one_another_have_lost_a_message() -> None:
    """All speak, and all wait."""
    known = {"bank": waiting("notary"), "notary": waiting("card"), "card": waiting("bank")}
    problem = blame_for_deadline(known, "bank", "step", ORDER)
    assert (problem.code, problem.culprit) == ("transport.lost", BROKER)


def test_silence_weighs_more_than_work() -> None:
    """A busy party may well be busy because of the silent one."""
    known = {"bank": waiting("card", "notary"), "card": waiting()}
    assert blame_for_deadline(known, "bank", "step", ORDER).culprit == "notary"


def test_at_the_first_contact_the_reason_speaks_of_keys() -> None:
    """Who does not have our key cannot read what we say."""
    assert "key" in blame_for_deadline({"bank": waiting("card")}, "bank", "accept", ORDER).reason
    assert "key" not in blame_for_deadline({"bank": waiting("card")}, "bank", "step", ORDER).reason


@given(reports, names)
def test_the_culprit_is_at_the_end_of_a_chain_that_begins_with_the_complaint(
    known: dict[str, Report], start: str
) -> None:
    """Everybody named is reached from the start, and waits for nobody as far as is known."""
    culprits_found = culprits(known, start)
    reached, new = set(), {start}
    while new:
        reached |= new
        new = {other for party in new if party in known for other in known[party].waits_for} - reached
    assert set(culprits_found) <= reached
    assert all(party not in known or not known[party].waits_for for party in culprits_found)


@given(reports, names)
def test_who_waits_is_never_named(known: dict[str, Report], start: str) -> None:
    """Unless for nobody, or it is silent itself."""
    name = blame_for_deadline(known, start, "step", ORDER).culprit
    assert name == BROKER or name not in known or known[name].waits_for == ()


@given(reports, names)
def test_the_broker_is_named_only_when_everybody_reached_waits(known: dict[str, Report], start: str) -> None:
    """That is, in a circle."""
    blamed = blame_for_deadline(known, start, "step", ORDER).culprit == BROKER
    assert blamed == (culprits(known, start) == [])


@given(reports, names, st.randoms())
def test_the_verdict_does_not_depend_on_the_order_in_which_reports_came(
    known: dict[str, Report], start: str, shuffled: object
) -> None:
    """Parties that hold the same reports come to the same verdict."""
    items = list(known.items())
    shuffled.shuffle(items)  # type: ignore[attr-defined]
    assert blame_for_deadline(dict(items), start, "step", ORDER) == blame_for_deadline(known, start, "step", ORDER)


@given(reports, names)
def test_the_reason_fits_into_a_failure(known: dict[str, Report], start: str) -> None:
    """Whatever the chain, it can be told."""
    failure = blame_for_deadline(known, start, "step", ORDER).failure("training", verdict=True)
    assert failure.reason
    assert failure.culprit in {*ORDER, BROKER}
