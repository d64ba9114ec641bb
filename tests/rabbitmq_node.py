"""A private RabbitMQ node under a temporary folder, for tests, benchmarks and a look at the management page.

It never touches a broker that runs on this machine already: name, ports, cookie, data and epmd are its own, it
listens on loopback alone unless it is given another address, and whatever it started is gone when it stops.

`python -m tests.rabbitmq_node` starts one, prints its addresses and waits for Ctrl-C.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.debian import Server, ServerMissingError, ensure_server, installed, newest

START_SECONDS = 90.0  # about 4 on a quiet machine; a busy CI runner with cold disks needs patience
STOP_SECONDS = 30.0
MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # RabbitMQ 4's default, so that 3.x refuses here what 4 refuses
USER = "tercet"
STRANGER = "stranger"  # may connect, and may write, read or create only what is named stranger...
SERVER = Server(
    package="rabbitmq-server",
    page="https://www.rabbitmq.com/docs/download",
    variable="TERCET_TEST_AMQP_URL",
    elsewhere={"pacman": "rabbitmq", "brew": "rabbitmq"},
)
SCRIPT = "rabbitmq-server"
QUEUE = re.compile(r"""\{<<"([^"]*)">>,(\d+),(\d+),(?:<<"([^"]*)">>|'')\}""")
CHOICE = "TERCET_TEST_RABBITMQ"  # of several installed servers: a version as 4.0, or the folder of one

# Where packages put the node's own script. The one on PATH may be a wrapper: Debian's changes to the user rabbitmq
# and to the system's folders.
SCRIPT_FOLDERS = (
    "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",
    "/opt/rabbitmq_server-*/sbin",
    "/opt/homebrew/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
    "/home/linuxbrew/.linuxbrew/opt/rabbitmq/sbin",
    "/opt/rabbitmq/sbin",
    "/usr/local/lib/rabbitmq/sbin",
)


class NodeFailedError(RuntimeError):
    """The node did not start; the text ends with the last lines it wrote."""


def find_server(folders: Sequence[str] = SCRIPT_FOLDERS, path: str | None = None) -> Path | None:
    """The node's own start script, or None. Known folders first, then PATH (the environment's, or `path`)."""
    known = newest(folders, SCRIPT)
    if known is not None:
        return known / SCRIPT
    on_path = shutil.which(SCRIPT, path=path)
    if on_path is None:
        return None
    script = Path(on_path).resolve()
    return script if (script.parent / "rabbitmq-env").exists() else None  # else a wrapper


def chosen_server(choice: str | None = os.environ.get(CHOICE), folders: Sequence[str] = SCRIPT_FOLDERS) -> Path | None:
    """The start script of the server that is chosen, or of any when none is.

    Raises:
        ServerMissingError: the choice is not installed.
    """
    if not choice:
        return find_server(folders)
    here = list(installed(folders, SCRIPT))
    fit = [folder for folder in here if f"-{choice}." in f"{folder.parent.name}."]
    fit += [folder for folder in (Path(choice), Path(choice) / "sbin") if (folder / SCRIPT).exists()]
    if not fit:
        found = ", ".join(str(folder.parent) for folder in here) or "none"
        raise ServerMissingError(f"{CHOICE} is {choice}, and installed here: {found}; name a version or a folder")
    return fit[0].resolve() / SCRIPT


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on. All differ; another program could still be faster."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _user(name: str, password: str, tags: str) -> dict[str, str]:
    salt, algorithm = secrets.token_bytes(4), "rabbit_password_hashing_sha256"
    hashed = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    return {"name": name, "password_hash": hashed, "hashing_algorithm": algorithm, "tags": tags}


def _permission(name: str, pattern: str) -> dict[str, str]:
    return {"user": name, "vhost": "/", "configure": pattern, "write": pattern, "read": pattern}


@dataclass
class Node:
    """One private node. `start` and `stop` may alternate; ports, users and durable queues stay."""

    script: Path
    folder: Path
    management: bool = False
    settings: Sequence[str] = ()  # further lines of rabbitmq.conf
    plugins: Sequence[str] = ()  # further plugins
    address: str = "127.0.0.1"  # where it listens
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def __post_init__(self) -> None:
        self.port, self._distribution, self._epmd_port, self._http = free_ports(4)
        self.name = f"tercet-{secrets.token_hex(4)}@localhost"
        self._server: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._write_configuration()

    @property
    def url(self) -> str:
        """The node's AMQP address with the name and password of a user who may do everything."""
        return f"amqp://{USER}:{self.password}@{self.address}:{self.port}/"

    @property
    def stranger_url(self) -> str:
        """The address for a user who may touch nothing but what is named `stranger...`."""
        return f"amqp://{STRANGER}:{self.password}@{self.address}:{self.port}/"

    @property
    def management_url(self) -> str | None:
        """The management page's address, or None when the node runs without it."""
        return f"http://127.0.0.1:{self._http}/" if self.management else None

    @property
    def environment(self) -> dict[str, str]:
        """What the node's scripts need to find this node and no other."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_", "NOTIFY_"))}
        own = {
            "HOME": self.folder,  # Erlang's cookie lives there
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_IP_ADDRESS": self.address,
            "RABBITMQ_NODE_PORT": self.port,
            "RABBITMQ_DIST_PORT": self._distribution,
            # Erlang's threads do not spin while they wait: tests and agents need the processor.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"
            " +sbwt none +sbwtdcpu none +sbwtdio none",
            "ERL_EPMD_PORT": self._epmd_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": self.folder / "data",
            "RABBITMQ_LOG_BASE": self.folder / "log",
            "RABBITMQ_PID_FILE": self.folder / "pid",
            "RABBITMQ_CONFIG_FILE": self.folder / "rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": self.folder / "advanced.config",
            "RABBITMQ_CONF_ENV_FILE": self.folder / "environment",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.folder / "enabled_plugins",
            "LANG": "C.UTF-8",
        }
        return inherited | {key: str(value) for key, value in own.items()}

    def _write_configuration(self) -> None:
        definitions = {
            "vhosts": [{"name": "/"}],
            "users": [_user(USER, self.password, "administrator"), _user(STRANGER, self.password, "")],
            "permissions": [_permission(USER, ".*"), _permission(STRANGER, f"^{STRANGER}.*")],
        }
        lines = [
            f"max_message_size = {MAX_MESSAGE_BYTES}",
            "disk_free_limit.absolute = 50MB",  # the default follows the memory and blocks small CI disks
            f"load_definitions = {self.folder / 'definitions.json'}",
            *self.settings,
        ]
        if self.management:
            lines += ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {self._http}"]
        plugins = ",".join([*(["rabbitmq_management"] if self.management else []), *self.plugins])
        for name, text in {
            "rabbitmq.conf": "\n".join([*lines, ""]),
            "enabled_plugins": f"[{plugins}].\n",
            "definitions.json": json.dumps(definitions),
            "environment": "",
            "advanced.config": "[].\n",
        }.items():
            (self.folder / name).write_text(text)

    def start(self) -> None:
        """Start the node and return when it takes connections.

        Raises:
            NodeFailedError: it ended, or took longer than START_SECONDS.
        """
        self._start_epmd()
        with (self.folder / "console").open("ab") as console:
            self._server = subprocess.Popen(
                [str(self.script)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,  # Ctrl-C is for us; we stop the node in order
            )
        self._wait_until_listening()

    def _start_epmd(self) -> None:
        # Ours, in the foreground: the one that Erlang would start by itself outlives the node.
        program = shutil.which("epmd")
        if program is not None:
            self._epmd = subprocess.Popen(
                [program], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    def _wait_until_listening(self) -> None:
        assert self._server is not None
        deadline = time.monotonic() + START_SECONDS
        while self._server.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return
            time.sleep(0.05)
        self.stop()
        console = (self.folder / "console").read_text(errors="replace").splitlines()[-25:]
        raise NodeFailedError("\n".join([f"the private RabbitMQ node did not start ({self.script}):", *console]))

    def _answers(self) -> bool:
        # The listener opens before the node serves: only an answer to the protocol header counts.
        try:
            with socket.create_connection((self.address, self.port), timeout=2.0) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return len(connection.recv(1)) == 1
        except OSError:
            return False

    def stop(self) -> None:
        """Stop the node in order; kill it when it takes longer than STOP_SECONDS. Idempotent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the node at once, as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        server, self._server = self._server, None
        epmd, self._epmd = self._epmd, None
        if server is not None:
            _end_session(server, how)
        if epmd is not None:
            epmd.terminate()
            epmd.wait()

    @property
    def session(self) -> int:
        """The session that all the node's processes are in."""
        assert self._server is not None
        return self._server.pid

    def evaluate(self, expression: str) -> str:
        """What an Erlang expression is in the node; where `erl_call` is, at a hundredth of `rabbitmqctl`'s cost."""
        answer = self.folder / "answer"
        code = f'ok = file:write_file("{answer}", io_lib:format("~0p", [begin {expression} end])).\n'
        program = shutil.which("erl_call")
        if program is None:
            self.control("eval", code)
        else:
            cookie = (self.folder / ".erlang.cookie").read_text()
            command = [program, "-c", cookie, "-sname", self.name, "-e"]
            done = subprocess.run(command, input=code, env=self.environment, check=True, capture_output=True, text=True)
            assert done.stdout == "{ok, ok}", (expression, done.stdout)
        return answer.read_text()

    def call(self, function: str, *texts: str) -> None:
        """Call a function of the node's with these texts; it says that all is well."""
        answer = self.evaluate(f"{function}({', '.join(f'<<{json.dumps(text)}>>' for text in texts)})")
        assert answer == "ok", (function, answer)

    def load_definitions(self, path: Path) -> None:
        """Load them as `rabbitmqctl import_definitions` does."""
        self.call("rabbit_definitions:import_raw", path.read_text())

    def add_vhost(self, name: str) -> str:
        """Make a virtual host where the node's user may do everything; its address."""
        self.call("rabbit_vhost:add", name, "tests")
        self.call("rabbit_auth_backend_internal:set_permissions", USER, name, ".*", ".*", ".*", "tests")
        return f"{self.url}{name}"

    def queues(self, vhost: str = "/") -> dict[str, tuple[int, int, str]]:
        """By name of each queue its messages, its consumers and its policy."""
        what = "[{name, {resource, _, queue, Name}}, {messages, Messages}, {consumers, Consumers}, {policy, Policy}]"
        asked = f'rabbit_amqqueue:info_all(<<"{vhost}">>, [name, messages, consumers, policy])'
        answer = self.evaluate(f"[{{Name, Messages, Consumers, Policy}} || {what} <- {asked}]")
        found = [each.groups("") for each in QUEUE.finditer(answer)]
        return {name: (int(messages), int(consumers), policy) for name, messages, consumers, policy in found}

    def control(self, *arguments: str) -> str:
        """What `rabbitmqctl` with these arguments writes (a second or two)."""
        command = [str(self.script.parent / "rabbitmqctl"), "-q", *arguments]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout


