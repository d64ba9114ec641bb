"""A private PostgreSQL server under a temporary folder, for tests and for trying a database as a table's source.

It never touches a server that runs on this machine already: port, data and roles are its own, it listens on loopback
alone, and whatever it started is gone when it stops. It is fast and forgets all in a crash: nothing is synced.

`python -m tests.postgres_node` starts one, prints its addresses and waits for Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.debian import Server, ensure_server, newest
from tests.rabbitmq_node import end_with, free_ports

START_SECONDS = 60.0  # about 1 on a quiet machine; a busy CI runner with cold disks needs patience
STOP_SECONDS = 20.0
OWNER = "tercet"  # may do everything and needs no password
READER = "reader"  # may read what the owner made, with its password
DATABASE = "postgres"
NOBODY = "nobody"  # PostgreSQL refuses to run as root
SERVER = Server(
    package="postgresql",
    page="https://www.postgresql.org/download/",
    variable="TERCET_TEST_POSTGRES_URL",
    elsewhere={"dnf": "postgresql-server", "zypper": "postgresql-server"},
)
PROGRAMS = ("postgres", "initdb")  # a folder with the client's programs alone has neither

# Where packages put the server's programs, which Debian keeps off PATH.
FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/lib/postgresql*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)

# Only the owner is let in without a password, and nobody from elsewhere.
ACCESS = f"""\
host all {OWNER} 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "dynamic_shared_memory_type": "mmap",  # within the data folder, so that even a crash leaves nothing elsewhere
    "log_statement": "none",
}


class PostgresFailedError(RuntimeError):
    """The server did not start; the text ends with the last lines it wrote."""


def find_programs(folders: Sequence[str] = FOLDERS, path: str | None = None) -> Path | None:
    """The folder of the server's programs, or None. PATH (the environment's, or `path`) first, then known folders."""
    on_path = shutil.which("initdb", path=path)
    if on_path is not None:
        folder = Path(on_path).resolve().parent
        if all((folder / program).exists() for program in PROGRAMS):
            return folder
    return newest(folders, *PROGRAMS)


@dataclass
class Node:
    """One private server. `start` and `stop` may alternate; port, roles and tables stay."""

    programs: Path
    folder: Path
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def __post_init__(self) -> None:
        (self.port,) = free_ports(1)
        self.data = self.folder / "data"
        self._server: subprocess.Popen[bytes] | None = None
        self._create()

    @property
    def address(self) -> str:
        """The server's address for whoever brings name and password along."""
        return f"postgresql://127.0.0.1:{self.port}/{DATABASE}"

    @property
    def url(self) -> str:
        """The address for the owner, who may do everything and needs no password."""
        return f"postgresql://{OWNER}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def login(self) -> tuple[str, str]:
        """Name and password of a role that may read the owner's tables, and is refused with any other password."""
        return READER, self.password

    @property
    def pid(self) -> int:
        """The process whose end is the server's."""
        assert self._server is not None
        return self._server.pid

    def _create(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, NOBODY)
        self._run("initdb", "-D", str(self.data), "-U", OWNER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        (self.data / "pg_hba.conf").write_text(ACCESS)
        statements = (
            f"CREATE ROLE {READER} LOGIN PASSWORD '{self.password}'\n"
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT SELECT ON TABLES TO {READER}\n"
        )
        self._run(
            *("postgres", "--single", "-D", str(self.data), *_options(SETTINGS | {"exit_on_error": "on"}), DATABASE),
            text=statements,
        )

    def _run(self, program: str, *arguments: str, text: str = "") -> None:
        """Run one of the server's programs to its end; `text` is its standard input."""
        command = [str(self.programs / program), *arguments]
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, check=False, timeout=START_SECONDS, **self._process()
        )
        if done.returncode != 0:
            raise self._failed(done.stdout + done.stderr)

    def _process(self) -> dict[str, Any]:
        """How each process runs: as nobody where we are root, without this environment's PostgreSQL settings."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "NOTIFY_"))}
        process: dict[str, Any] = {"cwd": self.folder, "env": inherited | {"LC_ALL": "C"}}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam(NOBODY)
            process |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        return process

    def start(self) -> None:
        """Start the server and return when it serves.

        Raises:
            PostgresFailedError: it ended, or does not serve within START_SECONDS.
        """
        with (self.folder / "console").open("ab") as console:
            self._server = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.data), *_options(SETTINGS | {"port": self.port})],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,  # Ctrl-C is for us; we stop the server in order
                **self._process(),
            )
        deadline = time.monotonic() + START_SECONDS
        while self._server.poll() is None and time.monotonic() < deadline:
            if self._serves():
                return
            time.sleep(0.02)
        self.stop()
        raise self._failed((self.folder / "console").read_bytes())

    def _serves(self) -> bool:
        # The file tells the state on its eighth line, which a crash may have left behind: only our process's counts.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"

    def _failed(self, output: bytes) -> PostgresFailedError:
        lines = output.decode(errors="replace").replace(self.password, "...").splitlines()[-25:]
        return PostgresFailedError(
            "\n".join([f"the private PostgreSQL server did not start ({self.programs}):", *lines])
        )

    def stop(self) -> None:
        """Stop the server in order, whoever is connected; harder when it takes longer than STOP_SECONDS. Idempotent."""
        self._end(signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        self._end(signal.SIGQUIT, signal.SIGKILL)

    def _end(self, *signals: signal.Signals) -> None:
        server, self._server = self._server, None
        for how in signals if server is not None else ():
            assert server is not None
            if server.poll() is None:
                server.send_signal(how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(STOP_SECONDS)


def _options(settings: dict[str, Any]) -> list[str]:
    return [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]


@contextlib.contextmanager
def private_postgres() -> Iterator[Node]:
    """A started server that is stopped, with its folder removed, when the block ends.

    Raises:
        ServerMissingError: no server is installed.
        PostgresFailedError: it did not start.
    """
    programs = ensure_server(SERVER, find_programs)
    with tempfile.TemporaryDirectory(prefix="tercet-postgres-", ignore_cleanup_errors=True) as folder:
        node = Node(programs, Path(folder))
        try:
            node.start()
            yield node
        finally:
            node.stop()


def main() -> None:
    """Start a server, print its addresses, wait for Ctrl-C or SIGTERM."""
    argparse.ArgumentParser(prog="python -m tests.postgres_node", description=__doc__).parse_args()
    end_with(signal.SIGTERM, signal.SIGINT)
    with private_postgres() as node:
        print(f"postgres  {node.url}")
        print(f"reader    {node.address}  (user {READER}, password {node.password})")
        print("Ctrl-C stops it.", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
