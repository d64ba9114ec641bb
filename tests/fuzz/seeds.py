"""Valid inputs for each target: what fuzzing begins with and changes.

They are made by the code that writes such things, so that they keep up with it; nothing here is read back.
"""

import hashlib
import json
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pamqp.frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel, Queue
from pamqp.header import ContentHeader
from safetensors.numpy import save as to_safetensors

from tercet.agents.jobs.records import Record
from tercet.agents.models.full_model import Columns, FullModel, ModelDescription, write
from tercet.agents.models.model_part import MANIFEST, save
from tercet.agents.policy.audit_log import AuditLog
from tercet.agents.session.checkpoint_store import Checkpoint, CheckpointFolder
from tercet.agents.session.fixed_randomness import FILE, FixedRandomness
from tercet.broker.sealing.identity import Identity, save_identity
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.messages.codec import Companion, encode
from tercet.schemas.messages.kinds import (
    HeldCheckpoint,
    Job,
    JobStatus,
    MaskedInputs,
    MaskedWeights,
    Member,
    Message,
    OrderContribution,
    Ready,
    Sizes,
    Status,
)
from tests.agents.models.test_model_part import ENCODING, SHARED, owned, part, shared

SETTINGS = """
party = "card"
identity = "keys/card.pem"
state = "~/tercet"
role = "data"
report = false
[broker]
url = "amqps://broker.example:5671/"
credentials = "credentials.toml"
certificate = "card.crt"
key = "card.key"
[tables.delays]
path = "delays.csv"
id = "customer"
label = "late"
columns = ["a", "b"]
categorical = ["b"]
missing = "refuse"
clip = 8.0
rare = 3
[tables.own]
database = "sqlite:///data/own.db"
query = "select 1"
id = "customer"
[partners.bank]
key = "tercet-key-1:abc"
may_submit = true
[deadlines]
step = 30
heartbeat = 0.5
[limits]
part_bytes = 4096
threads = 2
"""
JOB = """
name = "returns"
model = "mlp"
label = "shop"
helper = "notary"
release = "owners"
alignment = "helper"
[tables]
shop = "orders"
insurer = "claims"
[training]
epochs = 8
batch = 512
rate = 0.5
schedule = "inverse-time"
decay = 0.03
l2 = 1e-3
[network]
hidden = [64, 32]
activation = "relu"
output = "logistic"
[evaluation]
holdout = 0.2
metrics = "epoch"
loss = true
[early_stopping]
on = "auc"
patience = 2
"""
PREDICTION = """
kind = "prediction"
name = "returns-june"
of = "returns-1a2b3c4d"
label = "shop"
helper = "notary"
format = "csv"
tables = { shop = "orders-june", insurer = "claims-june" }
"""


@cache
def _job() -> Job:
    description = TrainingJob.model_validate(
        {
            "name": "credit",
            "model": "logistic",
            "label": "bank",
            "helper": "notary",
            "tables": (("bank", "people"), ("card", "people")),
            "training": {"epochs": 2, "batch": 32, "rate": 0.5},
        }
    )
    members = tuple(Member(name=name, role="data", key=public_keys()[0].decode()) for name in ("bank", "card"))
    return Job(id=description.id, run=bytes(32), description=description, members=members, submitter="bank")


def _status() -> JobStatus:
    said = dict.fromkeys(("state", "kind", "model", "label", "helper", "submitted"), "a")
    return JobStatus.model_validate({"job": _job().id, "parties": (), **said})


def bodies() -> list[bytes]:
    """Messages of several kinds, alone and along with others."""
    words = np.arange(6, dtype=np.uint64).reshape(2, 3)
    several: list[Message] = [
        OrderContribution(secret=bytes(32)),
        Ready(),
        Sizes(rows=9, held_out=1, columns=4),
        MaskedInputs(words=words),
        _job(),
        Status(jobs=(_status(),)),
    ]
    along = [Companion(MaskedWeights(words=words), 0, 1), Companion(Ready(), 2, 3)]
    return [*map(encode, several), encode(MaskedInputs(words=words), along)]


def frames() -> list[bytes]:
    """What a broker sends on channel 1: a delivery, a return, confirms, a close and an answer to something else."""
    said = Basic.Properties(
        message_id="bank/1", correlation_id="job", message_type="ready", app_id="bank", delivery_mode=1
    )
    message = (ContentHeader(0, 5, said), ContentBody(b"sea"), ContentBody(b"ls"))
    several = (
        (Basic.Deliver("queue", 1, False, "exchange", "key"), *message),
        (Basic.Return(312, "NO_ROUTE", "exchange", "key"), *message),
        (Basic.Ack(3, True), Basic.Nack(4, False, False), Queue.BindOk()),
        (Channel.Close(406, "PRECONDITION_FAILED", 60, 80),),
    )
    return [b"".join(pamqp.frame.marshal(frame, 1) for frame in each) for each in several]


