"""Lists the keyword arguments of a job by name and type: all fields of JOB.toml.

`tests/agents/api/test_jobs.py` compares it with the schema. It holds no defaults: these are the schema's.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from tercet.schemas.files.job import ModelKind, Release
from tercet.schemas.files.statistics import Correlations, LabelModel

Schedule = Literal["constant", "inverse-time", "exponential", "linear"]
Activation = Literal["relu", "leaky-relu", "tanh", "sigmoid", "gelu", "silu", "softplus"]
Output = Literal["logistic", "linear", "softmax", "one-vs-rest", "poisson"]


class TrainingFields(TypedDict, total=False):
    """Names what a training may say beside who takes part; docs/jobs.md explains each."""

    model: ModelKind
    release: Release
    alignment: Literal["helper", "ecdh", "aligned"]
    accept_narrow: bool
    columns: Mapping[str, Sequence[str]]
    purpose: str
    offset: str
    exposure: str
    power: float
    # [training]
    epochs: int
    batch: int | Literal["auto"]
    rate: float | Literal["auto"]
    schedule: Schedule
    decay: float
    l2: float
    final: float
    weights: str
    class_weights: Literal["balanced"] | Mapping[str, float]
    # [network]
    hidden: Sequence[int]
    activation: Activation
    output: Output
    # [evaluation]
    holdout: float
    split: str
    holdout_column: str
    holdout_from: float | str
    folds: int
    metrics: Literal["none", "end", "epoch"]
    every: int
    loss: bool
    held_out_loss: bool
    held_out_scores: bool
    loss_to: Literal["label", "all"]
    # [early_stopping]
    on: str
    patience: int
    least_gain: float
    # [scorecard]
    pdo: float
    base_points: float
    base_odds: float
    positives: Literal["bad", "good"]
    # [privacy]
    helper_sees: Literal["nothing", "scores"]
    q: int
    terms: int
    hidden_q: int
    hidden_terms: int
    checks: int
    checked: float


class StatisticsFields(TypedDict, total=False):
    """Names what a statistics job may say beside who takes part; docs/jobs.md explains each."""

    model: LabelModel
    alignment: Literal["helper", "ecdh", "aligned"]
    columns: Mapping[str, Sequence[str]]
    purpose: str
    standby: Sequence[str]
    # [statistics]
    bins: int
    binning: Literal["quantile", "width"]
    least: int
    woe: bool
    correlations: Correlations
    # [evaluation]
    holdout: float
    split: str
    holdout_column: str
    holdout_from: float | str


class JobFields(TrainingFields, total=False):
    """Names what a training job may say beside name, label, helper and tables."""

    standby: Sequence[str]
    start: str
    # [encoding]
    woe: str
