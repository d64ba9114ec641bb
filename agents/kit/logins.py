"""Makes logins at the broker: a password for its user alone, a salted hash for the broker.

It writes no file and prints nothing.
"""

import secrets
from collections.abc import Iterable, Mapping
from typing import Final

from tercet.broker.rabbitmq.definitions import NO_PASSWORD, password_hash

PASSWORD_BYTES: Final = 32


def make_passwords(users: Iterable[str]) -> dict[str, str]:
    """Draw a password for each user from the system's randomness."""
    return {user: secrets.token_urlsafe(PASSWORD_BYTES) for user in users}


def hash_passwords(users: Iterable[str], passwords: Mapping[str, str]) -> dict[str, str]:
    """Hash the password of each user who has one; the others log in by certificate."""
    return {user: password_hash(passwords[user]) if user in passwords else NO_PASSWORD for user in users}


def credentials_text(user: str, password: str) -> str:
    """Write what a file of `[broker] credentials` says."""
    return f'username = "{user}"\npassword = "{password}"\n'
