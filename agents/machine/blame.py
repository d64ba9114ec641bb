"""Finds the party to blame for a wait: the end of the chain of who waits for whom.

Pure functions over the parties' last reports; nothing here waits or sends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tercet.agents.core.problems import BROKER, JobProblem

MOST_LINKS = 4  # of a chain, in a sentence


@dataclass(frozen=True, slots=True)
class Report:
    """Holds a party's last report about itself."""

    stage: str
    waits_for: tuple[str, ...]


def culprits(reports: Mapping[str, Report], start: str) -> list[str]:
    """Find the parties where the waiting that starts at `start` ends, in order of reach.

    `reports` holds the parties heard from lately. A party that is silent, or that waits for nobody, is an end;
    silence weighs more. No end at all means that some wait for one another: a message was lost between them.
    """
    reached = _reachable(reports, start)
    silent = [party for party in reached if party not in reports]
    return silent or [party for party in reached if not reports[party].waits_for]


def _reachable(reports: Mapping[str, Report], start: str) -> list[str]:
    reached = [start]
    for party in reached:  # grows while it is read
        waits_for = reports[party].waits_for if party in reports else ()
        reached.extend(other for other in waits_for if other not in reached)
    return reached


def blame_for_deadline(reports: Mapping[str, Report], start: str, deadline: str, order: Sequence[str]) -> JobProblem:
    """Blame a party for a missed deadline; equal reports give equal blame everywhere."""
    culprits_in_order = sorted(culprits(reports, start), key=order.index)
    chain = _waiting_chain(reports, start)
    if not culprits_in_order:
        return JobProblem(
            "transport.lost", BROKER, f"a message was lost on the way: {chain}, in a circle (deadline '{deadline}')"
        )
    name = culprits_in_order[0]
    if name in reports:
        return JobProblem(
            "party.busy",
            name,
            f"{name} is alive but has not answered within the deadline '{deadline}': {chain}. "
            f"Look at {name}'s log, or allow more time under [deadlines]",
        )
    return JobProblem(
        "party.silent",
        name,
        f"{name} has not been heard of within the deadline '{deadline}': {chain}. "
        f"Is its agent running and connected to the broker{_first_contact(deadline, start, name)}?",
    )


def _first_contact(deadline: str, start: str, name: str) -> str:
    # Whoever does not have the key of a job's submitter cannot read the announcement, and does not answer strangers.
    if deadline != "accept":
        return ""
    return (
        f", on the same virtual host, and do the settings of both, {start}'s and its own, hold the other's key (if "
        f"not, {name}'s log says 'message refused')"
    )


def _stage_suffix(report: Report) -> str:
    return f" ({report.stage})" if report.stage else ""


def _waiting_chain(reports: Mapping[str, Report], start: str) -> str:
    links = [
        f"{party} waits for {' and '.join(reports[party].waits_for)}{_stage_suffix(reports[party])}"
        for party in _reachable(reports, start)
        if party in reports and reports[party].waits_for
    ]
    shown = ", ".join(links[:MOST_LINKS]) + (", and so on" if len(links) > MOST_LINKS else "")
    return shown or f"{start} waits for nobody"
