"""Defines messages of partners' agents outside any job.

They ask who is there, of which release, and at what time.

Nothing here names a job, a table or a third party; a stranger is not answered at all.
"""

from typing import Annotated, Literal

from pydantic import Field

from tercet.schemas.core.strict import Name, Strict
from tercet.schemas.messages.message import Message

Version = Annotated[int, Field(ge=0, lt=2**16)]
ReleaseName = Annotated[str, Field(max_length=64)]


class Ping(Message):
    """Asks whether an agent is there.

    It says the versions of the protocol that the asking agent speaks.
    """

    kind = "ping"
    item = "ping"
    lowest: Version
    highest: Version
    release: ReleaseName


class Pong(Message):
    """Answers the ping of the same address: here I am."""

    kind = "pong"
    item = "pong"
    lowest: Version
    highest: Version
    release: ReleaseName
    role: Literal["data", "helper"]
    time: float = Field(ge=0, lt=2**40)  # seconds since 1970, UTC, by the answering machine's clock


class PartnerAnswer(Strict):
    """Tells a console about a partner that its agent has pinged.

    The defaults stand for no answer.
    """

    party: Name
    answered: bool
    lowest: Version = 0
    highest: Version = 0
    release: ReleaseName = ""
    role: str = Field(default="", max_length=16)
    clock: float | None = None  # by how many seconds its clock is ahead of ours
    seconds: float | None = None  # from the ping to its answer
    why: str = Field(default="", max_length=500)  # what kept the ping from leaving
