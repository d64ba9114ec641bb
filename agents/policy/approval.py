"""Waits for a person's approval of a job, where the settings ask for one.

`disclosures` lists what a job would reveal, and the console says who may decide.
"""

import asyncio
from collections.abc import Collection

from tercet.agents.core.problems import JobProblem
from tercet.agents.messaging.inbox import Deadline


class Approval:
    """Holds the operator's decision on one run; a later attempt does not ask again."""

    def __init__(
        self,
        me: str,
        *,
        is_required: bool,
        approved_by: str = "",
        needed: int = 1,
        approvers: tuple[str, ...] = (),
        page_approvers: tuple[str, ...] = (),
    ) -> None:
        """Start unapproved, unless `approved_by` approved the run before the agent restarted.

        Of `needed` persons `approvers` had approved it by then, of whom `page_approvers` did so on the page.
        """
        self._me, self.is_required, self.approved_by = me, is_required and not approved_by, approved_by
        self.needed, self.approvers, self.page_approvers = needed, approvers, page_approvers
        self.refused_by = ""
        self._event = asyncio.Event()
        self.is_waiting = False

    def forget_gone(self, page_users: Collection[str]) -> None:
        """Count nobody who approved on the page, and may do so no more."""
        gone = {*self.page_approvers} - {*page_users}
        self.approvers = tuple(who for who in self.approvers if who not in gone)
        self.page_approvers = tuple(who for who in self.page_approvers if who not in gone)

    def approve(self, who: str, *, on_page: bool = False) -> None:
        """Approve the job for one person, even before the agent has asked.

        The last one that is needed lets it in.
        """
        self.approvers = (*self.approvers, who)
        if on_page:
            self.page_approvers = (*self.page_approvers, who)
        if len(self.approvers) >= self.needed:
            self.approved_by, self.is_required, self.is_waiting = " and ".join(self.approvers), False, False
            self._event.set()

    def refuse(self, who: str) -> None:
        """Note that a person refuses the job; the run ends it.

        Approvals before that count no more: whoever resumes the run has to get them anew.
        """
        self.refused_by, self.approvers, self.page_approvers = who or "its operator", (), ()

    async def wait_for_approval(self, deadline: Deadline) -> None:
        """Wait until a person has approved; return at once if the settings ask for no approval.

        Raises:
            JobProblem: nobody approved in time.
        """
        if not self.is_required or self.approved_by:
            return
        self.is_waiting = True
        try:
            async with asyncio.timeout(deadline.seconds):
                await self._event.wait()
        except TimeoutError:
            raise JobProblem(
                "policy.approval",
                self._me,
                f"nobody at {self._me} has approved the job in time (deadline {deadline.name!r}); submit it again when "
                f"{self._me}'s operator can run `tercet job approve`",
            ) from None
        finally:
            self.is_waiting = False
