"""Whole jobs between daemons that have no more rights at the broker than the generated definitions give them."""

import json
from collections.abc import Iterator

import pytest

from broker import topology
from tests.daemons.test_over_rabbitmq import DEADLINES, job_file, prediction_file, submit, told, until, write_tables
from tests.deployment import Deployment
from tests.guarded import Guarded

PARTIES = ("bank", "card", "notary")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, guarded: Guarded) -> Iterator[Deployment]:
    """Three agents, each with a login of its own."""
    folder = tmp_path_factory.mktemp("least-rights")
    logins = {p: f'url = "{guarded.bare_url}"\ncredentials = "{guarded.credentials(p)}"' for p in PARTIES}
    with Deployment(
        folder, guarded.url("bank"), write_tables(folder), "notary", extra=DEADLINES, logins=logins
    ) as three:
        three.start()
        three.wait_until_up()
        yield three


def queues(guarded: Guarded) -> dict[str, str]:
    """What is there, and which policy holds for it."""
    lines = guarded.control("list_queues", "name", "policy", "--no-table-headers").splitlines()
    return dict(line.split("\t") for line in lines)


def test_a_job_and_a_prediction_need_no_more_rights_than_the_definitions_give(deployment: Deployment, guarded: Guarded):
    """Consoles of any party as well; afterwards only standing queues and dead letters are left."""
    job = submit(deployment, job_file(deployment, "least"), "card")
    for party in PARTIES:
        until(deployment, party, job, "done")
    predict = prediction_file(deployment, "least-scores", job)
    done = told(deployment.tercet("predict", str(predict), "--format", "json"))
    assert done["state"] == "done"
    left = queues(guarded)
    for party in PARTIES:
        mine = {name: policy for name, policy in left.items() if name.startswith(f"tercet.{party}.")}
        assert mine == {
            topology.standing_queue(party, []).name: f"tercet-{party}-standing",
            topology.dead_letter_queue(party).name: f"tercet-{party}-dead-letters",
        }


def test_dead_letters_are_shown_and_removed_by_their_party(deployment: Deployment):
    """Here there are none: nothing that honest parties say is refused."""
    shown = deployment.tercet("broker", "dead-letters", "--format", "json", party="card")
    assert (shown.returncode, json.loads(shown.stdout)) == (0, [])
