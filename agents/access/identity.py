"""Reads a party's own private key, from a file or the environment.

It is read once and taken out of the environment, so that no child process inherits it; nothing here prints it.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from tercet.broker.sealing.identity import Identity, identity_of, load_identity
from tercet.schemas.files.settings import Settings

IDENTITY: Final = "TERCET_IDENTITY"  # the key as PEM text, or the path of its file
PEM: Final = "-----BEGIN "


def own_identity(settings: Settings, environment: MutableMapping[str, str] = os.environ) -> Identity:
    """Read the party's key from the environment, or else from the settings' file.

    Raises:
        KeyProblem: it cannot be used, or others may read its file.
    """
    value = environment.pop(IDENTITY, "")
    if not value:
        return load_identity(settings.identity)
    if not value.lstrip().startswith(PEM):
        return load_identity(Path(value))
    return identity_of(value.encode(), IDENTITY)
