"""Notes what running jobs tell in passing: their curves, and when each partner was heard of.

It keeps numbers of the latest jobs only, and nothing on the disk.
"""

import asyncio
import time
from typing import Final

from tercet.agents.daemon.agent import Agent
from tercet.agents.page.curves import Curves
from tercet.agents.runs.run import JobRun
from tercet.schemas.messages.kinds import PartnerAnswer

PAUSE_SECONDS: Final = 1.0
MOST_JOBS: Final = 16


class Watcher:
    """Watches one agent.

    Attributes:
        curves: of the latest jobs, by job.
        heard: when each partner was last heard of, in seconds since 1970.
        answers: what each partner has answered to the last question.
        asked: when all were asked, in seconds since 1970.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._seen: dict[str, JobRun] = {}  # that ran at the last look
        self.curves: dict[str, Curves] = {}
        self.heard: dict[str, float] = {}
        self.answers: dict[str, PartnerAnswer] = {}
        self.asked: float | None = None

    async def watch(self) -> None:
        """Look every second, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(PAUSE_SECONDS)

    def look(self) -> None:
        """Note what there is now."""
        now, runs = time.time(), {run.job.id: run for run in self._agent.runs}
        for job, run in (self._seen | runs).items():  # a run that has ended is looked at once more
            self._note_curves(job, run)
        self._seen = runs
        for run in runs.values():
            for party in run.status().parties:
                self.heard[party.party] = max(self.heard.get(party.party, 0.0), now - party.heard)

    def look_at_curves(self, job: str) -> Curves:
        """Give a job's curves as they are now; empty ones where this party knows none."""
        run = self._agent.jobs.runs.get(job)
        if run is not None:
            self._note_curves(job, run)
        return self.curves.get(job) or Curves()

    def _note_curves(self, job: str, run: JobRun) -> None:
        history = run.context.history
        self.curves.pop(job, None)
        self.curves[job] = Curves([*history.losses], [*history.held_out_losses], dict(history.metrics))
        while len(self.curves) > MOST_JOBS:
            del self.curves[next(iter(self.curves))]

    def note_answers(self, answers: tuple[PartnerAnswer, ...]) -> None:
        """Note what partners have answered to a question just now."""
        self.asked, self.answers = time.time(), {answer.party: answer for answer in answers}
        self.heard |= {answer.party: self.asked for answer in answers if answer.answered}
