"""Makes the problems of a run out of what the broker reports."""

from tercet.agents.core.problems import BROKER, JobProblem
from tercet.broker.interface.base import Blocked, BrokerError, Disconnected, Unroutable
from tercet.broker.interface.outbox import Undeliverable
from tercet.schemas.messages.address import parse_address


def broker_problem(error: BrokerError, me: str) -> JobProblem:
    """Make the problem of a broker error, or of a party without a queue."""
    cause = error.reason if isinstance(error, Undeliverable) else error
    if isinstance(cause, Blocked):
        return broker_blocked(cause)
    if isinstance(cause, Disconnected):
        reason = f"{me} has lost its connection to the broker, and could not send in time; see {me}'s log"
        return JobProblem("party.cut-off", me, reason, str(error))
    if not (isinstance(error, Undeliverable) and isinstance(cause, Unroutable)):
        reason = f"the broker does not serve {me}, or not in time; see {me}'s log"
        return JobProblem("transport.broker", BROKER, reason, str(error))
    receiver = parse_address(error.address).receiver
    return JobProblem(
        "party.unreachable",
        receiver,
        f"{receiver} takes no messages of this job (deadline {error.deadline_name!r} at {me}): its agent is not "
        f"running, does not know {me}, or has left the job",
        str(error),
    )


def broker_blocked(alarm: Blocked) -> JobProblem:
    """Make the problem of a broker alarm, which stops all messages."""
    return JobProblem("transport.broker", BROKER, str(alarm))


def connection_lost(me: str) -> JobProblem:
    """Make the problem of a broker that does not answer this party."""
    reason = f"{me}'s connection to the broker is lost or stalled, so that it hears from nobody"
    return JobProblem("party.cut-off", me, reason)
