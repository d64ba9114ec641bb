"""Describes what an operator allows jobs to do: in general, by table and by partner.

It holds names, numbers and consents; a job never changes any of it.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from tercet.schemas.core.strict import Name, TomlModel
from tercet.schemas.files.job import ModelKind, Release
from tercet.schemas.files.statistics import Correlations

DAY_SECONDS = 86_400

Purpose = Annotated[str, StringConstraints(max_length=200)]


class PolicySettings(TomlModel):
    """Limits what any job may ask of this party.

    None stands for no restriction.

    Attributes:
        approval: whether each job of a partner waits for a person here, too.
        approvals: how many persons must approve such a job, each with a name of their own.
        purposes: a job names one of these.
        models: the kinds of models that are trained here.
        releases: what may become of the weights.
        metrics: how often held-out rows may be scored: never, at the end, or after each epoch.
        held_out_scores: whether label parties may have the scores of held-out rows as a file, with ids.
        loss: whether the training loss and the held-out loss may be opened.
        helper_sees: "nothing": no helper may compute activations from scores; "scores": it may.
        statistics: what statistics jobs may tell of this party's table: nothing, "none"; "cells": to the label party
            rows and label of each bin of its columns, and to each owner which of its own bins have few rows of a class
            of this party's label; "woe": to each owner this party's label by bin too.
        statistics_of_amounts: whether that holds for labels that are counts or amounts too. A label party that chooses
            powers of two as the labels of few rows learns the bins of each of them.
        correlations: to whom correlations of this party's numeric columns may be told: "none" to nobody, "pairs" to
            the two parties of each, "label" to the label party too.
        column_names: whether label parties may learn in statistics what this party's columns are called.
        narrow: whether this party's columns may be exposed, being few, where a job says accept_narrow.
        max_epochs: the longest training.
        job_seconds: jobs are taken that are valid for at most so long.
        score_noise: this party's own noise, uniform in plus or minus this, on its part of every score that leaves.
    """

    approval: bool = False
    approvals: int = Field(default=1, ge=1, le=8)
    purposes: tuple[Purpose, ...] | None = None
    models: tuple[ModelKind, ...] | None = None
    releases: tuple[Release, ...] = ("owners", "shared", "label")
    metrics: Literal["none", "end", "epoch"] = "epoch"
    held_out_scores: bool = False
    loss: bool = True
    helper_sees: Literal["nothing", "scores"] = "nothing"
    statistics: Literal["none", "cells", "woe"] = "cells"
    statistics_of_amounts: bool = False
    correlations: Correlations = "none"
    column_names: bool = False
    narrow: bool = False
    max_epochs: int | None = Field(default=None, ge=1)
    job_seconds: int = Field(default=DAY_SECONDS, ge=60, le=30 * DAY_SECONDS)
    score_noise: float = Field(default=0.03125, ge=0, le=1)

    @model_validator(mode="after")
    def _somebody_is_asked(self) -> Self:
        if self.approvals > 1 and not self.approval:
            raise ValueError("approvals counts persons where approval = true asks for them; write that too")
        return self


class TablePolicy(TomlModel):
    """Limits the jobs that may use one table.

    None stands for every partner, or any purpose.

    Attributes:
        purposes: a job names one of these.
        submitters: whose jobs may name the table; this party's own always may.
        partners: the other data parties that a job over the table may have.
        helpers: who may help in such a job.
        max_total_scorings: how often one label party may have rows of the table scored, held out or in predictions,
            for each of the model's outputs, by all its jobs together. So are the others that begin with max_ meant.
        max_releases: how many models that were trained on the table may be released.
        max_score_bits: how many bits of a record scores may tell; None stands for what a record holds.
        max_predictions: how many predictions there may be.
        max_scored_rows: how many rows may be scored, again and again counted.
        max_losses: how many losses may be opened.
        max_alignments: how often ids may be matched.
        max_models: how many models may be trained.
        max_statistics: how many jobs may tell statistics of the table.
        max_profiles: of how many sets of columns jobs are told before approval what is wrong with them.
        rescoring: whether a row may be scored again under one model, by another job.
        served_rows_a_day: how many ids in a day may be asked for anew while a customer waits.
    """

    purposes: tuple[Purpose, ...] | None = None
    submitters: tuple[Name, ...] | None = None
    partners: tuple[Name, ...] | None = None
    helpers: tuple[Name, ...] | None = None
    max_total_scorings: int = Field(default=256, ge=0)
    max_releases: int = Field(default=256, ge=0)
    max_score_bits: float | None = Field(default=None, ge=0)
    max_predictions: int = Field(default=1000, ge=0)
    max_scored_rows: int = Field(default=100_000_000, ge=0)
    max_losses: int = Field(default=10_000, ge=0)
    max_alignments: int = Field(default=1000, ge=0)
    max_models: int = Field(default=1000, ge=0)
    max_statistics: int = Field(default=8, ge=0)
    max_profiles: int = Field(default=4, ge=0)
    rescoring: bool = False
    served_rows_a_day: int = Field(default=10_000, ge=0)


class PartnerPolicy(TomlModel):
    """Limits what one partner may do.

    Attributes:
        may_submit: whether jobs from it are taken.
        may_hold_model: whether it, as the label party, may receive the whole model, our columns' weights and encoding
            included, where a job says release = "label"; and whether models that it has so received still score rows.
        may_help: whether it may be the helper of a job.
        predictions: whether it, as the label party, may have rows of ours scored by a prediction.
        serving_table: the table whose rows it, as the label party, may have scored one by one while a customer waits;
            None stands for none.
    """

    may_submit: bool = False
    may_hold_model: bool = False
    may_help: bool = True
    predictions: bool = True
    serving_table: Name | None = None
