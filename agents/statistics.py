"""What a job has cost so far at one party: steps, seconds and processor time.

Bounded memory; nothing here touches data.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from statistics import median

REMEMBERED_STEPS = 4096


@dataclass(slots=True)
class Statistics:
    """Kept by the training loop, read by status and benchmarks."""

    epoch: int = 0
    step: int = 0  # steps finished over the whole job
    steps: int = 0
    table_rows: int = 0  # of our own table
    rows: int = 0  # trained on or scored
    held_out: int = 0
    columns: int = 0  # of our own, encoded
    stage_seconds: dict[str, float] = field(default_factory=dict)  # of the stages that are over
    _stage: tuple[str, float] | None = None
    _intervals: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED_STEPS))
    _last: float = 0.0
    _processor_start: float = 0.0
    _processor_end: float | None = None

    def enter(self, stage: str | None) -> None:
        """A stage begins, and the one before it is over."""
        now = time.perf_counter()
        if self._stage is not None:
            before, since = self._stage
            self.stage_seconds[before] = self.stage_seconds.get(before, 0.0) + now - since
        self._stage = None if stage is None else (stage, now)

    def begin(self) -> None:
        """The first step starts now."""
        self._last, self._processor_start = time.perf_counter(), time.process_time()

    def finished(self, epoch: int, step: int) -> None:
        """A step is done."""
        now = time.perf_counter()
        self._intervals.append(now - self._last)
        self.epoch, self.step, self._last = epoch, step + 1, now

    def end(self) -> None:
        """The last step is over."""
        self._processor_end = time.process_time()

    @property
    def seconds_per_step(self) -> float | None:
        """The median of the last steps."""
        return median(self._intervals) if self._intervals else None

    @property
    def processor_seconds(self) -> float | None:
        """Of the whole process, from the first step to the last."""
        if not self.steps:
            return None
        return (self._processor_end or time.process_time()) - self._processor_start
