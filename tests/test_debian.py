"""Installing a server for tests, or saying how, without a server and without installing anything."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests import postgres_node, rabbitmq_node
from tests.debian import Server, ServerMissingError, ensure_server, how_to_install, install_package, missing, newest

PACKAGE = "rabbitmq-server"
SERVER = Server(PACKAGE, "https://example.org/download", "TERCET_TEST_URL")


def test_the_newest_of_several_versions_is_taken(tmp_path: Path):
    """By number, not by letter; a folder without all the programs does not count."""
    for version in ("3.9.13", "3.10.8", "3.8.2", "3.11.0"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "one").write_text("")
        if version != "3.11.0":
            (tmp_path / version / "other").write_text("")
    assert newest([f"{tmp_path}/none-*", f"{tmp_path}/*"], "one", "other") == tmp_path / "3.10.8"
    assert newest([f"{tmp_path}/none-*"], "one") is None


@pytest.mark.parametrize(
    ("server", "system", "tools", "command"),
    [
        (rabbitmq_node.SERVER, "Darwin", set(), "brew install rabbitmq"),
        (rabbitmq_node.SERVER, "Linux", {"apt-get"}, "sudo apt-get install rabbitmq-server"),
        (rabbitmq_node.SERVER, "Linux", {"dnf", "brew"}, "sudo dnf install rabbitmq-server"),
        (rabbitmq_node.SERVER, "Linux", {"pacman"}, "sudo pacman -S rabbitmq"),
        (rabbitmq_node.SERVER, "Linux", set(), "see https://www.rabbitmq.com/docs/download"),
        (postgres_node.SERVER, "Darwin", {"apt-get"}, "brew install postgresql"),
        (postgres_node.SERVER, "Linux", {"apt-get"}, "sudo apt-get install postgresql"),
        (postgres_node.SERVER, "Linux", {"dnf"}, "sudo dnf install postgresql-server"),
        (postgres_node.SERVER, "Linux", set(), "see https://www.postgresql.org/download/"),
    ],
)
def test_the_advice_is_a_command_for_this_system(server: Server, system: str, tools: set[str], command: str):
    """Ready to be copied."""
    assert how_to_install(server, system, lambda tool: tool if tool in tools else None) == command


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
    install_package(PACKAGE, shell, root=True, policy=policy)
    assert [command.split()[0] for command in shell.commands] == ["sh", "apt-get", "apt-get", "rm"]
    assert "exit 101" in shell.commands[0]
    assert shell.commands[2].endswith(f"--no-install-recommends {PACKAGE}")
    assert str(policy) in shell.commands[-1]
    shell = Shell(failing="apt-get install")
    with pytest.raises(subprocess.CalledProcessError):
        install_package(PACKAGE, shell, root=True, policy=policy)
    assert shell.commands[-1].startswith("rm -f")


def test_a_policy_of_the_systems_own_stays_and_the_service_is_stopped(tmp_path: Path):
    """Without root all goes through sudo, which must not ask."""
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")
    shell = Shell()
    install_package(PACKAGE, shell, root=False, policy=policy)
    assert all(command.startswith("sudo -n ") for command in shell.commands)
    assert f"invoke-rc.d {PACKAGE} stop" in shell.commands[-1]
    assert not any(str(policy) in command for command in shell.commands)


def test_a_missing_server_is_an_error_with_advice_and_never_silence(monkeypatch: pytest.MonkeyPatch):
    """Neither root nor CI: nothing is installed behind the user's back."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    def install(package: str) -> None:
        raise AssertionError

    with pytest.raises(ServerMissingError, match="TERCET_TEST_URL"):
        ensure_server(SERVER, lambda: None, install, {})


def test_root_and_ci_install_what_is_missing_and_tell_when_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Once; what is there already is taken as it is."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda tool: f"/usr/bin/{tool}")
    installed: list[str] = []
    ci = {"CI": "true"}
    for _ in range(2):
        found = ensure_server(SERVER, lambda: tmp_path if installed else None, installed.append, ci)
        assert (found, installed) == (tmp_path, [PACKAGE])

    def install(package: str) -> None:
        raise subprocess.CalledProcessError(100, "apt-get")

    with pytest.raises(ServerMissingError, match=r"installing rabbitmq-server failed.*exit status 100"):
        ensure_server(SERVER, lambda: None, install, ci)


@pytest.mark.parametrize(
    ("environment", "outcome"), [({}, pytest.skip.Exception), ({"CI": "true"}, pytest.fail.Exception)]
)
def test_what_is_missing_skips_on_a_laptop_and_fails_in_ci(environment: dict[str, str], outcome: type[BaseException]):
    """With the advice in both."""
    with pytest.raises((pytest.skip.Exception, pytest.fail.Exception), match="run `this`") as found:
        missing(ServerMissingError("run `this`"), environment)
    assert found.type is outcome
