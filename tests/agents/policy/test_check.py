"""Who takes part in what: each refusal names whoever can mend it, and says how."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tercet.agents.core.problems import JobProblem
from tercet.agents.policy.check import check_policy
from tercet.broker.sealing.identity import Identity
from tercet.schemas.files.job import AnyJob
from tercet.schemas.files.settings import Partner, Settings
from tercet.schemas.messages.kinds import Job, Member
from tests.agents.scenes import BANK, CARD, NOTARY, job, party_settings, prediction

KEYS = {party: Identity.generate() for party in (BANK, CARD, NOTARY)}


def announced(submitter: str = BANK, **changes: Any) -> Job:
    """A job as its submitter's agent announces it."""
    return announcing(job(**changes), submitter)


def announcing(description: AnyJob, submitter: str = BANK) -> Job:
    """The same for any description."""
    members = tuple(
        Member(name=p, role="helper" if p == description.helper else "data", key=str(KEYS[p].public))
        for p in description.parties
    )
    return Job(id=description.id, run=bytes(32), description=description, members=members, submitter=submitter)


def settings_of(party: str, **changes: Any) -> Settings:
    """A party that knows the two others."""
    partners = {other: Partner(key=str(key.public), may_submit=True) for other, key in KEYS.items() if other != party}
    return party_settings(Path("nowhere"), party, partners=partners, **changes)


def refusal(announcement: Job, settings: Settings) -> JobProblem:
    """Why a party does not take part."""
    with pytest.raises(JobProblem) as caught:
        check_policy(announcement, settings, KEYS[settings.party])
    return caught.value


@pytest.mark.parametrize("party", [BANK, CARD, NOTARY])
@pytest.mark.parametrize("submitter", [BANK, CARD, NOTARY])
def test_a_job_that_fits_is_accepted_by_every_party(party: str, submitter: str) -> None:
    """Whoever submits it."""
    check_policy(announced(submitter), settings_of(party), KEYS[party])


def may_not_submit(settings: Settings) -> Settings:
    """The bank is a partner, but its jobs are not taken."""
    bank = settings.partners[BANK].model_copy(update={"may_submit": False})
    return settings.model_copy(update={"partners": settings.partners | {BANK: bank}})


def without_notary(settings: Settings) -> Settings:
    """The notary's key is not listed."""
    return settings.model_copy(update={"partners": {BANK: settings.partners[BANK]}})


def other_notary(settings: Settings) -> Settings:
    """Another key is listed for the notary."""
    other = Partner(key=str(Identity.generate().public))
    return settings.model_copy(update={"partners": settings.partners | {NOTARY: other}})


@pytest.mark.parametrize(
    ("spoil", "code", "culprit", "words"),
    [
        (may_not_submit, "policy.submitter", BANK, "may_submit"),
        (without_notary, "policy.partner", CARD, "[partners.notary]"),
        (other_notary, "policy.key", BANK, "keygen"),
        (lambda s: s.model_copy(update={"tables": {}}), "policy.table", CARD, "'customers'"),
        (lambda s: s.model_copy(update={"role": "helper"}), "policy.role", BANK, "role"),
    ],
)
def test_a_refusal_names_the_culprit_and_the_setting(
    spoil: Callable[[Settings], Settings], code: str, culprit: str, words: str
) -> None:
    """The code is for scripts, the sentence for people."""
    problem = refusal(announced(), spoil(settings_of(CARD)))
    assert (problem.code, problem.culprit) == (code, culprit)
    assert words in problem.reason
    problem.failure("received", verdict=False)  # so it can be told


def test_a_label_party_needs_a_label() -> None:
    """The card processor's table has none."""
    problem = refusal(announced(label=CARD), settings_of(CARD))
    assert (problem.code, problem.culprit) == ("policy.label", CARD)


@pytest.mark.parametrize("party", [BANK, CARD, NOTARY])
def test_a_prediction_needs_no_label_anywhere(party: str) -> None:
    """Its table has rows of which nobody knows the outcome yet."""
    announcement = announcing(prediction("credit-01234567"))
    settings = settings_of(party)
    tables = {name: table.model_copy(update={"label": None}) for name, table in settings.tables.items()}
    check_policy(announcement, settings.model_copy(update={"tables": tables}), KEYS[party])


def test_a_prediction_is_refused_for_the_same_reasons_as_a_training() -> None:
    """Who may submit, and which tables there are."""
    announcement = announcing(prediction("credit-01234567"))
    assert refusal(announcement, may_not_submit(settings_of(CARD))).code == "policy.submitter"
    assert refusal(announcement, settings_of(CARD).model_copy(update={"tables": {}})).code == "policy.table"


@pytest.mark.parametrize(
    "members",
    [
        lambda members: members[:2],
        lambda members: (*members, members[0]),
        lambda members: (members[0].model_copy(update={"role": "helper"}), *members[1:]),
    ],
)
def test_members_must_be_the_jobs_parties_each_once_in_its_role(members: Callable[..., tuple[Member, ...]]) -> None:
    """The keys that the parties sign for come from this list."""
    honest = announced()
    problem = refusal(honest.model_copy(update={"members": members(honest.members)}), settings_of(CARD))
    assert (problem.code, problem.culprit) == ("job.members", BANK)


def test_a_key_in_the_job_that_is_not_the_partys_own_is_refused_by_that_party() -> None:
    """It would not be able to sign with it."""
    honest = announced()
    forged = tuple(
        m.model_copy(update={"key": str(Identity.generate().public)}) if m.name == CARD else m for m in honest.members
    )
    assert refusal(honest.model_copy(update={"members": forged}), settings_of(CARD)).code == "policy.key"
