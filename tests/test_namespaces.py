"""The benchmark's wide-area network: the delay is there, nothing is left behind, and who cannot have it is told why."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.namespaces import DEVICE, NotPossible, Site, round_trip_ms, wide_area

DELAY_MS = 4.0
LISTEN = """
import socket, sys
listener = socket.create_server((sys.argv[1], 0))
print(listener.getsockname()[1], flush=True)
while True:
    listener.accept()[0].close()
"""

possible = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/net/tun").exists() or not shutil.which("ip") or not shutil.which("cc"),
    reason="needs root, /dev/net/tun, iproute2 and a C compiler",
)


@contextmanager
def listener(site: Site) -> Iterator[int]:
    """Somebody who takes connections at a site; the port."""
    command = site.command(sys.executable, "-c", LISTEN, site.address)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def namespaces() -> set[str]:
    """Those that there are on this machine."""
    return {path.name for path in Path("/run/netns").glob("*")}


@possible
def test_a_packet_takes_the_delay_each_way_and_nothing_is_left() -> None:
    """Between any two sites, and not within one."""
    before = namespaces()
    with wide_area(["bank", "card", "notary"], DELAY_MS) as sites, listener(sites["notary"]) as port:
        assert len(namespaces() - before) == 3
        for site in (sites["bank"], sites["card"]):
            assert round_trip_ms(site, sites["notary"].address, port) >= 2 * DELAY_MS
        assert round_trip_ms(sites["notary"], sites["notary"].address, port) < 2 * DELAY_MS
        devices = subprocess.run(["ip", "link", "show", DEVICE], check=False, capture_output=True)
        assert devices.returncode != 0  # it is not in the namespace that everybody else is in
    assert namespaces() == before


@possible
def test_a_network_is_removed_when_what_used_it_fails() -> None:
    """As when a benchmark is interrupted."""
    before = namespaces()
    with pytest.raises(KeyboardInterrupt), wide_area(["bank", "card"], DELAY_MS):
        raise KeyboardInterrupt
    assert namespaces() == before


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is made."""
    if sys.platform != "linux":
        pytest.skip("elsewhere it is Linux that is missing")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotPossible, match=r"root|/dev/net/tun"), wide_area(["bank", "card"], DELAY_MS):
        pytest.fail("it was made all the same")
