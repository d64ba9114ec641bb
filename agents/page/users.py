"""Keeps the persons who may use a party's page: name, role, and a hash of the password.

It lies in the state folder, for the agent's own user only. No password is ever kept, logged or shown.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tercet.agents.core.private_file import replace
from tercet.broker.sealing.identity import MAX_FILE_BYTES, read_private
from tercet.schemas.files.invalid import Invalid

if TYPE_CHECKING:
    from argon2 import PasswordHasher

FILE: Final = "users.json"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
SHORTEST, LONGEST = 12, 256  # characters of a password


class Role(StrEnum):
    """Names what a person may do, each more than the one before."""

    VIEWER = "viewer"  # looks
    APPROVER = "approver"  # approves and refuses, too
    OPERATOR = "operator"  # cancels, too

    def includes(self, other: "Role") -> bool:
        """Tell whether this role may do all that the other one may."""
        return [*Role].index(self) >= [*Role].index(other)


class User(NamedTuple):
    """Holds a person's role, and the hash of the password as argon2 writes it."""

    role: Role
    password_hash: str


class UserFile:
    """Reads and writes one party's users; what others have written counts at the next look."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        self._read: tuple[tuple[int, int, int, int], Mapping[str, User]] | None = None

    def users(self) -> Mapping[str, User]:
        """Give all users by name; none while there is no file.

        Raises:
            Invalid, KeyProblem: the file cannot be used, or others may read it.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return {}
        stamp = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
        if self._read is None or self._read[0] != stamp:
            self._read = stamp, self._parse(read_private(self._path, "add a user again"))
        return self._read[1]

    def _parse(self, content: bytes) -> Mapping[str, User]:
        try:
            return {str(name): User(Role(one["role"]), str(one["hash"])) for name, one in json.loads(content).items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Invalid(f"{self._path}: holds no users; remove it, and add them again") from None

    def add(self, name: str, role: Role, password: str) -> None:
        """Add a person.

        Raises:
            Invalid: name or password will not do, or the name is taken.
            KeyProblem: as for `users`.
        """
        if not NAME.fullmatch(name):
            raise Invalid(f"{name!r} is no name: use small letters, digits, dots, dashes and underscores, at most 32")
        if not SHORTEST <= len(password) <= LONGEST:
            raise Invalid(f"a password has {SHORTEST} to {LONGEST} characters")
        user = User(role, _hasher().hash(password))  # which takes a while
        with self._changing() as users:
            if name in users:
                raise Invalid(f"{name} is there already; remove it first to change role or password")
            self._write({**users, name: user})

    def remove(self, name: str) -> None:
        """Remove a person, whose sessions end at the next request.

        Raises:
            Invalid: nobody has this name.
            KeyProblem: as for `users`.
        """
        with self._changing() as users:
            if name not in users:
                raise Invalid(f"nobody is called {name!r}; `tercet user list` names all")
            self._write({other: user for other, user in users.items() if other != name})

    @contextmanager
    def _changing(self) -> Iterator[Mapping[str, User]]:
        """Give all users, and keep other writers out.

        The lock is on the folder, so that root leaves no file of its own there.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield self.users()
        except OSError as error:
            raise self._unwritable(error) from None
        finally:
            os.close(folder)

    def _unwritable(self, error: OSError) -> Invalid:
        return Invalid(f"{self._path}: {error.strerror}; the state folder's owner adds users")

    def _write(self, users: Mapping[str, User]) -> None:
        content = {name: {"role": user.role, "hash": user.password_hash} for name, user in sorted(users.items())}
        text = json.dumps(content, indent=1).encode()
        if len(text) > MAX_FILE_BYTES:  # nobody could log in any more
            raise Invalid(f"{self._path}: there is no room for more users; remove some first")
        temporary, folder = self._path.with_name(f".{FILE}"), self._path.parent.stat()
        for_agent = folder.st_uid != os.geteuid() == 0  # root adds users of an agent that is not root
        replace(temporary, text, (folder.st_uid, folder.st_gid) if for_agent else None)
        temporary.replace(self._path)


@cache
def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher  # noqa: PLC0415 - for who logs in or adds a user

    return PasswordHasher()


@cache
def _nobodys_hash() -> str:
    return _hasher().hash(os.urandom(16))


def verify_password(user: User | None, password: str) -> bool:
    """Tell whether this is the user's password, in 50 ms and 64 MiB, also of nobody."""
    from argon2.exceptions import Argon2Error, InvalidHash  # noqa: PLC0415

    try:
        return _hasher().verify(_nobodys_hash() if user is None else user.password_hash, password) and user is not None
    except (Argon2Error, InvalidHash):
        return False
