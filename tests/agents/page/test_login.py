"""Who may log in, how often anybody may try, and what a session is worth."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tercet.agents.cli.app import app
from tercet.agents.page import sessions, users
from tercet.agents.page.sessions import MOST_SESSIONS, TRIES_OF_ALL, TRIES_OF_NAME, LoginLimiter, Sessions
from tercet.agents.page.users import FILE, Role, UserFile, verify_password
from tercet.broker.sealing.identity import MAX_FILE_BYTES
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.invalid import Invalid
from tests.agents.page.web import PASSWORD, add_user, paged

real_time = pytest.mark.real_time


def test_a_user_is_added_listed_and_removed_by_the_command_line(tmp_path: Path) -> None:
    """The password is asked for twice, and only its hash is anywhere."""
    settings = tmp_path / "bank.toml"
    settings.write_text('party = "bank"\nidentity = "bank.key"\nstate = "state"\n')
    options = ["--settings", str(settings)]
    run = CliRunner().invoke
    added = run(app, ["user", "add", "ada", "--role", "approver", *options], input=f"{PASSWORD}\n{PASSWORD}\n")
    assert (added.exit_code, PASSWORD in added.output) == (0, False)
    file = tmp_path / "state" / FILE
    assert PASSWORD not in file.read_text()
    assert "$argon2id$" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "approver" in run(app, ["user", "list", *options]).output
    assert run(app, ["user", "list", *options, "--format", "json"]).output == '{\n  "ada": "approver"\n}\n'
    again = run(app, ["user", "add", "ada", "--role", "viewer", *options], input=f"{PASSWORD}\n{PASSWORD}\n")
    assert (again.exit_code, "is there already" in again.output) == (3, True)
    assert run(app, ["user", "add", "bob", "--role", "king", *options]).exit_code == 2
    assert run(app, ["user", "remove", "ada", *options]).exit_code == 0
    assert run(app, ["user", "remove", "ada", *options]).exit_code == 3
    assert UserFile(tmp_path / "state").users() == {}


@pytest.mark.parametrize(
    ("name", "password"), [("Ada", PASSWORD), ("../ada", PASSWORD), ("", PASSWORD), ("ada", "short")]
)
def test_a_name_or_password_that_will_not_do_is_refused(tmp_path: Path, name: str, password: str) -> None:
    with pytest.raises(Invalid):
        UserFile(tmp_path).add(name, Role.VIEWER, password)
    assert not (tmp_path / FILE).exists()


def test_a_person_that_is_removed_while_another_is_added_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash takes a while; what is written after it is of the file as it is then."""
    add_user(tmp_path, "eve", Role.OPERATOR)

    class Slow:
        def hash(self, _: str) -> str:
            UserFile(tmp_path).remove("eve")
            return "hash"

    monkeypatch.setattr(users, "_hasher", Slow)
    add_user(tmp_path, "bob", Role.VIEWER)
    assert [*UserFile(tmp_path).users()] == ["bob"]


def test_persons_that_are_added_at_once_are_all_there(tmp_path: Path) -> None:
    """One command waits for the other."""
    names = [f"person-{number}" for number in range(30)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: add_user(tmp_path, name, Role.VIEWER), names))
    assert {*UserFile(tmp_path).users()} == {*names}


def test_one_person_too_many_shuts_nobody_out(tmp_path: Path) -> None:
    """No longer file would be read."""
    many = {f"person-{number}": {"role": "viewer", "hash": "x" * 100} for number in range(200)}
    rest = MAX_FILE_BYTES - len(json.dumps(many, indent=1)) - 100
    (tmp_path / FILE).write_text(json.dumps({**many, "last": {"role": "viewer", "hash": "x" * rest}}, indent=1))
    (tmp_path / FILE).chmod(0o600)
    with pytest.raises(Invalid, match="no room"):
        add_user(tmp_path, "ada", Role.VIEWER)
    assert len(UserFile(tmp_path).users()) == 201
    UserFile(tmp_path).remove("last")
    add_user(tmp_path, "ada", Role.VIEWER)


def test_root_gives_the_agents_user_the_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the agent's before it has its name, which the agent's user could make a link."""
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, 65534)
    owner, changed = tmp_path.stat(), list[tuple[int, int, int]]()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda file, user, group: changed.append((os.fstat(file).st_ino, user, group)))
    add_user(tmp_path, "ada", Role.VIEWER)
    assert changed == [((tmp_path / FILE).stat().st_ino, owner.st_uid, owner.st_gid)]


def test_a_file_of_users_that_others_may_read_or_that_is_none_lets_nobody_in(tmp_path: Path) -> None:
    """It is not mended in silence."""
    add_user(tmp_path, "ada", Role.VIEWER)
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(KeyProblem, match="others may read"):
        UserFile(tmp_path).users()
    (tmp_path / FILE).chmod(0o600)
    for content in ("[]", "{", '{"ada": {"role": "king", "hash": ""}}', '{"ada": 3}'):
        (tmp_path / FILE).write_text(content)
        with pytest.raises(Invalid, match="holds no users"):
            UserFile(tmp_path).users()


def test_a_password_is_right_or_wrong_and_nobodys_takes_a_hash_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that time does not tell which names there are."""
    add_user(tmp_path, "ada", Role.VIEWER)
    ada = UserFile(tmp_path).users()["ada"]
    assert verify_password(ada, PASSWORD)
    assert not verify_password(ada, f"{PASSWORD}.")
    assert not verify_password(ada._replace(password_hash="no hash"), PASSWORD)
    verified: list[str] = []

    def verify(_: object, made: str, said: str) -> bool:
        verified.append(made)
        return True

    monkeypatch.setattr("argon2.PasswordHasher.verify", verify)
    assert not verify_password(None, PASSWORD)
    assert verified[0].startswith("$argon2id$")


def test_a_role_may_do_what_those_before_it_may() -> None:
    assert [[one.includes(other) for other in Role] for one in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_a_session_is_over_after_a_while_and_after_a_day() -> None:
    """Unused, or however much it is used; a stream does not use it."""
    clock = SimpleNamespace(now=0.0)
    held = Sessions(lambda: clock.now)
    token = held.begin("ada", "stamp")
    for _ in range(3):
        clock.now += sessions.IDLE_SECONDS - 1
        assert held.find(token) is not None
    for _ in range(2):
        clock.now += sessions.IDLE_SECONDS * 0.6
        found = held.find(token, used=False)
    assert found is None
    token = held.begin("ada", "stamp")
    began = clock.now
    while clock.now <= began + sessions.LONGEST_SECONDS:
        assert held.find(token) is not None
        clock.now += 600
    assert held.find(token) is None


def test_sessions_are_known_by_a_hash_and_bounded() -> None:
    """Who logs in once more puts the oldest out."""
    held = Sessions()
    tokens = [held.begin("ada", "stamp") for _ in range(MOST_SESSIONS + 1)]
    assert not {*tokens} & {*held._sessions}
    assert len({*tokens}) == len(tokens)
    assert [held.find(token) is None for token in tokens] == [True, *[False] * MOST_SESSIONS]


def test_tries_are_counted_by_name_and_in_all() -> None:
    """Until some minutes have passed, or one succeeds."""
    clock = SimpleNamespace(now=0.0)
    limiter = LoginLimiter(lambda: clock.now)
    for _ in range(TRIES_OF_NAME):
        assert limiter.admit("ada") == 0
        clock.now += 1
    assert limiter.admit("ada") == sessions.TRIES_SECONDS - TRIES_OF_NAME
    assert limiter.admit("bob") == 0
    limiter.forget("ada")
    assert limiter.admit("ada") == 0
    for number in range(TRIES_OF_ALL):
        limiter.admit(f"name {number}")
    assert limiter.admit("carla") > 0
    assert len(limiter._tries) == TRIES_OF_ALL
    clock.now += sessions.TRIES_SECONDS
    assert limiter.admit("carla") == 0


@real_time
async def test_a_person_logs_in_looks_and_logs_out(tmp_path: Path) -> None:
    """Everything else leads to the login."""
    async with paged(tmp_path) as site:
        web = site.web
        for path in ("/", "/jobs/credit-1", "/stream", "/tables", "/partners", "/dead-letters", "/audit"):
            answer = await web.get(path)
            assert (answer.status, answer.headers["location"]) == (303, "/login")
        add_user(site.state, "ada", Role.VIEWER)
        wrong = await web.log_in("ada", "not her password at all")
        assert (wrong.status, "wrong" in wrong.text) == (403, True)
        nobody = await web.log_in("eve")
        assert (nobody.status, nobody.text.replace(nobody.csrf(), "")) == (
            wrong.status,
            wrong.text.replace(wrong.csrf(), ""),
        )
        assert (await web.log_in("ada")).headers["location"] == "/"
        shown = await web.get("/")
        assert (shown.status, "ada" in shown.text) == (200, True)
        out = await web.post("/logout", {"csrf": shown.csrf()})
        assert (out.status, (await web.get("/")).status) == (303, 303)


@real_time
async def test_cookies_and_headers_are_strict(tmp_path: Path) -> None:
    """Scripts do not see the session, other sites do not send it, and nothing is stored or framed."""
    async with paged(tmp_path) as site:
        add_user(site.state, "ada", Role.VIEWER)
        answer = await site.web.log_in("ada")
        for attribute in ("HttpOnly", "SameSite=strict", "Path=/"):
            assert attribute in answer.headers["set-cookie"]
        for path in ("/login", "/", "/static/page.css", "/nowhere"):
            headers = (await site.web.get(path)).headers
            assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; ")
            assert "unsafe" not in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "same-origin")
            assert headers["cache-control"] == "no-store"


@real_time
async def test_who_is_removed_or_gets_another_role_is_out_at_once(tmp_path: Path) -> None:
    """And so is whoever has the file's rights wrong."""
    async with paged(tmp_path) as site:
        users = UserFile(site.state)
        for change in ("remove", "role", "rights"):
            web = await site.person("ada", Role.VIEWER)
            assert (await web.get("/")).status == 200
            if change == "rights":
                (site.state / FILE).chmod(0o644)
            else:
                users.remove("ada")
            if change == "role":
                add_user(site.state, "ada", Role.OPERATOR)
            assert (await web.get("/")).status == 303
            if change == "role":
                users.remove("ada")


@real_time
async def test_two_browsers_have_two_sessions(tmp_path: Path) -> None:
    async with paged(tmp_path) as site:
        one = await site.person("ada", Role.VIEWER)
        other = site.another()
        await other.log_in("ada")
        assert one.cookies != other.cookies
        await one.post("/logout", {"csrf": (await one.get("/")).csrf()})
        assert ((await one.get("/")).status, (await other.get("/")).status) == (303, 200)
