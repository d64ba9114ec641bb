"""Any valid message of each kind, for Hypothesis."""

from typing import Any, get_args

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tercet.schemas.core.names import JOB_ID_PATTERN, NAME_PATTERN
from tercet.schemas.core.strict import Strict
from tercet.schemas.files.job import Evaluation, ModelKind, Network, PredictionJob, Training, TrainingJob
from tercet.schemas.messages import kinds
from tercet.schemas.messages.kinds import Message


def build(model: type[Strict]) -> None:
    """Build a model and those made of it, whose signatures `st.builds` reads; else the first use builds them."""
    model.model_rebuild()
    for one in model.__subclasses__():
        build(one)


build(Strict)

names = st.from_regex(NAME_PATTERN, fullmatch=True)
job_ids = st.from_regex(JOB_ID_PATTERN, fullmatch=True)
counts = st.integers(0, 2**40 - 1)
outputs = st.integers(1, 1000)
digests = st.binary(min_size=32, max_size=32)
exponents = st.integers(0, 64)
signatures = st.binary(min_size=64, max_size=64)
versions = st.integers(0, 2**16 - 1)
sentences = st.text(max_size=200)
stages = st.text(max_size=64)
finite = st.floats(allow_nan=False, allow_infinity=False)
words = npst.arrays(np.uint64, npst.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=5))
party_lists = st.lists(names, max_size=4).map(tuple)
codes = st.from_regex(r"[a-z]{1,9}(\.[a-z-]{1,9}){1,3}", fullmatch=True)

trainings = st.builds(
    Training,
    epochs=st.integers(1, 100_000),
    batch=st.integers(1, 2**24),
    rate=st.floats(1e-9, 1e9),
    schedule=st.sampled_from(["constant", "inverse-time", "exponential"]),
    decay=st.floats(0, 10),
    l2=st.floats(0, 0.99),
) | st.builds(Training, l2=st.floats(0, 0.99), final=st.floats(0.01, 1))
evaluations = st.builds(
    Evaluation,
    holdout=st.floats(0, 0.9),
    metrics=st.sampled_from(["none", "end", "epoch"]),
    loss=st.booleans(),
    loss_to=st.sampled_from(["label", "all"]),
) | st.builds(
    Evaluation,
    holdout=st.floats(0.01, 0.9),
    metrics=st.just("epoch"),
    every=st.integers(1, 9),
    held_out_loss=st.booleans(),
    loss=st.booleans(),
)

models: st.SearchStrategy[ModelKind] = st.sampled_from(get_args(ModelKind))
networks = st.builds(
    Network,
    hidden=st.lists(st.integers(1, 4096), min_size=1, max_size=8).map(tuple),
    activation=st.sampled_from(["relu", "leaky-relu", "tanh", "sigmoid", "gelu", "silu", "softplus"]),
    output=st.sampled_from(["logistic", "linear", "softmax", "poisson"]),
)


columns = st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=3, unique=True).map(tuple)


@st.composite
def predictions(draw: st.DrawFn) -> PredictionJob:
    """A prediction of two to four data parties."""
    job = draw(descriptions())
    common = {
        name: getattr(job, name) for name in ("name", "label", "helper", "tables", "alignment", "again", "purpose")
    }
    return PredictionJob(
        kind="prediction", of=draw(job_ids), format=draw(st.sampled_from(["csv", "parquet"])), **common
    )


@st.composite
def descriptions(draw: st.DrawFn) -> TrainingJob:
    """A job of two to four data parties."""
    parties = draw(st.lists(names, min_size=3, max_size=5, unique=True))
    model = draw(models)
    return TrainingJob(
        name=draw(names),
        model=model,
        network=draw(networks) if model == "mlp" else None,
        label=draw(st.sampled_from(parties[1:])),
        helper=parties[0],
        tables=tuple((party, draw(names)) for party in parties[1:]),
        training=draw(trainings),
        alignment=draw(st.sampled_from(["helper", "aligned"])),
        evaluation=draw(evaluations),
        early_stopping=None,
        release=draw(st.sampled_from(["owners", "shared", "label"])),
        accept_narrow=draw(st.booleans()),
        again=draw(st.text(max_size=32)),
        purpose=draw(st.text(max_size=20)),
        columns=draw(
            st.dictionaries(st.sampled_from(parties[1:]), columns, max_size=2).map(lambda one: tuple(one.items()))
        ),
    )


