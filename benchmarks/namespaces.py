"""A wide-area network on this machine: a network namespace for each site, and a fixed delay between any two of them.

It needs root on Linux, and touches nothing outside the namespaces that it makes: they, and the program that carries
their packets (delay.c), are gone when it ends.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEVICE: Final = "wan0"
SUBNET: Final = "10.213.77"  # known inside the namespaces alone
CONGESTION_CONTROL: Final = "cubic"  # Linux's default; what is the machine's own choice would change the figures
SOURCE: Final = Path(__file__).with_name("delay.c")
COMPILERS: Final = ("cc", "gcc", "clang")
CONNECT: Final = """
import socket, statistics, sys, time
seconds = []
for _ in range(9):
    start = time.perf_counter()
    socket.create_connection((sys.argv[1], int(sys.argv[2]))).close()
    seconds.append(time.perf_counter() - start)
print(1000 * statistics.median(seconds))
"""


class NotPossible(RuntimeError):
    """This machine or this user cannot have such a network; the text says what is missing."""


@dataclass(frozen=True)
class Site:
    """One place in the network."""

    namespace: str
    address: str

    def command(self, *command: str) -> list[str]:
        """A command as it is run at this site: a process of the same id, with this network and no other."""
        return ["ip", "netns", "exec", self.namespace, *command]


@contextmanager
def wide_area(sites: Sequence[str], delay_ms: float) -> Iterator[dict[str, Site]]:
    """The sites by name; a packet from one to another takes `delay_ms`, however many others are on their way.

    Raises:
        NotPossible: root, the TUN device, iproute2 or a C compiler is missing.
    """
    compiler = _compiler()
    token = secrets.token_hex(3)
    made = {s: Site(f"tercet-{token}-{s}", f"{SUBNET}.{number}") for number, s in enumerate(sites, 1)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tercet-delay-")))
        stack.enter_context(_ended_in_order())
        for site in made.values():
            stack.callback(_remove, site)
            _make(site)
        program = folder / "delay"
        _run(compiler, "-O2", "-o", str(program), str(SOURCE))
        stack.enter_context(_carrying(program, [site.namespace for site in made.values()], delay_ms))
        yield made


def round_trip_ms(site: Site, host: str, port: int) -> float:
    """How long a connection from a site to a listener takes to open: one round trip. The median of a few."""
    return float(_run(*site.command(sys.executable, "-c", CONNECT, host, str(port))))


def _compiler() -> str:
    missing = None
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if sys.platform != "linux" or not Path("/dev/net/tun").exists():
        missing = "Linux with the TUN device /dev/net/tun"
    elif os.geteuid() != 0:
        missing = "root: run it with sudo"
    elif shutil.which("ip") is None:
        missing = "the command `ip` (on Debian: sudo apt-get install iproute2)"
    elif compiler is None:
        missing = "a C compiler (on Debian: sudo apt-get install gcc libc6-dev)"
    if missing is not None or compiler is None:
        raise NotPossible(f"a network with a delay is made of network namespaces, and that needs {missing}")
    return compiler


def _make(site: Site) -> None:
    _run("ip", "netns", "add", site.namespace)
    _run("ip", "-n", site.namespace, "link", "set", "lo", "up")
    _run("ip", "-n", site.namespace, "tuntap", "add", "dev", DEVICE, "mode", "tun", "vnet_hdr")
    _run("ip", "-n", site.namespace, "address", "add", f"{site.address}/24", "dev", DEVICE)
    # A long queue: this network has a delay, and no bandwidth of its own.
    _run("ip", "-n", site.namespace, "link", "set", DEVICE, "txqueuelen", "10000", "up")
    route = (f"{SUBNET}.0/24", "dev", DEVICE, "src", site.address, "congctl", CONGESTION_CONTROL)
    _run("ip", "-n", site.namespace, "route", "replace", *route)  # a namespace may not choose it for itself


def _remove(site: Site) -> None:
    subprocess.run(["ip", "netns", "del", site.namespace], check=False, capture_output=True)


@contextmanager
def _carrying(program: Path, namespaces: Sequence[str], delay_ms: float) -> Iterator[None]:
    command = [str(program), str(round(delay_ms * 1e6)), DEVICE, *namespaces]
    # It ends when its standard input is closed, hence also when this process is killed.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as carrier:
        try:
            assert carrier.stdout is not None
            if carrier.stdout.readline() != b"ready\n":
                raise NotPossible("the program that carries packets between the namespaces did not start")
            yield
        finally:
            carrier.terminate()


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM ends this process as Ctrl-C does: the namespaces are removed."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise NotPossible(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout
