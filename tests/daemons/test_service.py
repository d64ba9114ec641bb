"""An agent as a service manager runs it: notifications, health, secrets from the environment, a port that is taken."""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.daemons.test_over_rabbitmq import write_tables
from tests.deployment import Deployment
from tests.forked import CHECKOUT, Forked
from tests.rabbitmq_node import free_ports


def logged(agent: "subprocess.Popen[str]", event: str) -> str:
    """What an agent logs until this event."""
    assert agent.stderr is not None
    lines = []
    for line in agent.stderr:
        lines.append(line)
        if event in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


def page(port: int, path: str) -> tuple[int, str]:
    """Status and text."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_service_tells_its_manager_and_monitor_how_it_is(
    tmp_path: Path, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its start to its stop; with its key and login from the environment, which its log and pages do not show."""
    (port,) = free_ports(1)
    extra = f"[monitor]\nport = {port}\n"
    with (
        Deployment(tmp_path, amqp_url, write_tables(tmp_path), "notary", extra=extra) as deployment,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(str(tmp_path / "manager"))
        manager.settimeout(60)
        key, credentials = tmp_path / "notary.key", tmp_path / "credentials.toml"
        name, password = [line.split('"')[1] for line in credentials.read_text().splitlines()]
        secrets = {"TERCET_IDENTITY": key.read_text(), "TERCET_BROKER_USERNAME": name}
        secrets["TERCET_BROKER_PASSWORD"] = password
        key.unlink()
        credentials.unlink()
        environment = os.environ | secrets | {"NOTIFY_SOCKET": str(tmp_path / "manager"), "WATCHDOG_USEC": "60000000"}
        command = [sys.executable, "-m", "tercet", "agent", str(deployment.settings("notary"))]
        agent = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, cwd=CHECKOUT, text=True)
        try:
            assert manager.recv(1000) == b"READY=1"
            assert manager.recv(1000) == b"STATUS=no jobs run\nWATCHDOG=1"
            assert page(port, "/healthz") == page(port, "/readyz") == (200, "ok\n")
            status, metrics = page(port, "/metrics")
            assert (status, "tercet_broker_connected 1.0" in metrics) == (200, True)
            assert page(port, "/")[0] == 404
            # The key is gone from the disk: what follows goes over the agent's socket.
            settings = deployment.settings("notary")
            listed = deployment.asked("job", "list", "--format", "json", party="notary")
            assert (listed.returncode, listed.stdout) == (0, "[]\n")
            written = settings.read_text()
            settings.write_text(f"{written}\n[limits]\nparallel_jobs = 3\n")
            agent.send_signal(signal.SIGHUP)
            log = logged(agent, "settings that count from the agent's next start")
            settings.write_text(f"{written}\n[nonsense]\n")
            agent.send_signal(signal.SIGHUP)
            log += logged(agent, "the settings stay as they were")
            for secret in ("TERCET_BROKER_USERNAME", "TERCET_BROKER_PASSWORD"):
                monkeypatch.setenv(secret, secrets[secret])
            other = Forked("tercet", ["agent", str(deployment.settings("bank"))], tmp_path / "other.log")  # same port
            assert other.wait(60) == 3
            assert "a port of its own" in (tmp_path / "other.log").read_text().replace("\n", " ")
            agent.send_signal(signal.SIGTERM)
            while not (said := manager.recv(1000)).startswith(b"STOPPING=1"):
                assert said.startswith(b"STATUS=")  # again, every ten seconds
            log += agent.communicate(timeout=30)[1]
        finally:
            agent.kill()
            agent.wait()
        assert agent.returncode == 0
        assert not (tmp_path / "notary" / "agent.sock").exists()
        assert not [secret for secret in (password, "PRIVATE KEY") if secret in log + metrics]
