"""Collects all parties' acceptance of a job, and agrees on one protocol version.

Each has decided by itself already (`deciding`), and tells two entropies of its table. The label party collects, and
refuses what would expose a record; the others hear whom all wait for.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tercet.agents.core.problems import JobProblem
from tercet.agents.messaging.inbox import Deadline
from tercet.agents.roles.exposure_profile import check_profiles
from tercet.agents.session.context import JobContext
from tercet.schemas.messages.kinds import Accept, Approvers, Profile, Received


class Range(NamedTuple):
    """Holds the lowest and highest protocol version that a party speaks."""

    lowest: int
    highest: int

    def __str__(self) -> str:
        return f"{self.lowest}" if self.lowest == self.highest else f"{self.lowest} to {self.highest}"


class Accepted(NamedTuple):
    """Holds what all have accepted a job by."""

    approvers: tuple[str, ...]  # the parties at which a person was asked
    version: int  # the label party's choice; elsewhere this party's own highest, until the label party says `Start`


async def accept_job(context: JobContext, profile: Profile | None) -> Accepted:
    """Accept the job together with everybody else; this party's own policy allows it already.

    `profile` is of this party's own table, if it may be told.

    Raises:
        JobProblem: a person did not approve in time, or the parties have no version in common.
        Overdue: somebody did not answer in time.
    """
    return await (_collect(context, profile) if context.is_label_party else _answer(context, profile))


async def _answer(context: JobContext, profile: Profile | None) -> Accepted:
    mailbox, label, deadline = context.mailbox, context.label, context.deadline("accept")
    lowest, highest = context.versions
    received = Received(lowest=lowest, highest=highest, asks=context.approval.is_required, profile=profile)
    await mailbox.send(received, [label], deadline)
    approvers = (await mailbox.receive(Approvers, [label], context.deadline("start")))[label]
    await context.approval.wait_for_approval(context.deadline("approve"))
    await mailbox.send(Accept(), [label], deadline)
    return Accepted(approvers.parties, highest)


async def _collect(context: JobContext, profile: Profile | None) -> Accepted:
    mailbox, others, deadline = context.mailbox, context.others, context.deadline("accept")
    received = await mailbox.receive(Received, others, deadline)
    check_profiles(context, {context.me: profile} | {party: received[party].profile for party in context.partners})
    ranges = {party: Range(message.lowest, message.highest) for party, message in received.items()}
    version = common_version({context.me: Range(*context.versions), **ranges})
    asking = tuple(party for party in others if received[party].asks)
    approvers = (*asking, context.me) if context.approval.is_required else asking
    await mailbox.send(Approvers(parties=approvers), others, deadline)
    await mailbox.receive(Accept, [party for party in others if party not in asking], deadline)
    await context.approval.wait_for_approval(context.deadline("approve"))
    await mailbox.receive(Accept, asking, after_approval(context, approvers, "accept"))
    return Accepted(approvers, version)


def after_approval(context: JobContext, approvers: Sequence[str], name: str) -> Deadline:
    """Make the deadline for an event after acceptance, while persons are still asked."""
    deadline = context.deadline(name)
    if not approvers:
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
