"""Collects all parties' acceptance of a job, and agrees on one protocol version.

Each has decided by itself already (`deciding`), and tells two entropies of its table. The label party collects, and
refuses what would expose a record; the others hear whom all wait for.
"""

from collections.abc import Mapping
from typing import NamedTuple

from tercet.agents.core.problems import JobProblem
from tercet.agents.messaging.inbox import Deadline
from tercet.agents.roles.exposure_profile import check_profiles
from tercet.agents.session.context import JobContext
from tercet.schemas.messages.kinds import Accept, Approvers, Received


class Range(NamedTuple):
    """Holds the lowest and highest protocol version that a party speaks."""

    lowest: int
    highest: int

    def __str__(self) -> str:
        return f"{self.lowest}" if self.lowest == self.highest else f"{self.lowest} to {self.highest}"


async def accept_job(context: JobContext) -> None:
    """Accept the job together with everybody else; this party's own policy allows it already.

    Afterwards `context.approvers` are the parties that asked a person, and at the label party `context.version` is the
    version to speak.

    Raises:
        JobProblem: a person did not approve in time, or the parties have no version in common.
        Overdue: somebody did not answer in time.
    """
    await (_collect(context) if context.is_label_party else _answer(context))


async def _answer(context: JobContext) -> None:
    mailbox, label, deadline = context.mailbox, context.label, context.deadline("accept")
    lowest, highest = context.versions
    received = Received(lowest=lowest, highest=highest, asks=context.approval.is_required, profile=context.profile)
    await mailbox.send(received, [label], deadline)
    approvers = (await mailbox.receive(Approvers, [label], context.deadline("start")))[label]
    context.approvers = approvers.parties
    await context.approval.wait_for_approval(context.deadline("approve"))
    await mailbox.send(Accept(), [label], deadline)


async def _collect(context: JobContext) -> None:
    mailbox, others, deadline = context.mailbox, context.others, context.deadline("accept")
    received = await mailbox.receive(Received, others, deadline)
    check_profiles(
        context, {context.me: context.profile} | {party: received[party].profile for party in context.partners}
    )
    ranges = {party: Range(message.lowest, message.highest) for party, message in received.items()}
    context.version = common_version({context.me: Range(*context.versions), **ranges})
    asking = tuple(party for party in others if received[party].asks)
    context.approvers = (*asking, context.me) if context.approval.is_required else asking
    await mailbox.send(Approvers(parties=context.approvers), others, deadline)
    await mailbox.receive(Accept, [party for party in others if party not in asking], deadline)
    await context.approval.wait_for_approval(context.deadline("approve"))
    await mailbox.receive(Accept, asking, after_approval(context, "accept"))


def after_approval(context: JobContext, name: str) -> Deadline:
    """Make the deadline for an event after acceptance, while persons are still asked."""
    deadline = context.deadline(name)
    if not context.approvers:
        return deadline
    return Deadline("approve", context.deadline("approve").seconds + deadline.seconds)


def common_version(ranges: Mapping[str, Range]) -> int:
    """Find the highest protocol version that all parties speak.

    Raises:
        JobProblem: there is none; the party with the oldest release is named.
    """
    oldest = min(ranges, key=lambda party: ranges[party].highest)
    newest = max(ranges, key=lambda party: ranges[party].lowest)
    if ranges[newest].lowest > ranges[oldest].highest:
        raise JobProblem(
            "party.version",
            oldest,
            f"{oldest} speaks version {ranges[oldest]} of the protocol and {newest} version {ranges[newest]}: install "
            f"a later release of tercet at {oldest}, or an earlier one at {newest}",
        )
    return ranges[oldest].highest


def check_version(context: JobContext, version: int) -> None:
    """Check that this party speaks the version that the label party chose.

    Raises JobProblem if it does not.
    """
    lowest, highest = context.versions
    if not lowest <= version <= highest:
        raise JobProblem(
            "party.version",
            context.label,
            f"{context.label} started the job with version {version} of the protocol, and {context.me} speaks "
            f"{Range(lowest, highest)}: install the same release of tercet at both",
        )
