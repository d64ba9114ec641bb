"""Finds scores for requests: through the agent of this machine, or by a whole model.

Neither looks at anything but what a request asks for.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from tercet.agents.access.no_agent import NoAgent
from tercet.agents.access.socket_console import NoSocket, SocketConsole
from tercet.agents.core.problems import JobProblem
from tercet.agents.models.scorer import Classifier, Regressor, UnseenCategories
from tercet.agents.models.scores_file import scored_columns
from tercet.agents.serving.web import RequestRefused
from tercet.broker.interface.clock import loop_time
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.files.job import Scorecard
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import MOST_SERVED, ScoreQuery, ScoreReply
from tercet.tables.core.problem import TableProblem

LONGEST_ID: Final = 1000  # characters
CHECK_SECONDS: Final = 5.0  # for which the last answer to `check` holds: partners are asked


class AgentScores:
    """Asks this party's agent, which asks its partners: `{"ids": [...]}`."""

    def __init__(
        self, settings: Settings, model: str, table: str, purpose: str, scorecard: Scorecard | None = None
    ) -> None:
        self._settings, self._scorecard = settings, scorecard
        self._query = partial(ScoreQuery, model=model, table=table, purpose=purpose)
        self._checked: tuple[float, JobProblem | None] | None = None

    async def score(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Score rows by ids; those without a score are listed as unknown."""
        ids = _list_in(asked, "ids")
        if not all(_is_id(one) for one in ids):
            raise RequestRefused(400, f"ids are texts of 1 to {LONGEST_ID} characters, or whole numbers")
        names = [str(one) for one in ids]
        reply = await self._ask(names)
        scores = np.frombuffer(reply.scores).reshape(len(names), reply.outputs)
        known = np.frombuffer(reply.known, np.bool_)
        found = rows_of(reply.link, scores[known], reply.classes, self._scorecard)
        there = [one for one, is_known in zip(names, known, strict=True) if is_known]
        unknown = [one for one, is_known in zip(names, known, strict=True) if not is_known]
        return {"scores": dict(zip(there, found, strict=True)), "unknown": unknown}

    async def check(self) -> None:
        """Check that agent and partners answer."""
        now = loop_time()
        if self._checked is None or now - self._checked[0] > CHECK_SECONDS:
            try:
                await self._ask([])
            except JobProblem as problem:
                self._checked = now, problem
            else:
                self._checked = now, None
        if self._checked[1] is not None:
            raise self._checked[1]

    async def _ask(self, ids: Sequence[str]) -> ScoreReply:
        try:
            async with await SocketConsole.connect(self._settings) as console:
                reply = await console.score(self._query(ids=tuple(ids)))
        except (NoSocket, NoAgent) as problem:
            raise JobProblem("serving.agent", self._settings.party, str(problem)) from None
        if reply.failure is not None:
            failure = reply.failure
            raise JobProblem(failure.code, failure.culprit, failure.reason)
        return reply


class WholeModel:
    """Scores raw columns by a whole model, without any partner: `{"rows": [{column: value}]}`."""

    def __init__(self, scorer: Classifier | Regressor) -> None:
        self._scorer = scorer
        about = scorer.model.description
        self._link, self._classes = about.link, () if about.classes is None else about.classes.names
        self._scorecard = about.scorecard

    async def score(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Score rows, in their order."""
        rows = _list_in(asked, "rows")
        if not all(isinstance(row, dict) for row in rows):
            raise RequestRefused(400, "rows are objects, with a value for each column")
        if not rows:
            return {"scores": []}
        names = list(dict.fromkeys(name for row in rows for name in row))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnseenCategories)  # one in a row is no surprise
                scores = self._scorer.scores({name: pa.array([row.get(name) for row in rows]) for name in names})
        except (pa.ArrowException, OverflowError):
            raise RequestRefused(400, "a column has values of one type: numbers, texts or null") from None
        except TableProblem as problem:
            raise RequestRefused(400, f"{problem.what}: {problem.remedy}") from None
        return {"scores": rows_of(self._link, scores, self._classes, self._scorecard)}

    async def check(self) -> None:
        """Check nothing: the model is here."""


def rows_of(
    link: str, scores: Floats, classes: Sequence[str], scorecard: Scorecard | None = None
) -> list[dict[str, Any]]:
    """Make an object of each row: the columns that a prediction's file has, in JSON."""
    rows = pa.table(scored_columns(link, scores, classes, scorecard)).to_pylist()
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """JSON has no numbers beyond all bounds."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _list_in(asked: Mapping[str, Any], name: str) -> list[Any]:
    found = asked.get(name)
    if {*asked} != {name} or not isinstance(found, list) or len(found) > MOST_SERVED:
        raise RequestRefused(400, f'the body is {{"{name}": [...]}}, of {MOST_SERVED} at most')
    return found


def _is_id(one: Any) -> bool:
    return type(one) is int or (isinstance(one, str) and 0 < len(one) <= LONGEST_ID)
