"""Prepares what `tercet serve` runs: its token, and where its scores come from.

It listens nowhere; the command does.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tercet.agents.core.problems import JobProblem
from tercet.agents.models.manifest import ModelPartProblem
from tercet.agents.models.model_part import manifest
from tercet.agents.models.scorer import load
from tercet.agents.serving.sources import AgentScores, WholeModel
from tercet.agents.serving.web import LOOPBACK, Scores
from tercet.broker.sealing.identity import read_private
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import Scorecard
from tercet.schemas.files.settings import Settings

MOST_REQUEST: Final = 72 * 1024  # bytes, headers and all; a body has 64 KiB at most
MOST_CONNECTIONS: Final = 64
WAIT_SECONDS: Final = 1.0  # between two questions whether tables are read
SHORTEST_TOKEN: Final = 16  # characters
NOT_YET: Final = frozenset({"serving.deadline", "serving.unreachable", "serving.busy", "serving.agent"})  # may pass


def read_token(path: Path | None, address: str) -> str | None:
    """Read the token that callers must send; only who listens at loopback needs none.

    Raises:
        Invalid, KeyProblem: it cannot be used, or others could ask without one.
    """
    if path is None:
        if address not in LOOPBACK:
            raise Invalid(f"--address {address}: others could ask too; give a --token-file, and a proxy for TLS")
        return None
    token = read_private(path, "write a token of 16 characters or more into it").decode("utf-8", "replace").strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise Invalid(f"{path}: a token is one word of {SHORTEST_TOKEN} ASCII characters or more")
    return token


def choose_scores(own: Settings, model: str, table: str | None, purpose: str) -> Scores:
    """Choose between a whole model, which is here, and the agent.

    Raises:
        Invalid: a file is no model, or it is not clear in which table rows are looked up.
    """
    for path in (own.state / "models" / model, Path(model)):
        if path.exists():
            try:
                return WholeModel(load(path))
            except ModelPartProblem as problem:
                if path.is_file():
                    raise Invalid(str(problem)) from None
    chosen = table or (next(iter(own.tables)) if len(own.tables) == 1 else None)
    if chosen not in own.tables:
        known = ", ".join(own.tables) or "none"
        raise Invalid(f"--table: say in which table rows are looked up; the settings list {known}")
    return AgentScores(own, model, chosen, purpose, _scorecard_of(own.state / "models" / model))


def _scorecard_of(folder: Path) -> Scorecard | None:
    """Find how the model's scores become points; the agent says whether it has no such model."""
    try:
        return manifest(folder).scorecard
    except ModelPartProblem:
        return None


async def wait_until_ready(scores: Scores, seconds: float, say: Callable[[str], None]) -> None:
    """Wait until all tables are read; go on without a partner that is away.

    Raises:
        Invalid: there can be no score, or tables are not read within so many seconds.
    """
    said = False
    try:
        async with asyncio.timeout(seconds):
            while (problem := await _problem_of(scores)) is not None and problem.code == "serving.reading":
                if not said:
                    say("Tables are being read.")
                said = True
                await asyncio.sleep(WAIT_SECONDS)
    except TimeoutError:
        raise Invalid(f"tables are not read within {seconds:g} s ([deadlines] ready)") from None
    if problem is not None and problem.code not in NOT_YET:
        raise Invalid(str(problem))
    if problem is not None:
        say(f"{problem.reason}. Until then there are no scores.")


async def _problem_of(scores: Scores) -> JobProblem | None:
    try:
        await scores.check()
    except JobProblem as problem:
        return problem
    return None
