"""The agents of a short soak hold afterwards what they held before: `make soak` is the long one."""

from pathlib import Path

from tests.rabbitmq_node import Node
from tests.soak.figures import allowed, growth_of, look
from tests.soak.run import agents, complaints, soak, train_first

EXACT = ("open files", "threads", "tasks", "queues", "bindings", "channels", "connections", "consumers", "messages")


def test_jobs_of_ten_kinds_leave_nothing_behind(tmp_path: Path, rabbitmq: Node) -> None:
    """Trainings, a prediction, jobs that are refused, that find no common rows, and one that is cancelled."""
    with agents(tmp_path, rabbitmq.url) as three:
        of = train_first(three)
        before = look(three, rabbitmq)
        jobs = soak(three, range(10), of, 5)
        after = look(three, rabbitmq)
        assert len(set(jobs)) == 10
        assert complaints(three) == []
        growth = {where: count for where, count in growth_of(before, after, 10).items() if where[1] in EXACT}
        assert growth == {}


def test_a_growth_is_found_where_it_is_and_only_beyond_what_is_allowed() -> None:
    """One file too many is; memory has some room, for each job too."""
    before = {("bank", "open files"): 15, ("bank", "memory KiB"): 350_000, ("broker", "queues"): 3}
    most = int(allowed("memory KiB", 100))
    assert growth_of(before, before | {("bank", "memory KiB"): 350_000 + most}, 100) == {}
    assert growth_of(before, before | {("bank", "memory KiB"): 350_001 + most}, 100) == {
        ("bank", "memory KiB"): most + 1
    }
    assert growth_of(before, before | {("bank", "open files"): 16}, 100) == {("bank", "open files"): 1}
    assert growth_of(before, before | {("broker", "queues"): 2}, 100) == {}
