"""Extends a job's context by what all have agreed on: keys, terms, plan, first step."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from tercet.agents.session.context import JobContext
from tercet.broker.sealing.handshake import SessionSecrets
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import PairMasks
from tercet.mpc.scoring.linear import Numbers
from tercet.schemas.files.job import PredictionJob, TrainingJob, canonical_digest
from tercet.schemas.messages.kinds import ScoringTerms, Terms

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Session:
    """Holds what the handshake has agreed on.

    Attributes:
        version: of the protocol, which all speak in this job.
        run_digest: of this run: description, random run id, the keys of its parties and the version.
        secrets: with each other party.
    """

    version: int
    run_digest: bytes
    secrets: SessionSecrets


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreedContext(JobContext):
    """Holds a job's means once all have agreed on terms."""

    session: Session
    terms: Terms

    @property
    def shape_digest(self) -> bytes:
        """Of all that shapes the model: description, sizes, plan, fold. Two runs of a job share it.

        Order, masks, row keys and checkpoints go by it, so that two folds of a job have nothing in common.
        So the commitments to masks of weights, which are new in each training run, are not in it; all compare these.
        """
        terms = self.terms.model_dump(
            exclude=None if self.terms.scoring is None else {"scoring": {"seeds"}, "plan": True}
        )
        fold = [] if self.fold is None else [self.fold]
        return canonical_digest("tercet job shape", [self.job.description.model_dump(), terms, *fold])

    def masks(self, partner: str, purpose: str = "training") -> PairMasks:
        """Make the masks shared with another party in this attempt, by purpose."""
        parties, secrets = self.description.parties, self.session.secrets
        # In order, the helper last: the same at both ends.
        sender, receiver = sorted((self.me, partner), key=parties.index)
        return PairMasks(
            secrets.pairs[partner],
            transcript=secrets.transcript,
            job=canonical_digest("tercet job", [self.session.run_digest, self.shape_digest]),
            attempt=self.attempt,
            sender=sender,
            receiver=receiver,
            purpose=purpose,
        )

    def zero_masks(self, purpose: str = "training") -> dict[int, PairMasks]:
        """Make the masks shared with each other data party, by its number."""
        return {self.number(party): self.masks(party, purpose) for party in self.partners}

    def data_party_masks(self, purpose: str = "training") -> dict[int, PairMasks]:
        """Make the masks that the helper shares with each data party, by its number."""
        return {number: self.masks(party, purpose) for number, party in enumerate(self.description.data_parties)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingContext(AgreedContext):
    """Holds a training's means: the plan, and what an earlier attempt has left to do.

    Attributes:
        first_step: that this attempt begins with.
        all_steps_done: whether nothing is left to train.
        best_steps: steps of the best epoch's model so far, where an attempt goes on and the job stops early.
    """

    description: TrainingJob
    plan: Plan
    first_step: int = 0
    all_steps_done: bool = False
    best_steps: int = 0

    def steps(self) -> Iterator[Step]:
        """Yield the steps of this attempt."""
        return self.plan.steps(self.first_step)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringContext(AgreedContext):
    """Holds a prediction's means: what the parts say of the model, and its fixed point."""

    description: PredictionJob
    scoring: ScoringTerms
    numbers: Numbers


def extend(known: Any, kind: type[T], **more: Any) -> T:
    """Make an object of a class that extends the class of `known`, with more fields."""
    return kind(**{one.name: getattr(known, one.name) for one in fields(known)}, **more)