def _end_session(server: subprocess.Popen[bytes], how: signal.Signals) -> None:
    # The script's Erlang child is in the session that we opened for it and nowhere else.
    if server.poll() is None and how is signal.SIGTERM:
        server.terminate()  # the script passes it on and waits
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@contextlib.contextmanager
def private_node(
    *,
    management: bool = False,
    settings: Sequence[str] = (),
    plugins: Sequence[str] = (),
    address: str = "127.0.0.1",
) -> Iterator[Node]:
    """A started node that is stopped, with its folder removed, when the block ends.

    Raises:
        ServerMissingError: no server is installed.
        NodeFailedError: it did not start.
    """
    script = ensure_server(SERVER, chosen_server)
    with tempfile.TemporaryDirectory(prefix="tercet-rabbitmq-", ignore_cleanup_errors=True) as folder:
        node = Node(script, Path(folder), management, settings, plugins, address)
        try:
            node.start()
            yield node
        finally:
            node.stop()


@contextlib.asynccontextmanager
async def short_of_memory(node: Node) -> AsyncIterator[None]:
    """While the block lasts the node has its memory alarm, and takes no messages."""
    try:
        node.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.0)")
        yield
    finally:
        node.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)")


def end_with(*signals: signal.Signals) -> None:
    """End this program in order at these signals, also where it was started with SIGINT ignored, as by `... &`."""
    for number in signals:
        signal.signal(number, lambda *_: sys.exit(0))


def main() -> None:
    """Start a node, print its addresses, wait for Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.rabbitmq_node", description=__doc__)
    parser.add_argument("--no-management", action="store_true", help="leave the management page out")
    parser.add_argument("--address", default="127.0.0.1", help="where to listen")
    arguments = parser.parse_args()
    end_with(signal.SIGTERM, signal.SIGINT)
    with private_node(management=not arguments.no_management, address=arguments.address) as node:
        print(f"amqp        {node.url}")
        print(f"session     {node.session}  (of its processes)")
        print(f"management  {node.management_url or 'off'}  (user {USER}, password {node.password})")
        print("Ctrl-C stops it.", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
