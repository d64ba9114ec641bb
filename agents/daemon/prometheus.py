"""Gathers an agent's metrics for Prometheus: jobs, steps, traffic, waits, connections.

Labels name parties, states, kinds and rounds; no job, table, column or value is in them, and their number is bounded.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from tercet.agents.access.connections import BrokerLink
from tercet.agents.core import error_codes
from tercet.agents.core.states import TERMINAL, State
from tercet.agents.daemon.agent import Agent
from tercet.agents.daemon.health import LoopMonitor, count_unconsumed, health_problems, readiness_problems
from tercet.agents.runs.run import JobRun
from tercet.agents.session.statistics import STEP_BOUNDS, StepLengths
from tercet.broker.interface.base import Broker
from tercet.schemas.messages.kinds import PROTOCOL_VERSION

OTHER: Final = "other"  # a partner of a later release may name a code that this one does not know

REASONS: Final = {  # of a refusal, by the error that it was
    "MalformedAddress": "address",
    "MalformedMessage": "malformed",
    "Forged": "seal",
    "Unwanted": "unwanted",
}

Sample = tuple[tuple[str, ...], float]


class Metrics:
    """Gathers one agent's metrics in the event loop; `text` may format them anywhere."""

    def __init__(self, agent: Agent, broker: Broker, pulse: LoopMonitor) -> None:
        self._agent, self._broker, self._pulse = agent, broker, pulse
        self._started = time.time()
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def gather(self) -> tuple[Metric, ...]:
        """Gather all metrics as they stand now."""
        agent, runs = self._agent, self._agent.runs
        for run in runs:
            agent.jobs.counters.count_job(run)
        parts = (
            self._agent_itself(),
            _jobs(runs),
            _sums(agent),
            _memory_use(runs),
            self._disk(),
            self._process.collect(),
        )
        return tuple(metric for part in parts for metric in part)

    def _agent_itself(self) -> Iterator[Metric]:
        agent, settings = self._agent, self._agent.settings
        build = {"version": version("tercet"), "protocol": str(PROTOCOL_VERSION), "party": agent.me}
        labels = {**build, "role": settings.role}
        yield _gauge("tercet_build_info", "Version and party, in labels", [(tuple(labels.values()), 1)], *labels)
        yield _gauge("tercet_start_time_seconds", "When the agent started", [((), self._started)])
        yield _gauge(
            "tercet_ready", "Whether a job could begin here now", [((), not readiness_problems(agent, self._broker))]
        )
        yield _gauge("tercet_alive", "Whether the agent can go on", [((), not health_problems(agent, self._broker))])
        yield _gauge("tercet_event_loop_lag_seconds", "The worst of the last minute", [((), self._pulse.lag)])
        yield _gauge("tercet_jobs_most", "Jobs at a time, as settings allow", [((), settings.limits.parallel_jobs)])
        yield _gauge(
            "tercet_jobs_unheard", "Running jobs whose queues are not consumed", [((), count_unconsumed(agent))]
        )
        yield _gauge("tercet_broker_blocked", "Whether the broker takes nothing", [((), bool(self._broker.blocked))])
        if isinstance(self._broker, BrokerLink):
            yield _gauge("tercet_broker_connected", "Whether both connections stand", [((), self._broker.connected)])
            reconnects, buried = float(self._broker.reconnects), float(self._broker.dead_letter_count)
            yield _counter("tercet_broker_reconnects", "Connections that came back", [((), reconnects)])
            yield _counter("tercet_dead_letters", "Refused messages that are kept", [((), buried)])

    def _disk(self) -> Iterator[Metric]:
        with suppress(OSError):
            usage = shutil.disk_usage(self._agent.settings.state)
            yield _gauge("tercet_state_free_bytes", "Left on the disk of the state folder", [((), usage.free)])
            yield _gauge("tercet_state_size_bytes", "Size of that disk", [((), usage.total)])


def text(metrics: Iterable[Metric]) -> bytes:
    """Format gathered metrics as Prometheus reads them."""
    return generate_latest(_GatheredRegistry(metrics))


