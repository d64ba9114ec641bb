"""Ends a job at a data party: opens weights as the job says, and writes the model part.

A part lies in a hidden folder until every party has released. Then `keep_result` moves it into place, or `discard`
removes it. With release = "owners" each party receives the others' shares of its own block, and the label party those
of the intercept too. With "shared" nobody receives anything, with "label" the label party alone receives everything.
"""

import asyncio
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

from tercet.agents.core.problems import JobProblem
from tercet.agents.models import model_part
from tercet.agents.models.manifest import LabelTerms
from tercet.agents.models.model_part import Arrays, ModelPart
from tercet.agents.models.population import Population
from tercet.agents.protocol.shares import AnyShares, array_name, share_arrays, to_floats, upper_entries, upper_shares
from tercet.agents.protocol.weight_openings import ModelOpenings
from tercet.agents.roles.release_to_label import Encodings, receive_model, send_model
from tercet.agents.session.agreed import TrainingContext
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.ring import total
from tercet.mpc.linear.shares import Shares
from tercet.mpc.plan.architecture import pack, unpack
from tercet.schemas.messages.kinds import InterceptShare, UpperShare, WeightShare
from tercet.schemas.messages.tensor import Words
from tercet.tables.core.durable import flush
from tercet.tables.encoding.encoding import Encoding

RESULTS = {"training": "models", "prediction": "predictions", "statistics": "statistics"}  # folders of the state folder

_version = cache(version)  # which reads the disk

OpenedShare = WeightShare | InterceptShare | UpperShare


async def open_model_parts(context: TrainingContext, shares: AnyShares, encoding: Encoding) -> tuple[Arrays, Encodings]:
    """Open the arrays of this party's model part, and any encodings that it learns."""
    release, own_shares = context.description.release, share_arrays(context, shares)
    if release == "owners":
        owned = await _opened_to_owners(context, shares)
        # A network is applied by its shares even so.
        return owned if isinstance(shares, Shares) else {**own_shares, **owned}, {}
    if release == "label" and context.is_label_party:
        whole, encodings = await receive_model(context, shares)
        return {**own_shares, **whole}, encodings
    if release == "label":
        await send_model(context, shares, encoding)
    return own_shares, {}


async def _opened_to_owners(context: TrainingContext, shares: AnyShares) -> Arrays:
    """Open each block to its owner, and the layers above to the label party."""
    plan, mail, deadline = context.plan, context.mailbox, context.deadline("release")
    model: type[OpenedShare] = InterceptShare if isinstance(shares, Shares) else UpperShare
    entries = upper_entries(plan)
    mine = pack(entries, upper_shares(shares))
    for party in context.partners:
        await mail.send(WeightShare(words=shares.partners[context.number(party)]), [party], deadline)
    if not context.is_label_party:
        await mail.send(model(words=mine), [context.label], deadline)
    block = await _receive_sum(context, WeightShare, shares.own)
    arrays: Arrays = {"weights": plan.weights(block, shares.step), "weight_words": block}
    if not context.is_label_party:
        return arrays
    layers = unpack(entries, await _receive_sum(context, model, mine), "opened layers")
    words = {f"{array_name(name, k)}_words": layer for (name, k), layer in layers.items()}
    floats = {array_name(name, k): to_floats(plan, name, layer, shares.step) for (name, k), layer in layers.items()}
    return {**arrays, **words, **floats}


async def _receive_sum(context: JobContext, model: type[OpenedShare], own: Words) -> Words:
    letters = await context.mailbox.receive(model, context.partners, context.deadline("release"))
    rows, columns = own.shape
    return total([own, *context.mailbox.checked_words(letters, lambda _: (rows, columns)).values()])


async def save_part(  # noqa: PLR0917
    context: TrainingContext,
    encoding: Encoding,
    label: LabelTerms,
    opened: tuple[Arrays, Encodings],
    openings: ModelOpenings,
    steps: int,
    population: Population,
) -> None:
    """Write the part, as it is after so many steps, to its hidden folder.

    `label` is the label party's own. `opened` is the result of `open_model_parts`; `openings` are for predictions;
    `population` is what this party knows of the rows. A save that fails or is cancelled leaves nothing there.

    Raises:
        JobProblem: the disk does not take it.
    """
    job, plan, (arrays, encodings) = context.description, context.plan, opened
    part = ModelPart(
        job=context.job.id,
        run=context.job.run.hex(),
        model=job.model,
        network=job.network,
        party=context.me,
        label_party=job.label,
        parties=job.data_parties,
        release=job.release,
        encoding=encoding,
        columns=tuple(encoding.names),
        plan=plan.canonical(),
        steps=steps,
        alpha=plan.alpha_after(steps),
        score_exponent=openings.exponent,
        seeds=tuple(one.hex() for one in openings.commitments) if openings.openings is not None else (),
        intercept_holder=job.label,
        label_scaling=label.scaling,
        classes=label.classes,
        offset=label.offset,
        encodings=dict(encodings),
        scorecard=job.scorecard,
        population=population,
        created=datetime.now(UTC),
        tercet=_version("tercet"),
    )
    folder = hidden_folder(context)
    await write_hidden(context, folder, lambda: model_part.save(folder, part, {**arrays, **openings.arrays(context)}))


async def write_hidden(context: JobContext, folder: Path, save: Callable[[], object]) -> None:
    """Save into a hidden folder; leave nothing there after failure or cancellation.

    Raises:
        JobProblem: the disk does not take it.
    """
    saving = asyncio.ensure_future(context.compute(save))
    try:
        await asyncio.shield(saving)
    except OSError as error:
        discard(folder)
        public = f"{context.me} cannot write what the job gives it to its disk"
        raise JobProblem("disk.write", context.me, public, f"{folder}: {error.strerror}") from None
    except asyncio.CancelledError:
        await asyncio.wait([saving])  # a thread cannot be cancelled, and would write on
        discard(folder)
        raise


def hidden_folder(context: JobContext) -> Path:
    """Name the folder of a job's results until all have released; job ids have no dot."""
    return context.settings.state / RESULTS[context.description.kind] / f".{context.job.id}"


def move_into_place(folder: Path) -> Path:
    """Move a folder from its hidden place to its lasting one in one step; return that.

    What an earlier run of the same job left there makes way.

    Raises:
        OSError: the disk does not take it.
    """
    place = folder.with_name(folder.name.removeprefix("."))
    earlier = folder.with_name(f"{folder.name}.earlier")
    discard(earlier)
    if place.exists():
        place.rename(earlier)
    folder.rename(place)
    flush(place.parent)
    discard(earlier)
    return place


def keep_result(folder: Path, me: str) -> Path:
    """Move this party's result into place, once the job is certain to end well.

    Raises:
        JobProblem: the disk does not take it.
    """
    try:
        return move_into_place(folder)
    except OSError as error:
        public = f"{me} cannot move what the job gives it to its place"
        raise JobProblem("disk.write", me, public, f"{folder}: {error.strerror}") from None


def discard(folder: Path) -> None:
    """Remove a part that is not to be kept, if there is one."""
    shutil.rmtree(folder, ignore_errors=True)