members = st.builds(kinds.Member, name=names, role=st.sampled_from(["data", "helper"]), key=st.text(max_size=256))
failures = st.builds(
    kinds.Failure, code=codes, stage=stages, culprit=names, reason=sentences, verdict=st.booleans()
)  # fmt: skip
party_statuses = st.builds(
    kinds.PartyStatus,
    party=names,
    state=stages,
    stage=stages,
    epoch=counts,
    step=counts,
    waits_for=party_lists,
    heard=finite,
)
held = st.builds(kinds.HeldCheckpoint, lineage=digests, steps=counts, over=st.booleans())
scoring_terms = st.builds(
    kinds.ScoringTerms,
    model=st.text(max_size=32),
    release=st.sampled_from(["owners", "shared", "label"]),
    fx=st.integers(1, 32),
    f=st.integers(1, 62),
    network=st.none() | networks,
    alpha=st.floats(0, 1, exclude_min=True),
    exponent=exponents,
    seeds=st.lists(digests, max_size=3).map(tuple),
)
hashes = st.integers(0, 4).flatmap(lambda n: st.binary(min_size=16 * n, max_size=16 * n))
elements = st.integers(0, 4).flatmap(lambda n: st.binary(min_size=32 * n, max_size=32 * n))
releases = st.text(max_size=20)
partner_answers = st.builds(
    kinds.PartnerAnswer,
    party=names,
    answered=st.booleans(),
    lowest=versions,
    highest=versions,
    release=releases,
    role=st.sampled_from(["", "data", "helper"]),
    clock=st.none() | finite,
    seconds=st.none() | finite,
    why=st.text(max_size=20),
)
job_statuses = st.builds(
    kinds.JobStatus,
    job=job_ids,
    kind=stages,
    state=stages,
    model=stages,
    label=names,
    helper=names,
    parties=st.lists(party_statuses, max_size=3).map(tuple),
    submitted=stages,
    seconds_per_step=st.none() | finite,
    sent_bytes=st.dictionaries(stages, counts, max_size=3),
    waits_for=party_lists,
    failure=st.none() | failures,
)

