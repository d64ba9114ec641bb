"""`tercet job show`, `approve` and `refuse`, and `tercet audit`, as an operator types them, over a real RabbitMQ."""

import json
from collections.abc import Iterator

import pytest

from tercet.agents.core.states import APPROVAL
from tests.daemons.test_over_rabbitmq import DEADLINES, job_file, reported, submit, wait_until, write_tables
from tests.deployment import Deployment

ASKING = DEADLINES.replace("[policy]", "[policy]\napproval = true")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, amqp_url: str) -> Iterator[Deployment]:
    """Three agents that ask their operators."""
    folder = tmp_path_factory.mktemp("asking")
    with Deployment(folder, amqp_url, write_tables(folder), "notary", extra=ASKING) as three:
        three.start()
        three.wait_until_up()
        yield three


def until_asked(deployment: Deployment, job: str, party: str) -> None:
    """Return when a party's operator is asked."""

    def is_asked() -> bool:
        asked = deployment.asked("job", "status", job, "--format", "json", party=party)
        return asked.returncode == 0 and json.loads(asked.stdout)["approval"] == APPROVAL

    wait_until(is_asked)


def test_a_job_runs_when_each_operator_has_approved(deployment: Deployment) -> None:
    """Each is shown what the job tells whom; the audit logs tell who said yes, and are whole while agents run."""
    job = submit(deployment, job_file(deployment, "asking"))
    for party in ("card", "notary"):
        until_asked(deployment, job, party)
        shown = reported(deployment.asked("job", "show", job, "--format", "json", party=party))["reveals"]
        assert any("purpose: none given" in line for line in shown)
        answer = reported(deployment.asked("job", "approve", job, "--yes", "--format", "json", party=party))
        assert answer["approval"] not in {"", APPROVAL}
    reported(deployment.asked("job", "watch", job, "--format", "json"))
    verified = deployment.asked("audit", "verify", party="card")
    assert (verified.returncode, "OK, " in verified.stdout) == (0, True)
    assert "approved" in deployment.asked("audit", "show", job, party="card").stdout


def test_a_refusal_is_told_to_the_submitter(deployment: Deployment) -> None:
    """With its reason."""
    job = submit(deployment, job_file(deployment, "refused"))
    until_asked(deployment, job, "card")
    reported(deployment.asked("job", "refuse", job, "--why", "not yet", "--format", "json", party="card"))
    failure = reported(deployment.asked("job", "watch", job, "--format", "json"), code=1)["failure"]
    assert (failure["code"], failure["culprit"]) == ("policy.refused", "card")
    assert "not yet" in failure["reason"]
    again = deployment.asked("job", "approve", job, "--yes", party="card")
    assert (again.returncode, "refused already" in " ".join(again.stderr.split())) == (3, True)
