"""Computes each set of vectors from fixed inputs; a file beside this one holds what came out when it was frozen."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tercet.agents.models.model_part import ModelPart, save
from tercet.agents.models.population import BinCounts, Population
from tercet.agents.policy.audit_log import AuditLog
from tercet.agents.policy.budget_file import BudgetFile, Spending
from tercet.agents.session.checkpoint_store import DIGEST_BYTES, SUFFIX, Checkpoint, CheckpointFolder
from tercet.agents.session.fixed_randomness import FixedRandomness
from tercet.agents.session.table_snapshot import snapshot_key
from tercet.broker.sealing.handshake import HandshakeParty, HandshakeState
from tercet.broker.sealing.identity import Identity
from tercet.broker.sealing.seal import SessionSeal, associated_data
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.plan import Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness import secret_order
from tercet.mpc.randomness.masks import Keystream, PairMasks, derive_key, name_once
from tercet.schemas.core.key_text import with_checksum
from tercet.schemas.files.job import PredictionJob, Scorecard, TrainingJob, canonical_digest
from tercet.schemas.messages.kinds import HeldCheckpoint, Job, Member
from tercet.tables.binning.bins import CategoryBins, NumericBins
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.matching.digest import ids_digest
from tercet.tables.matching.ecdh import Blinding
from tercet.tables.matching.pseudonyms import pseudonyms
from tercet.tables.snapshot.columns import ChosenColumns, FeatureColumn
from tercet.tables.snapshot.snapshot import Snapshot

FOLDER: Final = Path(__file__).parent
STEP: Final = Step(index=5, epoch=1, position=2, start=64, stop=96, scale=0.25, alpha=0.5, after=0.25)
SECRET: Final = bytes(range(32))
CONTRIBUTIONS: Final = {"card": bytes([7]) * 32, "bank": bytes([9]) * 32}
IDS: Final = pa.array(["c1", "c22", "ü3", ""], pa.large_string())
HELD: Final = HeldCheckpoint(lineage=bytes(32), steps=7, over=False)
WORDS: Final = np.arange(6, dtype=np.uint64).reshape(2, 3)
# HPKE draws at random, so this box was made once: what the identity of seed 1 seals for that of seed 2.
SEALED: Final = (
    "cdd6957d785b50865f27c87960babae1bf541f1761c2b595d74624b7467ccf6cdbf6addec769b0e63cc6cd0818eb45d890ea"
    "3e50209acd6870fd5a359a9ebbf8198521f30c0e1109645d141a8b7bf404c12ef5da80a06cfc23738bd30f4f42092068d589"
    "2bda01b60a3544c691b7ba5db6f831a9a81d6960be6b52"
)
JOB: Final[dict[str, Any]] = {
    "name": "credit",
    "model": "logistic",
    "label": "bank",
    "helper": "notary",
    "tables": (("bank", "people"), ("card", "people")),
    "training": {"epochs": 2, "batch": 32, "rate": 0.5},
}
PREDICTION: Final[dict[str, Any]] = {name: JOB[name] for name in ("name", "label", "helper", "tables")} | {
    "kind": "prediction",
    "of": "credit-0123abcd",
}
REQUESTS: Final = {
    "linear": Request("logistic", rows=24_000, columns=(40, 40), batch=1024, epochs=5, rate=0.2),
    "softmax": Request("softmax", rows=4_000, columns=(10, 5, 7), batch=256, epochs=2, rate=0.1, outputs=3, l2=0.01),
    "network": Request(
        "logistic", rows=4_000, columns=(10, 5), batch=256, epochs=2, rate=0.1, network=Network((8, 4), "relu")
    ),
}


def identity(seed: int) -> Identity:
    """The identity of a fixed seed."""
    return Identity(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def hexadecimal(words: Any) -> list[str]:
    """Words of any shape, each in hexadecimal."""
    return [f"{int(word):016x}" for word in np.asarray(words).view(np.uint64).reshape(-1)]


def keystream() -> dict[str, Any]:
    """Masks and their keys, each at a fixed address."""
    pair = PairMasks(
        SECRET,
        transcript=bytes([3]) * 32,
        job=bytes([4]) * 32,
        attempt=2,
        sender="bank",
        receiver="notary",
        purpose="training",
    )
    return {
        "derived key": derive_key(SECRET, b"salt", ("a", 1, b"b")).hex(),
        "stream": hexadecimal(Keystream(SECRET).words(1, 2, 3, (2, 3))),
        "mask": hexadecimal(pair("V", 0, 1, STEP, (2, 3))),
        "mask of one digest": hexadecimal(pair(name_once("zero", bytes([5]) * 32), 0, 1, STEP, (2, 2))),
        "secret": pair.secret("weights").hex(),
    }


def training_order() -> dict[str, Any]:
    """The joint keys of the data parties, and what they derive from them."""
    key = secret_order.order_key(bytes([1]) * 32, CONTRIBUTIONS)
    found: dict[str, Any] = {
        "commitment": secret_order.commitment(bytes(32), "bank", CONTRIBUTIONS["bank"]).hex(),
        "alignment key": secret_order.alignment_key(bytes([1]) * 32, CONTRIBUTIONS).hex(),
        "order key": key.hex(),
        "confirmation": secret_order.confirmation(key, "bank").hex(),
        "confirmation of held-out rows": secret_order.confirmation(key, "bank", bytes([7]) * 32).hex(),
        "held out": secret_order.choose_held_out(key, [one.encode() for one in IDS.to_pylist()], 0.5).tolist(),
    }
    for purpose, attempt in (("training", 1), ("training", 2), ("scoring", 1), ("held-out loss", 1)):
        draws = secret_order.Order(key, 100, purpose, attempt)  # type: ignore[arg-type]
        found[f"{purpose}, attempt {attempt}"] = {
            "permutation": draws.permutation(1).tolist(),
            "rows": draws.rows(STEP).tolist(),
            "classes": draws.classes(STEP, 4).tolist(),
            "signs": hexadecimal(draws.signs(STEP, odd=True)),
            "noise": hexadecimal(draws.noise(STEP, 20, 2)),
        }
    return found


def handshake() -> dict[str, Any]:
    """The handshake of an attempt with fixed ephemeral keys, and two sealed bodies after it."""
    parties = [
        HandshakeParty(name, role, identity(seed).public)
        for name, role, seed in (("bank", "data", 1), ("notary", "helper", 2))
    ]
    states = {}
    for party, seed in (("bank", 1), ("notary", 2)):
        state = states[party] = HandshakeState(identity(seed), party, parties, bytes([8]) * 32, 3)
        state._ephemeral = X25519PrivateKey.from_private_bytes(bytes([seed + 10]) * 32)
        state._keys[party] = state._ephemeral.public_key().public_bytes_raw()
    bank, notary = states["bank"], states["notary"]
    said = {"hello": bank.hello().signature.hex(), "answer": notary.hello().signature.hex()}
    bank.receive("notary", notary.hello())
    notary.receive("bank", bank.hello())
    said["transcript signature"] = bank.transcript().signature.hex()
    secrets = bank.secrets()
    bound = associated_data("credit-0123abcd/3/control/x/0/0/bank/notary/1.1", "ready", bytes(32))
    seal = SessionSeal(secrets, "bank")
    return said | {
        "transcript": secrets.transcript.hex(),
        "pair secret": secrets.pairs["notary"].hex(),
        "associated data": bound.decode(),
        "sealed": [seal.seal("notary", body, bound).hex() for body in (b"first", b"second")],
    }


def identities() -> dict[str, Any]:
    """Public keys as texts, a signature, and a box that another identity sealed once."""
    one, two = identity(1), identity(2)
    return {
        "public": str(one.public),
        "text": one.public.text,
        "with checksum": with_checksum(str(one.public)),
        "fingerprint": one.public.fingerprint,
        "signature": one.sign(b"a statement").hex(),
        "sealed": SEALED,
        "opened": two.open(bytes.fromhex(SEALED), one.public, b"an address").decode(),
    }


def jobs() -> dict[str, Any]:
    """The digests that all parties compare, of jobs and of plans."""
    training, prediction = TrainingJob.model_validate(JOB), PredictionJob.model_validate(PREDICTION)
    members = tuple(Member(name=name, role="data", key=str(identity(1).public)) for name in ("bank", "card"))
    job = Job(id=training.id, run=bytes(32), description=training, members=members, submitter="bank", issued=1)
    return {
        "training": training.id,
        "prediction": prediction.id,
        "description": canonical_digest("tercet job", training.model_dump()).hex(),
        "signed statement": job.statement.hex(),
        "plans": {
            name: canonical_digest("tercet plan", make_plan(request).canonical()).hex()
            for name, request in REQUESTS.items()
        },
        "last steps": {name: repr(list(make_plan(request).steps())[-1].scale) for name, request in REQUESTS.items()},
    }


def ids() -> dict[str, Any]:
    """What alignment makes of ids."""
    blinding = Blinding(SECRET)
    blinding._exponent = bytes([2]) + bytes(31)
    blinded = blinding.blind(IDS.to_pylist())
    return {
        "digest": ids_digest(SECRET, IDS, np.array([2, 0, 1, 3])).hex(),
        "pseudonyms": pseudonyms(SECRET, IDS).tobytes().hex(),
        "blinded": blinded.hex(),
        "blinded twice": blinding.blind_again(blinded).hex(),
    }


def files() -> dict[str, Any]:
    """What an agent writes and a later release reads: each file in hexadecimal, or as text where it is one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_files(folder)
        return {
            str(path.relative_to(folder)): (_read_checkpoint if path.suffix == SUFFIX else _readable)(path.read_bytes())
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }


