"""Finding and installing RabbitMQ for tests, without a RabbitMQ."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.rabbitmq_node import (
    RabbitMQMissingError,
    ensure_server,
    find_server,
    free_ports,
    how_to_install,
    install_debian_package,
)


def script(folder: Path, *, real: bool = True) -> Path:
    """A stand-in for the server's start script; a real one has its helper beside it."""
    folder.mkdir(parents=True)
    path = folder / "rabbitmq-server"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    if real:
        (folder / "rabbitmq-env").write_text("")
    return path


def test_the_newest_of_several_versions_is_taken(tmp_path: Path):
    """By number, not by letter."""
    for version in ("3.9.13", "3.10.8", "3.8.2"):
        script(tmp_path / f"rabbitmq_server-{version}" / "sbin")
    found = find_server([f"{tmp_path}/rabbitmq_server-*/sbin"])
    assert found == tmp_path / "rabbitmq_server-3.10.8" / "sbin" / "rabbitmq-server"


def test_path_is_followed_to_the_real_script_and_a_wrapper_is_not_taken(tmp_path: Path):
    """Homebrew's link leads to the script; Debian's wrapper would change the user."""
    real = script(tmp_path / "cellar")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "rabbitmq-server").symlink_to(real)
    assert find_server([], path=str(tmp_path / "bin")) == real
    script(tmp_path / "wrapper", real=False)
    assert find_server([], path=str(tmp_path / "wrapper")) is None


@pytest.mark.parametrize(
    ("system", "tools", "command"),
    [
        ("Darwin", set(), "brew install rabbitmq"),
        ("Linux", {"apt-get"}, "sudo apt-get install rabbitmq-server"),
        ("Linux", {"dnf"}, "sudo dnf install rabbitmq-server"),
        ("Linux", set(), "see https://www.rabbitmq.com/docs/download"),
    ],
)
def test_the_advice_is_a_command_for_this_system(system: str, tools: set[str], command: str):
    """Ready to be copied."""
    assert how_to_install(system, lambda tool: tool if tool in tools else None) == command


class Shell:
    """Records commands; fails at those that contain a word."""

    def __init__(self, failing: str = "nothing") -> None:
        self.commands: list[str] = []
        self.failing = failing

    def __call__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        assert environment["DEBIAN_FRONTEND"] == "noninteractive"
        self.commands.append(" ".join(command))
        if self.failing in self.commands[-1]:
            raise subprocess.CalledProcessError(100, command)


def test_installing_starts_no_service_and_leaves_no_policy(tmp_path: Path):
    """The policy stands around apt and goes afterwards, also when apt fails."""
    policy = tmp_path / "policy-rc.d"
    shell = Shell()
    install_debian_package(shell, root=True, policy=policy)
    assert [command.split()[0] for command in shell.commands] == ["sh", "apt-get", "apt-get", "rm"]
    assert "exit 101" in shell.commands[0]
    assert str(policy) in shell.commands[-1]
    shell = Shell(failing="apt-get install")
    with pytest.raises(subprocess.CalledProcessError):
        install_debian_package(shell, root=True, policy=policy)
    assert shell.commands[-1].startswith("rm -f")


def test_a_policy_of_the_systems_own_stays_and_the_service_is_stopped(tmp_path: Path):
    """Without root all goes through sudo, which must not ask."""
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")
    shell = Shell()
    install_debian_package(shell, root=False, policy=policy)
    assert all(command.startswith("sudo -n ") for command in shell.commands)
    assert "invoke-rc.d rabbitmq-server stop" in shell.commands[-1]
    assert not any(str(policy) in command for command in shell.commands)


def test_a_missing_server_is_an_error_with_advice_and_never_silence(monkeypatch: pytest.MonkeyPatch):
    """Neither root nor CI: nothing is installed behind the user's back."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    def install() -> None:
        raise AssertionError

    with pytest.raises(RabbitMQMissingError, match="TERCET_TEST_AMQP_URL"):
        ensure_server(lambda: None, install, {})


def test_ports_differ():
    """Many at once."""
    assert len(set(free_ports(50))) == 50
