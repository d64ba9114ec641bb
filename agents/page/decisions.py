"""Takes a person's word on a job from the page: approve, refuse, cancel.

What follows is decided where `tercet job approve` is, too. The audit log has the person's name.
"""

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tercet.agents.daemon.agent import Agent
from tercet.agents.page.guard import read_form
from tercet.agents.page.login import Visitor
from tercet.agents.page.views import Views, known_status
from tercet.schemas.messages.kinds import Decide, Query

LONGEST_REASON = 300  # characters
STALE = "this job was submitted anew since you opened the page; read again what it tells whom"


class Decisions:
    """Carries out what forms of the page ask for."""

    def __init__(self, agent: Agent, views: Views) -> None:
        self._agent, self._views = agent, views

    async def approve(self, request: Request, visitor: Visitor) -> Response:
        """Approve a job that waits for a person."""
        return await self._decide(request, visitor, approve=True)

    async def refuse(self, request: Request, visitor: Visitor) -> Response:
        """Refuse a job that waits for a person, with a reason."""
        return await self._decide(request, visitor, approve=False)

    async def _decide(self, request: Request, visitor: Visitor, *, approve: bool) -> Response:
        job, form = await self._read(request, visitor)
        why = "" if approve else form.get("why", "")[:LONGEST_REASON]
        return await self._carry_out(visitor, job, form, Decide(job=job, approve=approve, who=visitor.name, why=why))

    async def cancel(self, request: Request, visitor: Visitor) -> Response:
        """End a job at every party."""
        job, form = await self._read(request, visitor)
        return await self._carry_out(visitor, job, form, Query(job=job, cancel=True, who=visitor.name))

    async def _read(self, request: Request, visitor: Visitor) -> tuple[str, dict[str, str]]:
        form = await read_form(request, visitor.csrf)
        return known_status(self._agent, request.path_params["job"]).job, form

    async def _carry_out(self, visitor: Visitor, job: str, form: dict[str, str], request: Decide | Query) -> Response:
        """Ask the agent, if the job is the one that the person has seen."""
        run = self._agent.jobs.last_run.get(job)
        if run is None or form.get("run") != run.run.hex():
            problem: str | None = STALE
        else:
            problem = (await self._agent.answer(request, on_page=True)).problem
        if problem is not None:
            return self._views.job_page(job, visitor, HTTPStatus.CONFLICT, problem)
        return RedirectResponse(f"/jobs/{job}", HTTPStatus.SEE_OTHER)