class _GatheredRegistry(CollectorRegistry):
    """Holds metrics that were gathered before."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        super().__init__(auto_describe=False)
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def _jobs(runs: Iterable[JobRun]) -> Iterator[Metric]:
    """Gather the running jobs; a party that several of them wait for delays them all."""
    states = Counter(str(run.state) for run in runs)
    waits = Counter(party for run in runs for party in run.status().waits_for)
    running = [((str(state),), float(states[state])) for state in State if state not in TERMINAL]
    yield _gauge("tercet_jobs", "Jobs that run here now", running, "state")
    waiting = [((party,), float(count)) for party, count in sorted(waits.items())]
    yield _gauge("tercet_jobs_waiting", "Running jobs that wait for a party", waiting, "party")
    asked = sum(run.approval.is_waiting for run in runs)
    yield _gauge("tercet_approvals_waiting", "Jobs that wait for a person at this party", [((), asked)])
    unsaved = [run.context.statistics.step - run.context.statistics.checkpoint for run in runs]
    most = [((), float(max(0, *unsaved)))] if unsaved else []
    yield _gauge("tercet_steps_since_checkpoint", "Of the running job that has most to lose", most)


def _sums(agent: Agent) -> Iterator[Metric]:
    """Gather the sums since the agent started."""
    of = agent.jobs.counters.sums_of
    yield _counter("tercet_jobs_begun", "Jobs received or submitted", _samples(of("jobs")), "kind")
    yield _counter("tercet_jobs_ended", "Jobs that ended here", _samples(of("ended")), "state")
    yield _counter("tercet_jobs_failed", "Failed jobs by code", _samples(_by_known_code(of("failed"))), "code")
    yield _steps(agent.jobs.counters.steps)
    yield _counter("tercet_sent_bytes", "Sealed bytes confirmed by the broker", _samples(of("sent bytes")), "kind")
    yield _counter("tercet_sent_messages", "Messages confirmed", _samples(of("sent messages")), "kind")
    what = "Optional messages that nobody took: heartbeats to a party that is away"
    yield _counter("tercet_messages_dropped", what, _samples(of("dropped")), "kind")
    yield _counter("tercet_waited_seconds", "Seconds spent waiting for others", _samples(of("waited")), "round")
    yield _counter("tercet_messages_refused", "Messages not taken", _samples(_refusals(agent)), "reason")
    yield _counter("tercet_attempts", "Attempts begun, the first of each job too", _samples(of("attempts")), "kind")
    for what in ("written", "failed"):
        count = of("checkpoints").get(what, 0)
        yield _counter(f"tercet_checkpoints_{what}", f"Checkpoints {what}", [((), count)])


def _refusals(agent: Agent) -> Counter[str]:
    """Gather refused messages, of jobs' queues and of the standing queue."""
    reasons: Counter[str] = Counter()
    for errors in (agent.jobs.counters.sums_of("refused"), agent.refused):
        for error, count in errors.items():
            reasons[REASONS.get(error, OTHER)] += int(count)
    return reasons


def _by_known_code(codes_seen: Mapping[str, float]) -> dict[str, float]:
    """Count by this release's codes only, so that nobody else makes new labels."""
    known: Counter[str] = Counter()
    for code, count in codes_seen.items():
        known[code if code in error_codes.all_codes() else OTHER] += int(count)
    return {code: float(count) for code, count in known.items()}


def _steps(lengths: StepLengths) -> Metric:
    bounds = [*(str(bound) for bound in STEP_BOUNDS), "+Inf"]
    sums = [float(sum(lengths.counts[: place + 1])) for place in range(len(bounds))]
    name, what = "tercet_step_seconds", "How long steps took, those that an attempt did again too"
    histogram = HistogramMetricFamily(name, what)
    histogram.add_metric([], list(zip(bounds, sums, strict=True)), lengths.seconds)
    return histogram


def _memory_use(runs: Iterable[JobRun]) -> Iterator[Metric]:
    lanes: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for run in runs:
        lanes.update(run.in_flight)
        held.update(run.context.mailbox.held_bytes)
    yield _gauge("tercet_in_flight_bytes", "Sent and not yet confirmed", _samples(lanes), "lane")
    yield _gauge("tercet_inbox_bytes", "Received of a party and not yet used", _samples(held), "party")


def _samples(values: Mapping[str, float]) -> list[Sample]:
    return [((what,), float(value)) for what, value in sorted(values.items())]


def _gauge(name: str, what: str, samples: Iterable[Sample], *labels: str) -> Metric:
    return _fill(GaugeMetricFamily(name, what, labels=labels), samples)


def _counter(name: str, what: str, samples: Iterable[Sample], *labels: str) -> Metric:
    return _fill(CounterMetricFamily(name, what, labels=labels), samples)


def _fill(family: Any, samples: Iterable[Sample]) -> Metric:
    for labels, value in samples:
        family.add_metric(labels, float(value))
    filled: Metric = family
    return filled