FIELDS: dict[type[Message], dict[str, st.SearchStrategy[Any]]] = {
    kinds.Job: {
        "id": job_ids,
        "run": digests,
        "description": descriptions() | predictions(),
        "members": st.lists(members, max_size=4).map(tuple),
        "submitter": names,
        "issued": counts,
        "expires": counts,
        "signature": st.just(b"") | signatures,
    },
    kinds.Approvers: {"parties": party_lists},
    kinds.Start: {"attempt": counts, "version": versions},
    kinds.Sizes: {
        "rows": counts,
        "held_out": counts,
        "columns": counts,
        "outputs": outputs,
        "model": st.none() | digests,
    },
    kinds.Terms: {
        "rows": counts,
        "held_out": counts,
        "columns": st.lists(counts, max_size=4).map(tuple),
        "outputs": outputs,
        "plan": digests,
        "scoring": st.none() | scoring_terms,
    },
    kinds.Progress: {
        "state": st.text(max_size=32),
        "epoch": counts,
        "step": counts,
        "steps": counts,
        "stage": stages,
        "waits_for": st.lists(names, max_size=17).map(tuple),
        "interval": st.floats(0.001, 3600),
        "overdue": st.none() | st.text(max_size=32),
        "checkpoint": counts,
        "helper": names,
        "lost": st.booleans(),
    },
    kinds.Checkpoints: {"held": st.lists(held, max_size=4).map(tuple)},
    kinds.GoOn: {"begin": st.none() | held, "kept": counts},
    kinds.Inquiry: {"id": job_ids, "run": digests},
    kinds.Outcome: {"state": st.text(max_size=32), "failure": st.none() | failures},
    kinds.Resumption: {"id": job_ids, "run": digests, "issued": counts},
    kinds.ScoreBound: {"exponent": exponents},
    kinds.ModelCommitments: {"exponent": exponents, "seeds": st.lists(digests, max_size=3).map(tuple)},
    kinds.WeightMaskSeed: {"secret": digests},
    kinds.Cancel: {"by": st.none() | names},
    kinds.Handshake: {"key": digests, "signature": signatures},
    kinds.Transcript: {"signature": signatures},
    kinds.OrderCommitment: {"commitment": digests},
    kinds.OrderContribution: {"secret": digests},
    kinds.OrderConfirmation: {"confirmation": digests},
    kinds.SplitKey: {"agreed": st.booleans(), "proof": digests},
    kinds.Pseudonyms: {"pseudonyms": hashes, "last": st.booleans()},
    kinds.Presence: {"bits": st.binary(max_size=20)},
    kinds.BlindedIds: {"elements": elements, "last": st.booleans()},
    kinds.TwiceBlindedIds: {"hashes": hashes},
    kinds.HeldOutRows: {"bits": st.binary(max_size=20)},
    kinds.AlignedRows: {"rows": counts, "ids": digests},
    kinds.ColumnEncoding: {"encoding": st.binary(max_size=40)},
    kinds.BinCounts: {
        "bins": st.lists(st.integers(1, 1002), max_size=5).map(tuple),
        "numeric": st.lists(st.integers(0, 9), max_size=3).map(tuple),
        "classes": st.integers(0, 1000),
    },
    kinds.ColumnNames: {"names": st.binary(max_size=40)},
    kinds.LabelUnit: {"exponent": st.integers(-2000, 2000)},
    kinds.CheckCommitment: {"commitment": digests},
    kinds.CheckOpening: {"salt": digests},
    kinds.EpochDecision: {"best": st.booleans(), "go_on": st.booleans()},
    kinds.RowMaskKey: {"secret": digests},
    kinds.SentRowDigests: {"digests": st.lists(digests, max_size=3).map(tuple)},
    kinds.StepsDone: {"done": counts},
    kinds.SpreadShare: {"words": words, "opened": digests},
    kinds.ScoreOpening: {"words": words, "checkpoint": st.booleans()},
    kinds.MaskedLabels: {"words": words, "checkpoint": st.booleans()},
    kinds.Submit: {"description": descriptions() | predictions()},
    kinds.Query: {
        "job": st.none() | job_ids,
        "cancel": st.booleans(),
        "partners": st.booleans(),
        "reveals": st.booleans(),
    },
    kinds.Prune: {
        "days": st.floats(0, 1e6),
        "models": st.booleans(),
        "remove": st.booleans(),
        "who": st.text(max_size=20),
    },
    kinds.Decide: {"job": job_ids, "approve": st.booleans(), "who": st.text(max_size=20), "why": st.text(max_size=20)},
    kinds.Status: {
        "jobs": st.lists(job_statuses, max_size=2).map(tuple),
        "partners": st.lists(partner_answers, max_size=2).map(tuple),
        "reveals": st.lists(sentences, max_size=2).map(tuple),
        "problem": st.none() | sentences,
    },
    kinds.Ping: {"lowest": versions, "highest": versions, "release": releases},
    kinds.Pong: {
        "lowest": versions,
        "highest": versions,
        "release": releases,
        "role": st.sampled_from(["data", "helper"]),
        "time": st.floats(0, 2**39),
    },
    kinds.ScoreRequest: {
        "model": job_ids,
        "digest": st.binary(min_size=32, max_size=32),
        "purpose": st.text(max_size=20),
        "issued": st.floats(0, 2**39),
        "rows": st.integers(0, 3).flatmap(lambda rows: st.binary(min_size=16 * rows, max_size=16 * rows)),
    },
    kinds.ScoreRefusal: {"code": codes, "culprit": names, "reason": sentences},
    kinds.ScoreQuery: {
        "model": job_ids,
        "table": names,
        "purpose": st.text(max_size=20),
        "who": st.text(max_size=20),
        "ids": st.lists(st.text(max_size=20), max_size=3).map(tuple),
    },
    kinds.ScoreReply: {
        "link": st.just("logistic"),
        "known": st.binary(max_size=3),
        "scores": st.binary(max_size=24),
        "failure": st.none() | failures,
    },
}
"""What messages are made of that hold more than words; a field that is not named has its default."""

EACH: dict[type[Message], st.SearchStrategy[Message]] = {
    **{model: st.builds(model, **fields) for model, fields in FIELDS.items()},
    **{model: st.builds(model) for model in Message.__subclasses__() if not model.model_fields},
    **{
        model: st.builds(model, words=words)
        for model in Message.__subclasses__()
        if model.model_fields.keys() == {"words"}
    },
    kinds.Received: st.tuples(versions, versions, st.booleans()).map(
        lambda one: kinds.Received(lowest=min(one[:2]), highest=max(one[:2]), asks=one[2])
    ),
    kinds.Failure: failures,
}
messages = st.one_of(*EACH.values())