def addresses() -> list[bytes]:
    """Of whole messages and of parts."""
    return [b"credit-0123abcd/1/masked-inputs/features/0/5/bank/card/1.1", b"a/12/control/x-1/7/99/bank/card/2.30"]


def settings_files() -> list[bytes]:
    """A data party's, with every section."""
    return [SETTINGS.encode()]


def job_files() -> list[bytes]:
    """A training and a prediction."""
    return [JOB.encode(), PREDICTION.encode()]


@cache
def key_files() -> list[bytes]:
    """What `tercet keygen` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "party.key"
        save_identity(Identity.generate(), path)
        return [path.read_bytes()]


@cache
def public_keys() -> list[bytes]:
    """What it prints."""
    return [str(Identity.generate().public).encode()]


@cache
def sealed() -> list[bytes]:
    """For somebody else."""
    return [Identity.generate().seal(b"a job", Identity.generate().public, b"address"), bytes(60)]


def credentials_files() -> list[bytes]:
    """A login."""
    return [b'username = "bank"\npassword = "hush, \\u00e4 \\" hush"\n']


@cache
def _saved(release: str) -> dict[str, bytes]:
    """The files of a part."""
    manifest, arrays = (part(), owned()) if release == "owners" else (part(**SHARED), shared())
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), manifest, arrays)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def manifests() -> list[bytes]:
    """Of a part with its own weights, and of one with shares."""
    return [_saved(release)[MANIFEST] for release in ("owners", "shared")]


def weights_files() -> dict[str, bytes]:
    """What these manifests name."""
    both = _saved("owners") | _saved("shared")
    return {name: content for name, content in both.items() if name != MANIFEST}


def weights() -> list[bytes]:
    """The weights themselves, of these parts and of other kinds of numbers."""
    other = to_safetensors({"weights": np.ones((2, 2), np.float32), "x": np.zeros(3, np.int8)})
    return [*weights_files().values(), other, _bfloat16()]


@cache
def exported() -> list[bytes]:
    """What `tercet export` writes."""
    about = ModelDescription(
        job="credit-default-0123abcd",
        model="logistic",
        label_party="bank",
        columns=tuple(Columns(party=party, encoding=ENCODING, norm=27.7) for party in ("bank", "card")),
        fx=13,
        created=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
        tercet="0.1.0",
    )
    weights = np.linspace(-1, 1, len(ENCODING.names))[:, None]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write(FullModel(about, (weights, weights), (), (np.ones((1, 1)),)), path)
        return [path.read_bytes(), _bfloat16()]


def part_with_weights(data: bytes) -> dict[str, bytes]:
    """A part whose manifest names just these weights."""
    digest = hashlib.sha256(data).hexdigest()
    manifest = json.loads(manifests()[0]) | {"weights_sha256": digest}
    return {MANIFEST: json.dumps(manifest).encode(), f"weights-{digest[:16]}.safetensors": data}


def _bfloat16() -> bytes:
    """A safetensors file of a kind of numbers that numpy has not."""
    header = json.dumps({"weights": {"dtype": "BF16", "shape": [1, 1], "data_offsets": [0, 2]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(2)


@cache
def audit_logs() -> list[bytes]:
    """Of a job from its announcement to its end."""
    with tempfile.TemporaryDirectory() as folder:
        log = AuditLog(Path(folder) / "audit.log", "bank", Identity.generate())
        log.open(records=0)
        for event in ("received", "decided", "ended"):
            log.append(event, "credit-0123abcd", "00" * 32, {"state": "done", "codes": [], "rows": 96})
        return [log.path.read_bytes()]


def audit_lines() -> list[bytes]:
    """The first line of a log, and one that ends a job."""
    lines = audit_logs()[0].splitlines()
    return [lines[0], lines[-1]]


LINEAGE = bytes(32)
CHECKPOINT = f"{7:012d}-{LINEAGE.hex()[:16]}.checkpoint"


@cache
def checkpoints() -> list[bytes]:
    """Of a step on the way, without the digest in front."""
    arrays = {"share": np.arange(6, dtype=np.uint64).reshape(2, 3), "scores": np.ones((4, 1))}
    held = HeldCheckpoint(lineage=LINEAGE, steps=7, over=False)
    with tempfile.TemporaryDirectory() as folder:
        CheckpointFolder(Path(folder), bytes(32)).write(Checkpoint(held, arrays, {"alpha": 0.5, "losses": [1.0]}))
        return [(Path(folder) / CHECKPOINT).read_bytes()[32:], _bfloat16()]


@cache
def draws() -> list[bytes]:
    """What a party has drawn for a job."""
    with tempfile.TemporaryDirectory() as folder:
        source = FixedRandomness(Path(folder), lambda: bytes(range(32))).start_attempt(bytes(32))
        assert source is not None
        source()
        source.matches_commitment("card", b"c" * 32)
        return [(Path(folder) / FILE).read_bytes()]


def records() -> list[bytes]:
    """Of a job that is over."""
    return [Record(job=_job(), status=_status(), cleared=True).model_dump_json().encode()]
