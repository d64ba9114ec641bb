"""Measures what one job tells about a table's rows, as counts that the settings limit.

It reads the job's description, and its terms if they are known; it reads no table and decides nothing.
"""

import math
from typing import Final, NamedTuple

from tercet.agents.policy.disclosure_table import ALIGNMENT, RELEASE, SCORING, TRAINING
from tercet.mpc.functions.links import LINKS
from tercet.mpc.plan.exposure import MOST_BLIND_SCORE_BITS
from tercet.mpc.plan.forward import SCORE_BITS as SCORE_DIGITS
from tercet.schemas.files.job import AnyJob, PredictionJob, StatisticsJob
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import Terms
from tercet.tables.encoding.label import LEAST_CLASSES

SCORE_RANGE: Final = 8.0  # nearly all scores lie within it
SCORE_BITS: Final = 19.0  # of a score without noise: rounded to 16 fractional bits within that range

LEAST_BLIND_NOISE: Final = 2.0 ** -(SCORE_DIGITS + 1)


class ExposureCount(NamedTuple):
    """Describes one thing that is counted by table and label party.

    Attributes:
        name: in the file, and on the command line.
        setting: which bounds it, under [tables.NAME].
        words: what the count counts, as people read it.
        own: whether the limit holds for the label party's own table too; counts about columns alone have none there.
    """

    name: str
    setting: str
    words: str
    own: bool = False


COUNTS: Final = (
    ExposureCount("models", "max_models", "models trained", own=True),
    ExposureCount("releases", "max_releases", "models released", own=True),
    ExposureCount("alignments", "max_alignments", "alignments of its ids", own=True),
    ExposureCount("scorings", "max_total_scorings", "scorings of its rows"),
    ExposureCount("bits", "max_score_bits", "bits of a record told by scores"),
    ExposureCount("scored_rows", "max_scored_rows", "rows scored"),
    ExposureCount("predictions", "max_predictions", "predictions"),
    ExposureCount("losses", "max_losses", "losses opened"),
    ExposureCount("statistics", "max_statistics", "statistics told", own=True),
    ExposureCount("profiles", "max_profiles", "sets of columns judged before approval"),
)
NAMES: Final = frozenset(count.name for count in COUNTS)


def score_bits(noise: float, *, blind: bool = False) -> float:
    """Compute the bits that one score under uniform noise of ± `noise` tells about a record.

    A `blind` score is added up by the label party itself. One that opened its weights falsely has chosen columns in all
    that the words hold; partners never add less noise than half a unit of a rounded score.
    """
    if blind:
        return max(0.0, MOST_BLIND_SCORE_BITS - math.log2(2 * max(noise, LEAST_BLIND_NOISE)))
    return SCORE_BITS if noise == 0 else min(SCORE_BITS, math.log2(SCORE_RANGE / (2 * noise)))


def exposures(job: AnyJob, settings: Settings, terms: Terms | None = None) -> dict[str, dict[str, float]]:
    """Count what a job tells at each stage; without `terms`, what it tells at least.

    Each pass over scored rows counts once for each output. Passes that an early stop leaves out count too.
    """
    if isinstance(job, StatisticsJob):
        return {ALIGNMENT: {"alignments": 1}, RELEASE: {"statistics": 1}}
    least = settings.limits.min_scored_rows  # no job scores fewer
    if isinstance(job, PredictionJob):
        rows, outputs = (least, 1) if terms is None else (terms.rows, terms.outputs)
        return {
            ALIGNMENT: {"alignments": 1},
            SCORING: {"predictions": 1, **_scoring_amounts(settings, 1, outputs, rows, blind=_opens_blind(terms))},
        }
    known = LEAST_CLASSES if LINKS[job.link].classes else 1
    evaluation = job.evaluation
    rows, outputs = (least, known) if terms is None else (terms.held_out, terms.outputs)
    if evaluation.folds:  # each row is held out once, and then scored
        rows = least * evaluation.folds if terms is None else terms.rows + terms.held_out
    losses = job.training.epochs * (evaluation.loss + getattr(evaluation, "held_out_loss", False))
    return {
        ALIGNMENT: {"alignments": 1},
        TRAINING: {
            "models": evaluation.folds + 1,
            "losses": losses,
            **_scoring_amounts(settings, job.scorings, outputs, rows, blind=job.is_blind),
        },
        RELEASE: {"releases": int(job.release != "shared")},
    }


def _opens_blind(terms: Terms | None) -> bool:
    """Tell whether a prediction is by opened weights, and the label party adds up its scores.

    Without terms that is not known.
    """
    scoring = None if terms is None else terms.scoring
    return scoring is not None and scoring.blind and scoring.release != "owners"


def _scoring_amounts(settings: Settings, passes: int, outputs: int, rows: int, *, blind: bool) -> dict[str, float]:
    bits = passes * outputs * score_bits(settings.policy.score_noise, blind=blind)
    return {"scorings": passes * outputs, "bits": bits, "scored_rows": passes * rows}
