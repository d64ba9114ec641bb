"""Shows what the agent knows: jobs, tables, partners, dead letters, the audit log.

Nothing here changes a job.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tercet.agents.core.report_files import report_file, selection_file
from tercet.agents.core.states import APPROVAL, TERMINAL
from tercet.agents.daemon.agent import Agent
from tercet.agents.daemon.health import readiness_problems
from tercet.agents.daemon.http_server import DEADLINE
from tercet.agents.daemon.ping import ANSWER_SECONDS
from tercet.agents.jobs.approvals import basis_of, summarize_job
from tercet.agents.page.guard import read_form
from tercet.agents.page.login import Logins, Visitor
from tercet.agents.page.own_data import ReadLetters, TableReader, read_audit, read_letters
from tercet.agents.page.rendering import page, render, seconds_since
from tercet.agents.page.stream import Part, Streams
from tercet.agents.page.users import Role
from tercet.agents.page.watcher import Watcher
from tercet.broker.interface.base import Broker
from tercet.broker.sealing.identity import parse_public
from tercet.schemas.core.names import JOB_ID_PATTERN
from tercet.schemas.messages.kinds import JobStatus, Query

JOB: Final = re.compile(JOB_ID_PATTERN)
MOST_JOBS: Final = 100  # on the page, the latest
DOWNLOAD_SECONDS: Final = 60.0
REPORT_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox allow-downloads"
)

Spawn = Callable[[Coroutine[Any, Any, None]], None]


def known_status(agent: Agent, job: str) -> JobStatus:
    """Give a job's status.

    Raises:
        HTTPException: it is no job's id, or of none that this agent knows.
    """
    found = agent.status(job) if JOB.fullmatch(job) else ()
    if not found:
        raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such job")
    return found[0]


class Views:
    """Answers the questions of one agent's page."""

    def __init__(self, agent: Agent, broker: Broker, logins: Logins, letters: ReadLetters | None, spawn: Spawn) -> None:
        self._agent, self._broker, self._logins, self._letters, self._spawn = agent, broker, logins, letters, spawn
        self.watcher, self._tables, self._streams = Watcher(agent), TableReader(spawn), Streams()
        self._auditing = asyncio.Lock()  # the whole log is read, in a thread

    # --- what they share

    def page(self, template: str, visitor: Visitor, status: int = HTTPStatus.OK, **values: Any) -> Response:
        """Render a page, with what each page has."""
        problems = readiness_problems(self._agent, self._broker)
        common = {"party": self._agent.me, "me": visitor, "here": template, "problems": problems}
        return page(template, status, **common, **values)

    def _stream(self, request: Request, render_part: Callable[[], Part]) -> Response:
        def may_look() -> bool:
            return self._logins.visitor(request, used=False) is not None

        return self._streams.serve(render_part, may_look)

    # --- jobs

    async def jobs(self, request: Request, visitor: Visitor) -> Response:
        """Show all jobs."""
        return self.page("jobs", visitor, part=self._jobs_part())

    async def jobs_stream(self, request: Request, visitor: Visitor) -> Response:
        """Follow all jobs."""
        return self._stream(request, self._jobs_part)

    def _jobs_part(self) -> Part:
        found = self._agent.status()[:MOST_JOBS]
        return Part(render("jobs_live", jobs=found, asked=[job for job in found if job.approval == APPROVAL]))

    async def job(self, request: Request, visitor: Visitor) -> Response:
        """Show a job, and who learns what by it."""
        return self.job_page(request.path_params["job"], visitor)

    def job_page(self, job: str, visitor: Visitor, status: int = HTTPStatus.OK, problem: str = "") -> Response:
        """Show a job; `problem` says why a decision on it was not followed."""
        found, asked = known_status(self._agent, job), self._agent.jobs.last_run.get(job)
        if asked is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such job")
        summary = summarize_job(asked, *basis_of(self._agent.jobs.runs.get(job), self._agent.settings))
        return self.page(
            "job",
            visitor,
            status,
            job=found,
            part=self._job_part(job),
            summary=summary,
            run=asked.run.hex(),
            problem=problem,
            is_over=found.state in TERMINAL,
            selected=selection_file(self._agent.settings.state, job).exists(),
            may_decide=visitor.role.includes(Role.APPROVER),
            may_cancel=visitor.role.includes(Role.OPERATOR),
        )

    async def job_stream(self, request: Request, visitor: Visitor) -> Response:
        """Follow a job."""
        job = known_status(self._agent, request.path_params["job"]).job
        return self._stream(request, lambda: self._job_part(job))

    def _job_part(self, job: str) -> Part:
        found = known_status(self._agent, job)
        charts = self.watcher.look_at_curves(job).charts()
        stamp = f"{found.state in TERMINAL} {found.approval}"
        return Part(render("job_live", job=found, charts=charts, is_over=found.state in TERMINAL), stamp)

    async def report(self, request: Request, visitor: Visitor) -> Response:
        """Show the report of a finished job, or give it as a file; it may run nothing."""
        return await self._send_page(request, report_file, "report")

    async def selection(self, request: Request, visitor: Visitor) -> Response:
        """Show how `tercet select` has chosen a job's columns, likewise."""
        return await self._send_page(request, selection_file, "selection")

    async def _send_page(self, request: Request, file: Callable[[Path, str], Path], what: str) -> Response:
        job = known_status(self._agent, request.path_params["job"]).job
        request.scope[DEADLINE](DOWNLOAD_SECONDS)
        try:
            content = await asyncio.to_thread(file(self._agent.settings.state, job).read_bytes)
        except OSError:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"this job has no {what}") from None
        headers = {"content-security-policy": REPORT_POLICY}
        if "download" in request.query_params:
            headers["content-disposition"] = f'attachment; filename="{what}-{job}.html"'
        return Response(content, media_type="text/html", headers=headers)

    # --- all else

    async def tables(self, request: Request, visitor: Visitor) -> Response:
        """Show the tables of the settings, and what has been read of them."""
        return self.page("tables", visitor, tables=self._agent.settings.tables, part=self._tables_part())

    async def tables_stream(self, request: Request, visitor: Visitor) -> Response:
        """Follow the reading of tables."""
        return self._stream(request, self._tables_part)

    def _tables_part(self) -> Part:
        stamp = " ".join(f"{name} {one.is_over}" for name, one in self._tables.readings.items())
        return Part(render("tables_live", readings=self._tables.readings), stamp)

    async def read_table(self, request: Request, visitor: Visitor) -> Response:
        """Begin to read a table."""
        await read_form(request, visitor.csrf)
        name = request.path_params["table"]
        settings = self._agent.settings.tables.get(name)
        if settings is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such table")
        self._tables.begin(name, settings)
        return RedirectResponse("/tables", HTTPStatus.SEE_OTHER)

    async def partners(self, request: Request, visitor: Visitor) -> Response:
        """Show all partners, what they may do, and when they were heard of."""
        watcher = self.watcher
        rows = [
            (name, partner, parse_public(partner.key).fingerprint, seconds_since(watcher.heard.get(name)))
            for name, partner in sorted(self._agent.settings.partners.items())
        ]
        asked = seconds_since(watcher.asked)
        return self.page("partners", visitor, partners=rows, answers=watcher.answers, asked=asked)

    async def ask_partners(self, request: Request, visitor: Visitor) -> Response:
        """Ask all partners' agents whether they are there; their answers take seconds."""
        await read_form(request, visitor.csrf)
        request.scope[DEADLINE](2 * ANSWER_SECONDS)
        status = await self._agent.answer(Query(partners=True))
        self.watcher.note_answers(status.partners)
        return RedirectResponse("/partners", HTTPStatus.SEE_OTHER)

    async def letters(self, request: Request, visitor: Visitor) -> Response:
        """Show what the agent has refused."""
        return self.page("letters", visitor, found=await read_letters(self._letters))

    async def audit(self, request: Request, visitor: Visitor) -> Response:
        """Show and search the audit log."""
        words, job = request.query_params.get("words", "")[:200], request.query_params.get("job", "")
        before = request.query_params.get("before", "")
        number = int(before) if re.fullmatch(r"\d{1,12}", before, re.ASCII) else 0
        path = self._agent.settings.state / "audit.log"
        async with self._auditing:
            found = await asyncio.to_thread(read_audit, path, words, number, job if JOB.fullmatch(job) else "")
        return self.page("audit", visitor, found=found, words=words, job=job if JOB.fullmatch(job) else "")