def snapshot() -> dict[str, Any]:
    """The digest of a party's table, and the key of its stored snapshot.

    The checksum of the Arrow file is left out, as it is Arrow's own matter.
    """
    chosen = ChosenColumns(
        "id",
        "late",
        (FeatureColumn("age", "numeric", declared=True), FeatureColumn("sex", "categorical", declared=False)),
    )
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "features"
        features = pa.table({"age": [20.0, 40.0], "sex": ["f", "m"]})
        with pa.ipc.new_file(path, features.schema) as writer:
            writer.write_table(features)
        ids, label = pa.array(["a", "b"], pa.large_string()), np.array([0.0, 1.0])
        with Snapshot("people", path, chosen, ids, label, ("no", "yes"), checksum=bytes(32)) as obtained:
            digest = obtained.digest()
    key = snapshot_key(bytes(32), "people", "people.csv", {"id": "id", "label": "late"}, [True, "numeric", None, False])
    return {"digest": digest.hex(), "key": key.hex()}


def _readable(content: bytes) -> Any:
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError:
        return content.hex()


def _read_checkpoint(content: bytes) -> dict[str, Any]:
    """Without its digest: safetensors writes the metadata of a file in any order."""
    start = DIGEST_BYTES + 8
    end = start + int.from_bytes(content[DIGEST_BYTES:start], "little")
    return {"header": json.loads(content[start:end]), "data": content[end:].hex()}


