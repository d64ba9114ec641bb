"""A part of the disturbed runs, over a real RabbitMQ that may be killed; `make chaos` has all of them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.__main__ import prepared, report
from tests.chaos.fleet import Fleet
from tests.chaos.remains import remains
from tests.chaos.runs import disturbed
from tests.chaos.scenarios import everything
from tests.rabbitmq_node import Node

SEED = 3
PART = ("card-training", "bank-release", "notary-prediction", "broker-training")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three(tmp_path_factory: pytest.TempPathFactory, rabbitmq: Node) -> AsyncIterator[Fleet]:
    """Daemons that live through all runs of this file, but for those that are killed, as the run's own node may be."""
    async with prepared(tmp_path_factory.mktemp("chaos"), rabbitmq) as one:
        yield one


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", PART)
async def test_a_disturbed_run_ends_as_an_undisturbed_one(three: Fleet, name: str) -> None:
    """Weight words of every party, metrics and scores, bit for bit."""
    (scenario,) = (one for one in everything(SEED) if one.name == name)
    result = await disturbed(three, scenario)
    if result.problem is not None or result.unreached:
        pytest.fail(f"\n{report(result, SEED)}", pytrace=False)


@pytest.mark.asyncio(loop_scope="module")
async def test_runs_leave_nothing_behind(three: Fleet) -> None:
    """No queue, no letter, no checkpoint or working file; nothing was refused, and the audit logs hold."""
    assert await remains(three) == []
