"""Checks this machine for `tercet doctor`: settings, key, state folder, tables, clock.

It reads each table as a job would, tells rows and columns, and sends nothing anywhere.
"""

import ctypes
import ctypes.util
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tercet.agents.access.identity import IDENTITY, own_identity
from tercet.agents.access.partner_keys import check_partner_keys
from tercet.agents.access.state_folder import make_state_folder
from tercet.agents.access.table import describe_table
from tercet.agents.doctor.finding import Finding, fail, ok, warn
from tercet.broker.sealing.identity import Identity, PublicIdentity, parse_public
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import Settings
from tercet.tables.core.problem import TableProblem

WORK_BYTES: Final = 12  # of one number while a job runs: the snapshot's eight and the encoded four
SPARE_BYTES: Final = 2**30  # below this a disk counts as nearly full
TIME_ERROR: Final = 5  # what adjtimex answers where nothing keeps the clock right
TIMEX_BYTES: Final = 512  # more than its structure has on any machine


def check_partners_keys(settings: Settings, own: PublicIdentity | None = None) -> Finding:
    """Check that each partner's key is well formed and nobody else's."""
    try:
        check_partner_keys(settings, own)
    except KeyProblem as problem:
        return fail("settings", str(problem), "ask that partner for what its keygen printed")
    count = len(settings.partners)
    if not count:
        return warn("settings", f"{settings.party} has no partners", "add [partners.NAME] with the key of each")
    return ok("settings", f"{settings.party}, {settings.role}, {count} partners")


def fingerprints(settings: Settings) -> Iterator[Finding]:
    """Tell which fingerprints to compare by telephone, once keys are known to be keys."""
    for name, partner in settings.partners.items():
        yield ok(f"key of {name}", f"fingerprint {parse_public(partner.key).fingerprint}; compare it by telephone")


def check_identity(settings: Settings) -> tuple[Finding, Identity | None]:
    """Check that this party alone can read the private key."""
    where = f"the variable {IDENTITY}" if os.environ.get(IDENTITY) else str(settings.identity)
    try:
        identity = own_identity(settings)
    except KeyProblem as problem:
        hint = "make a key with `tercet keygen`, or correct `identity`; mode 600, owned by the agent's user"
        return fail("key", str(problem), hint), None
    key = identity.public
    return ok("key", f"{key.text} (from {where}), fingerprint {key.fingerprint}"), identity


def check_tables(settings: Settings) -> Iterator[tuple[Finding, int]]:
    """Read each table as a job would, and measure the disk space that a job needs for it."""
    for name, table in settings.tables.items():
        check = f"table {name}"
        try:
            found = describe_table(name, table)
        except (TableProblem, Invalid, KeyProblem) as problem:
            yield fail(check, str(problem), f"correct [tables.{name}], or the table; `tercet table` shows more"), 0
            continue
        rows, columns = int(found["rows"]), len(found["columns"])
        yield ok(check, f"{rows:,} rows, {columns} columns, every id once"), rows * columns * WORK_BYTES


def check_state(folder: Path, needed: int) -> Iterator[Finding]:
    """Check the state folder: writable, private, and large enough for the largest table."""
    try:
        make_state_folder(folder)
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError as error:
        hint = f"make {folder} a folder that the agent's user may write to, or correct `state`"
        yield fail("state", f"{folder} cannot be written: {error.strerror}", hint)
        return
    if os.name == "posix" and mode & 0o077:
        yield warn("state", f"others may look into {folder} (mode {mode:o})", f"run: chmod 700 {folder}")
    else:
        yield ok("state", f"{folder} can be written")
    yield _free_space(folder, needed)


def _free_space(folder: Path, needed: int) -> Finding:
    free = shutil.disk_usage(folder).free
    said = f"{_size(free)} free"
    if free < needed:
        said += f", and a job over the largest table takes about {_size(needed)}"
        return fail("disk", said, f"make room at {folder}, or move `state` to a larger disk")
    if free < needed + SPARE_BYTES:
        return warn("disk", said, f"make room at {folder}: models, reports and checkpoints need some as well")
    return ok("disk", said)


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def check_clock() -> Finding:
    """Check that something keeps this machine's clock right, if the system tells."""
    synchronised = is_synchronised()
    if synchronised is None:
        return ok("clock", "this system does not tell whether its clock is kept right; see the partners' below")
    if not synchronised:
        hint = "start chrony, systemd-timesyncd or another NTP client; jobs are refused when clocks are minutes apart"
        return warn("clock", "nothing keeps this machine's clock right", hint)
    return ok("clock", "kept right by NTP")


def is_synchronised() -> bool | None:
    """Read the kernel's view of its clock; None where it cannot be asked."""
    name = ctypes.util.find_library("c") if sys.platform == "linux" else None
    if name is None:
        return None
    try:
        answer = int(ctypes.CDLL(name).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)))  # all zero: change nothing
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else answer != TIME_ERROR