def checkpoint_bytes(vector: dict[str, Any]) -> bytes:
    """A checkpoint with this header and these data."""
    header = json.dumps(vector["header"]).encode()
    header += b" " * (-len(header) % 8)
    content = len(header).to_bytes(8, "little") + header + bytes.fromhex(vector["data"])
    return hashlib.sha256(content).digest() + content


def _write_files(folder: Path) -> None:
    arrays = {"share": WORDS, "scores": np.ones((4, 1))}
    CheckpointFolder(folder / "checkpoints", bytes(32)).write(Checkpoint(HELD, arrays, {"alpha": 0.5, "losses": [1.0]}))
    draws = FixedRandomness(folder, lambda: SECRET).start_attempt(bytes(32))
    assert draws is not None
    draws()
    draws.matches_commitment("card", bytes([6]) * 32)
    budget = BudgetFile(folder / "budget.log")
    budget.start_with([Spending("credit-0123abcd", "00" * 32, "people", "bank", {"scores": 3.0})])
    log = AuditLog(folder / "audit.log", "bank", identity(1), now=lambda: "2025-01-02T03:04:05.000+00:00")
    log.open(records=0)
    log.append("decided", "credit-0123abcd", "00" * 32, {"state": "done", "codes": [], "rows": 96})
    _write_part(folder / "part")
    ages = BinCounts(bins=NumericBins(name="age", cuts=(30.0,), missing=2), rows=(1, 2, 0))
    sexes = BinCounts(bins=CategoryBins.single("sex", ["f", "m"], rare=True), rows=(2, 1, 0))
    scores = BinCounts(bins=NumericBins(name="score", cuts=(-1.5, 0.25)), rows=(3, 2, 1))
    population = Population(columns=(ages, sexes), scores=scores)
    _write_part(folder / "counted part", scorecard=Scorecard(pdo=40.0), population=population)


def _write_part(folder: Path, **more: Any) -> None:
    table = Table(
        name="customers",
        rows=3,
        columns=("age", "sex"),
        numeric={"age": np.array([20.0, 40.0, 60.0])},
        categorical={"sex": np.array(["f", "m", "f"], dtype=np.object_)},
    )
    encoding = Encoding.fit(lambda: [table], clip=16.0, rare=0, whiten=False)
    fields = {
        "job": "credit-0123abcd",
        "run": "1",
        "model": "logistic",
        "party": "bank",
        "label_party": "bank",
        "parties": ("bank", "card"),
        "release": "owners",
        "encoding": encoding,
        "columns": tuple(encoding.names),
        "plan": {"fx": 13, "norms": [27.7, 32.0], "request": {"l2": 0.1, "outputs": 1, "columns": [3, 2]}},
        "steps": 376,
        "alpha": 0.75,
        "score_exponent": 4,
        "seeds": (),
        "intercept_holder": "bank",
        "created": datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
        "tercet": "0.1.0",
    }
    weights, intercept = np.linspace(-1, 1, len(encoding.names))[:, None], np.ones((1, 1))
    words = {"weight_words": weights.view(np.uint64), "intercept_words": intercept.view(np.uint64)}
    save(folder, ModelPart.model_validate(fields | more), {"weights": weights, "intercept": intercept} | words)


CASES: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "keystream": keystream,
    "order": training_order,
    "handshake": handshake,
    "identities": identities,
    "jobs": jobs,
    "ids": ids,
    "snapshot": snapshot,
    "files": files,
}


def frozen(name: str) -> Any:
    """What a file of vectors holds."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
