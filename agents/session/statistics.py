"""Measures a job's cost so far at one party: steps, seconds and processor time.

Bounded memory; nothing here touches data.
"""

import time
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean

MOST_INTERVALS = 4096
STEP_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds


@dataclass(slots=True)
class StepLengths:
    """Counts steps by their length: one count for each of STEP_BOUNDS, one for longer steps."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(STEP_BOUNDS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one step more."""
        self.counts[bisect_left(STEP_BOUNDS, seconds)] += 1
        self.seconds += seconds

    def move_from(self, other: "StepLengths") -> None:
        """Move everything of another one here."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds
        other.counts, other.seconds = [0] * len(other.counts), 0.0


@dataclass(slots=True)
class Statistics:
    """Holds figures of the training loop for status and benchmarks."""

    epoch: int = 0
    step: int = 0  # steps finished over the whole job
    steps: int = 0
    table_rows: int = 0  # of our own table
    rows: int = 0  # trained on or scored
    held_out: int = 0
    columns: int = 0  # of our own, encoded
    checkpoint: int = 0  # steps done at the last one that is on the disk in this attempt, or that it goes on from
    fold: int = 0  # which is held out, from 1; 0 in the training of the job's own model
    steps_before: int = 0  # of folds that are over
    checkpoints_written: int = 0
    checkpoints_failed: int = 0
    stage_seconds: dict[str, float] = field(default_factory=dict)  # of the stages that are over
    lengths: StepLengths = field(default_factory=StepLengths)  # of steps that no sum over all jobs has yet
    _stage: tuple[str, float] | None = None
    _intervals: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_INTERVALS))
    _last: float = 0.0
    _processor_start: float = 0.0
    _processor_end: float | None = None

    def enter_stage(self, stage: str | None) -> None:
        """Start a stage, and end the one before it."""
        now = time.perf_counter()
        if self._stage is not None:
            before, since = self._stage
            self.stage_seconds[before] = self.stage_seconds.get(before, 0.0) + now - since
        self._stage = None if stage is None else (stage, now)

    def resume_from(self, steps: int) -> None:
        """Start an attempt after so many steps."""
        self.step = self.checkpoint = steps

    def begin_fold(self, fold: int | None) -> None:
        """Begin the next training of a job with folds."""
        self.steps_before += self.steps
        self.fold, self.epoch, self.step, self.steps, self.checkpoint = fold or 0, 0, 0, 0, 0

    @property
    def resumed_from(self) -> int:
        """Steps done at the checkpoint that the attempt goes on from, those of earlier folds too."""
        return self.steps_before + self.checkpoint

    def start_steps(self) -> None:
        """Start the clock of the first step."""
        self._last, self._processor_start = time.perf_counter(), time.process_time()

    def note_step(self, epoch: int, step: int) -> None:
        """Note that a step is done."""
        now = time.perf_counter()
        self._intervals.append(now - self._last)
        self.lengths.add(now - self._last)
        self.epoch, self.step, self._last = epoch, step + 1, now

    def stop_steps(self) -> None:
        """Stop the clock after the last step."""
        self._processor_end = time.process_time()

    @property
    def seconds_per_step(self) -> float | None:
        """The mean of the last steps: one in a few is long where a helper deals several at once."""
        return fmean(self._intervals) if self._intervals else None

    @property
    def processor_seconds(self) -> float | None:
        """Of the whole process, from the first step to the last."""
        if not self.steps:
            return None
        return (self._processor_end or time.process_time()) - self._processor_start
