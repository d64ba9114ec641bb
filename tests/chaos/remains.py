"""What a fleet whose jobs are all over may have left: model parts, scores, records, and an audit log that holds.

It looks and removes nothing.
"""

from pathlib import Path

from tercet.agents.policy import audit_log
from tests.chaos.fleet import Fleet

GONE = ("work/*", "checkpoints/*", "models/.*", "predictions/.*")  # once a job is over, in every party's state


async def remains(fleet: Fleet) -> list[str]:
    """What should not be there, each in a line: queues of jobs, letters, files of jobs, audit logs that do not hold."""
    queues, standing = await fleet.queues(), {f"tercet.{party}.jobs" for party in fleet.parties}
    found = [f"queue {name}" for name, messages in queues.items() if name not in standing or messages]
    assert standing <= queues.keys(), "the broker's queues are not told"
    for party in fleet.parties:
        state = fleet.settings(party).state
        found += [str(path) for pattern in GONE for path in sorted(state.glob(pattern))]
        found += _audit(state / "audit.log")
        refused = sum(line.get("event") == "message refused" for line in fleet.log(party))
        found += [f"{party} has refused {refused} messages"] if refused else []
    return found


def _audit(path: Path) -> list[str]:
    try:
        lines = list(audit_log.entries(path.read_bytes()))
    except (audit_log.BrokenLog, OSError) as problem:
        return [f"{path}: {problem}"]
    return [] if lines else [f"{path} is empty"]
