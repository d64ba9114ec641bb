"""Fixtures for every room's tests: a real RabbitMQ, which may be missing nowhere, and a real PostgreSQL."""

import contextlib
import functools
import gc
import os
import platform
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog
from argon2 import PasswordHasher
from structlog.dev import ConsoleRenderer, plain_traceback

from tests import postgres_node, rabbitmq_node
from tests.debian import ServerMissingError, missing
from tests.deployment import Deployment
from tests.guarded import Guarded, guard
from tests.rabbitmq_node import Node, NodeFailedError, private_node

pytest.register_assert_rewrite("tests.broker.contract")

Deployment.forks = True

# In CI the same examples each time, so that a change is judged by itself; elsewhere others in each run, which finds
# over time what fewer examples miss. `ARGS=--hypothesis-profile=thorough` draws many.
# No deadline for an example: on a busy machine each of them is late one day.
hypothesis.settings.register_profile("here", max_examples=25, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=25, derandomize=True, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=400, deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


DOTS = 60  # of a quiet run, however many tests there are: `make test` prints one page
PASSED = pytest.StashKey[int]()
SESSION = pytest.StashKey[pytest.Session]()
PLAIN = ConsoleRenderer(exception_formatter=plain_traceback)


def pytest_sessionstart(session: pytest.Session) -> None:
    """It knows how many tests there are; each of them begins with the same logs."""
    log_plainly()
    session.config.stash[SESSION], session.config.stash[PASSED] = session, 0


# A shell starts what runs in the background with SIGINT ignored, and every process below would inherit that.
with contextlib.suppress(ValueError):  # not in the main thread
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_MEMORY = Path("/dev/shm")
LEAST_FREE = 2**31  # bytes; a run of all tests writes a tenth of that


def _has_room(folder: Path) -> bool:
    """Tell whether programs and files of tests may be put there."""
    if not os.access(folder, os.W_OK):
        return False
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize > LEAST_FREE and not disk.f_flag & os.ST_NOEXEC


# What tests write is in memory, where there is room: a sixth of what a job of tests takes was the disk's file system.
if "TMPDIR" not in os.environ and _has_room(SHARED_MEMORY):
    os.environ["TMPDIR"] = tempfile.tempdir = str(SHARED_MEMORY)

gc.disable()  # until the tests begin: importing them makes no garbage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files beside this one: each takes long, and at the end the other processes would have no more."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


def pytest_collection_finish() -> None:
    """What is there before the tests is never collected: that took a seventh of a second without a heartbeat.

    And the rest less often: it took a seventh of what jobs of tests took.
    """
    gc.freeze()
    gc.set_threshold(200_000, 10, 10)
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """What a command line test configures ends with that test, as its standard error does; a hook costs the least."""
    structlog.reset_defaults()
    log_plainly()


def log_plainly() -> None:
    """Draw no tracebacks in colours: that took a tenth of what jobs that fail took."""
    *first, _ = structlog.get_config()["processors"]
    structlog.configure(processors=[*first, PLAIN])


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """Let a quiet run print a dot for a sixtieth of all tests in place of one for each; all else is as ever."""
    if config.get_verbosity() >= 0 or report.when != "call" or not report.passed or hasattr(report, "wasxfail"):
        return None
    done, among = config.stash[PASSED], max(1, config.stash[SESSION].testscollected)
    config.stash[PASSED] = done + 1
    return "passed", "." * ((done + 1) * DOTS // among - done * DOTS // among), "PASSED"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what the tests ran on."""
    finders = ((rabbitmq_node.SERVER, rabbitmq_node.chosen_server), (postgres_node.SERVER, postgres_node.find_programs))
    with contextlib.suppress(ServerMissingError):  # the tests have said so
        # An address may hold a password.
        servers = [
            server.variable if os.environ.get(server.variable) else str(find() or f"no {server.package}")
            for server, find in finders
        ]
        terminalreporter.write_line(f"on Python {platform.python_version()}, {', '.join(servers)}")


@functools.cache
def quick_hasher() -> PasswordHasher:
    """What takes a quarter of a processor second in life; see `test_a_guess_costs_its_time_and_memory`."""
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(autouse=True, scope="session")
def no_waiting() -> Iterator[None]:
    """Let no file wait for the disk, and nobody for a login: a third of what jobs took, and half of what pages did."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr("tercet.agents.page.users._hasher", quick_hasher)
        yield


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
    return os.environ.get("TERCET_TEST_AMQP_URL") or str(request.getfixturevalue("rabbitmq").url)


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
    return os.environ.get("TERCET_TEST_POSTGRES_URL") or str(request.getfixturevalue("postgres").url)
