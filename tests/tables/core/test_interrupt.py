"""What a thread waits for can be ended from outside: the query itself, at the database, not only the wait for it."""

import time
from collections.abc import Callable
from contextlib import closing
from threading import Thread

import adbc_driver_postgresql.dbapi as postgresql
import pytest

from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.interrupt import Interrupt
from tercet.tables.core.problem import UnusableError
from tercet.tables.sources.source import open_source

ENDLESS = {
    "before the first row": "SELECT 1 AS id, pg_sleep(600) IS NULL AS x",
    "between rows": "SELECT n AS id, n AS x FROM generate_series(1, 2000000000) n",
}


def test_what_is_under_way_is_ended_once_and_what_comes_later_does_not_begin() -> None:
    """Nothing is ended that is over already."""
    ended: list[str] = []
    interrupt = Interrupt()
    with interrupt.ending_with(lambda: ended.append("first")):
        pass
    with interrupt.ending_with(lambda: ended.append("second")):
        interrupt.set()
    assert ended == ["second"]
    with pytest.raises(InterruptedError), interrupt.ending_with(lambda: ended.append("third")):
        ended.append("begun")
    interrupt.set()
    assert ended == ["second"]


@pytest.mark.parametrize("query", ENDLESS.values(), ids=ENDLESS)
def test_a_query_of_postgresql_is_given_up_by_the_server(postgres_url: str, query: str) -> None:
    """The thread that reads it gets an error that any other failure of the database would be, too."""
    interrupt, reported = Interrupt(), list[Exception]()

    def read() -> None:
        settings = TableSettings(database=postgres_url.partition("?")[0], query=query, id="id")
        try:
            with closing(open_source(settings, None, interrupt)) as source:
                for _ in source.batches(["id", "x"]):
                    pass
        except UnusableError as error:
            reported.append(error)

    thread = Thread(target=read)
    thread.start()
    until(lambda: active(postgres_url, query))
    interrupt.set()
    until(lambda: not thread.is_alive())
    assert reported
    until(lambda: not active(postgres_url, query))


def active(url: str, query: str) -> bool:
    """Whether the server is at work on it."""
    with postgresql.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT query FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()")
        return any(query in row[0] for row in cursor.fetchall())


def until(holds: Callable[[], bool]) -> None:
    """Return when something holds."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
