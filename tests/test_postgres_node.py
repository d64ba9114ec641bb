"""The private PostgreSQL server: found, real, fenced in, and gone afterwards.

Whatever needs a running server is skipped on a laptop that has none, with the advice how to install it.
"""

import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from adbc_driver_manager import Error
from adbc_driver_postgresql import dbapi

from tests import postgres_node
from tests.debian import ServerMissingError, missing
from tests.postgres_node import NOBODY, OWNER, Node, PostgresFailedError, find_programs, private_postgres

ROOT = Path(__file__).parents[1]


def ask(url: str, query: str, login: tuple[str, str] | None = None) -> list[tuple[Any, ...]]:
    """The rows of an answer; what the query does is kept."""
    if login is not None:
        url = url.replace("://", "://{}:{}@".format(*login))
    with closing(dbapi.connect(url, autocommit=True)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def own() -> Iterator[Node]:
    """A server for tests that stop it: each leaves it as it was, and running. It was made in a foreign environment."""
    try:
        with ExitStack() as stack:
            with pytest.MonkeyPatch.context() as environment:
                for key in ("PGPORT", "PGCLIENTENCODING", "LC_ALL", "LC_MESSAGES"):
                    environment.setenv(key, "nonsense")
                node = stack.enter_context(private_postgres())
            yield node
    except ServerMissingError as error:
        missing(error)


def programs(folder: Path, *names: str) -> Path:
    """A folder with stand-ins for the server's programs."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


def test_the_newest_version_is_taken_and_a_folder_of_the_clients_is_not(tmp_path: Path):
    """By number; a client's package makes the same folder."""
    for version in ("9.6", "15", "14"):
        programs(tmp_path / version / "bin", "postgres", "initdb")
    programs(tmp_path / "17" / "bin", "psql")
    assert find_programs([f"{tmp_path}/*/bin"], path="") == tmp_path / "15" / "bin"


def test_what_is_on_path_comes_first_and_links_are_followed(tmp_path: Path):
    """A link alone would not do: the server looks for its other files beside the program."""
    real = programs(tmp_path / "real", "postgres", "initdb")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "initdb").symlink_to(real / "initdb")
    other = programs(tmp_path / "15" / "bin", "postgres", "initdb")
    assert find_programs([str(other)], path=str(tmp_path / "bin")) == real
    assert find_programs([str(other)], path=str(tmp_path)) == other
    assert find_programs([], path=str(tmp_path)) is None


def test_a_login_is_real(postgres: Node):
    """The password opens, none or another does not, and is nowhere in what is shown of the server."""
    name, password = postgres.login
    assert ask(postgres.address, "SELECT current_user::text", postgres.login) == [(name,)]
    for wrong in ("", password[:-1]):
        with pytest.raises(Error, match=name if wrong else "password"):
            ask(postgres.address, "SELECT 1", (name, wrong))
    assert password not in repr(postgres)


def test_the_reader_reads_what_the_owner_made_and_changes_nothing(postgres: Node):
    """The sort of role that a party would give to its agent."""
    ask(postgres.url, "CREATE TABLE to_read AS SELECT 1 AS x")
    try:
        assert ask(postgres.address, "SELECT x FROM to_read", postgres.login) == [(1,)]
        with pytest.raises(Error, match="permission denied"):
            ask(postgres.address, "DELETE FROM to_read", postgres.login)
    finally:
        ask(postgres.url, "DROP TABLE to_read")


def test_nobody_else_is_let_in_and_only_over_loopback(postgres: Node):
    """No socket file, one address, and no trust but for the owner."""
    for setting, value in {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}.items():
        assert ask(postgres.url, f"SELECT current_setting('{setting}')") == [(value,)]
    rules = ask(postgres.url, "SELECT array_to_string(user_name, ','), address, auth_method FROM pg_hba_file_rules")
    assert rules == [(OWNER, "127.0.0.1", "trust"), ("all", "127.0.0.1", "scram-sha-256")]


@pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="only root has somebody else run it; read in Linux's /proc"
)
def test_root_has_nobody_run_it(own: Node):
    """PostgreSQL refuses root; the process keeps none of root's groups, and nobody else sees the data."""
    own.stop()
    before = os.getgroups()
    os.setgroups([0])
    try:
        own.start()
    finally:
        os.setgroups(before)
    nobody = pwd.getpwnam(NOBODY)
    assert own.data.stat().st_uid == nobody.pw_uid
    assert own.data.stat().st_mode & 0o077 == 0
    status = Path(f"/proc/{own.pid}/status").read_text()
    for what, number in (("Uid", nobody.pw_uid), ("Gid", nobody.pw_gid)):
        assert f"{what}:\t" + "\t".join(4 * [str(number)]) in status
    assert "Groups:\t \n" in status


def processes(node: Node) -> list[int]:
    """The server's own and its children's."""
    return [node.pid, *(pid for (pid,) in ask(node.url, "SELECT pid FROM pg_stat_activity WHERE backend_type <> ''"))]


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_stopping_leaves_nothing_though_somebody_is_connected():
    """No process, no listener, no folder."""
    try:
        with private_postgres() as node, closing(dbapi.connect(node.url)):
            pids, folder, port = processes(node), node.folder, node.port
            assert sum(map(alive, pids)) > 3  # a worker may have ended by itself
            node.stop()
            node.stop()
            assert not any(map(alive, pids))
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=2)
            assert "fast shutdown" in (folder / "console").read_text()
    except ServerMissingError as error:
        missing(error)
    assert not folder.exists()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_server_may_be_started_again(how: str, own: Node):
    """With its roles and tables at its old address; after a crash the tables that had reached the disk."""
    ask(own.url, f"CREATE TABLE before_{how} AS SELECT 1 AS x")
    ask(own.url, "CHECKPOINT")
    getattr(own, how)()
    with pytest.raises(Error):
        ask(own.url, "SELECT 1")
    own.start()
    assert ask(own.address, f"SELECT x FROM before_{how}", own.login) == [(1,)]


def test_a_server_that_does_not_start_tells_why(own: Node):
    """In its own last words, without the password."""
    own.stop()
    settings = own.data / "postgresql.conf"
    before = settings.read_text()
    settings.write_text(f"{before}max_connections = '{own.password}'\n")
    with pytest.raises(PostgresFailedError, match=r"did not start[^$]*max_connections") as found:
        own.start()
    assert own.password not in str(found.value)
    settings.write_text(before)
    own.start()


def test_a_stop_that_is_not_heard_becomes_a_kill(own: Node, monkeypatch: pytest.MonkeyPatch):
    """A server that hangs is not left behind."""
    monkeypatch.setattr(postgres_node, "STOP_SECONDS", 0.2)
    pid = own.pid
    os.kill(pid, signal.SIGSTOP)
    own.stop()
    assert not alive(pid)
    monkeypatch.undo()
    own.start()  # which also removes what the killed one could not, a bit of shared memory
    assert ask(own.url, "SELECT 1") == [(1,)]


def test_the_environments_settings_do_not_reach_the_server(own: Node):
    """Neither what a developer's shell says of another server, nor its language."""
    assert ask(own.url, "SELECT current_setting('lc_messages')") == [("C",)]


@pytest.mark.usefixtures("postgres")
def test_as_a_program_it_prints_its_address_and_goes_when_asked():
    """As with Ctrl-C; nothing stays in the folder for temporary files.

    A shell starts what runs in the background with SIGINT ignored, and so does this test.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # it is nobody who has to go in
        with subprocess.Popen(
            [sys.executable, "-m", "tests.postgres_node"],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": folder},
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # noqa: PLW1509 - no thread is used
        ) as program:
            assert program.stdout is not None
            url = program.stdout.readline().split()[1]
            assert ask(url, "SELECT 1") == [(1,)]
            assert list(Path(folder).iterdir())
            program.send_signal(signal.SIGINT)
            assert program.wait(30) == 0
        assert not list(Path(folder).iterdir())
        with pytest.raises(Error):
            ask(url, "SELECT 1")
