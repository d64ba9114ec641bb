"""Fixtures for every room's tests: a real RabbitMQ, which may be missing nowhere, and a real PostgreSQL."""

import gc
import os
from collections.abc import Iterator

import hypothesis
import pytest
import structlog

from tests import postgres_node
from tests.debian import ServerMissingError, missing
from tests.guarded import Guarded, guard
from tests.rabbitmq_node import Node, NodeFailedError, private_node

pytest.register_assert_rewrite("tests.broker.contract")

# In CI the same examples each time, so that a change is judged by itself; elsewhere others in each run.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


def pytest_collection_finish() -> None:
    """What is there before the tests is collected no more: that took a seventh of a second without a heartbeat."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file wait for the disk: a third of what jobs of tests took was that."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """What a command line test configures ends with that test, as its standard error does."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Node]:
    """The run's own RabbitMQ node, with the limits of RabbitMQ 4; started at first use, gone afterwards."""
    try:
        with private_node() as node:
            yield node
    except (ServerMissingError, NodeFailedError) as error:
        pytest.fail(f"these tests need a real RabbitMQ: {error}", pytrace=False)


@pytest.fixture(scope="session")
def amqp_url(request: pytest.FixtureRequest) -> str:
    """A real RabbitMQ that tests may use: TERCET_TEST_AMQP_URL's, else the run's own node."""
    given = os.environ.get("TERCET_TEST_AMQP_URL")
    if given:
        return given
    node: Node = request.getfixturevalue("rabbitmq")
    return node.url


@pytest.fixture(scope="session")
def guarded(rabbitmq: Node, tmp_path_factory: pytest.TempPathFactory) -> Guarded:
    """The run's own node with a virtual host where each party has a user of its own, with the least rights."""
    return guard(rabbitmq, tmp_path_factory.mktemp("definitions"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_node.Node]:
    """The run's own PostgreSQL server; started at first use, gone afterwards."""
    try:
        with postgres_node.private_postgres() as node:
            yield node
    except ServerMissingError as error:
        missing(error)
    except postgres_node.PostgresFailedError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """A real PostgreSQL where tests may do everything: TERCET_TEST_POSTGRES_URL's, else the run's own server."""
    given = os.environ.get("TERCET_TEST_POSTGRES_URL")
    if given:
        return given
    node: postgres_node.Node = request.getfixturevalue("postgres")
    return node.url
