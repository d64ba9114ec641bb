"""Whether a person of this party has let a job in, where the settings ask for one.

It waits and remembers; what a job would reveal is told by `revelations`, and who may decide is the console's business.
"""

import asyncio

from tercet.agents.core.problems import JobProblem
from tercet.agents.messaging.inbox import Deadline


class Approval:
    """The operator's word on one run of a job. It belongs to the run: a later attempt does not ask again."""

    def __init__(self, me: str, *, asks: bool, given_by: str = "") -> None:
        """`given_by` is who has approved the run already, in an earlier life of the agent."""
        self._me, self.asks, self.given_by = me, asks and not given_by, given_by
        self.refused_by = ""
        self._given = asyncio.Event()
        self.waiting = False

    def approve(self, who: str) -> None:
        """A person lets the job in; before it is asked for, too."""
        self.given_by, self.asks, self.waiting = who, False, False
        self._given.set()

    def refuse(self, who: str) -> None:
        """A person does not let it in, and it ends."""
        self.refused_by = who or "its operator"

    async def wait(self, deadline: Deadline) -> None:
        """Return when nobody has to be asked, or a person has approved.

        Raises:
            JobProblem: nobody did in time.
        """
        if not self.asks or self.given_by:
            return
        self.waiting = True
        try:
            async with asyncio.timeout(deadline.seconds):
                await self._given.wait()
        except TimeoutError:
            raise JobProblem(
                "policy.approval",
                self._me,
                f"nobody at {self._me} has approved the job in time (deadline {deadline.name!r}); submit it again when "
                f"{self._me}'s operator can run `tercet job approve`",
            ) from None
        finally:
            self.waiting = False
