"""Compares every two data parties' findings on dealt shares, at each epoch's end.

It knows digests, says commitments to them and never a digest; what goes into them is `mpc.linear.checks` or
`mpc.dealing.row_checks`.
"""

import secrets
from collections.abc import Mapping

from tercet.agents.core.problems import JobProblem
from tercet.agents.session.agreed import TrainingContext
from tercet.mpc.linear.checks import commitment, commits
from tercet.schemas.messages.kinds import CheckCommitment, CheckOpening

SALT_BYTES = 32


async def compare_dealing(context: TrainingContext, digests: Mapping[int, bytes], epoch: int) -> None:
    """Exchange commitments to digests with each data party, then compare the digests.

    `digests` are those of this party and each other one, by number; empty where nothing is checked.

    Raises:
        JobProblem: this party and another one have not found the same: what the helper dealt one of them was wrong.
        Overdue: a party did not answer in time.
    """
    if not digests:
        return
    mail, deadline, salt = context.mailbox, context.deadline("step"), secrets.token_bytes(SALT_BYTES)
    mine = {party: digests[context.number(party)] for party in context.partners}
    for party, digest in mine.items():
        message = CheckCommitment(commitment=commitment(digest, salt, context.me))
        await mail.send(message, [party], deadline, epoch=epoch)
    bound = await mail.receive(CheckCommitment, context.partners, deadline, epoch=epoch)
    await mail.send(CheckOpening(salt=salt), context.partners, deadline, epoch=epoch)
    opened = await mail.receive(CheckOpening, context.partners, deadline, epoch=epoch)
    for party, digest in mine.items():
        if not commits(digest, opened[party].salt, party, bound[party].commitment):
            raise dealing_problem(context)


def opened_problem(context: TrainingContext) -> JobProblem:
    """Blame the helper for an opened bundle.

    Naming the wrong words would tell where it is looked at.
    """
    helper = context.description.helper
    return JobProblem(
        "dealing.wrong",
        helper,
        f"what {helper} dealt does not follow from the keys that it shares with the data parties, so that the model "
        f"would be wrong; no model comes of this run: ask who runs {helper}, or name another helper",
    )


def dealing_problem(context: TrainingContext) -> JobProblem:
    """Blame the helper; naming the wrong shares would tell it of the projections."""
    helper = context.description.helper
    wrong = (
        "the model would be wrong"
        if context.plan.is_blind
        else "it could have read columns; the check kept it from that"
    )
    return JobProblem(
        "dealing.wrong",
        helper,
        f"what {helper} dealt does not fit the masks that it shares with the data parties, so that {wrong}; no model "
        f"comes of this run: ask who runs {helper}, or name another helper",
    )
