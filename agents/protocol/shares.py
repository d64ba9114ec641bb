"""Names and stores a data party's shares of a model, linear or network.

Nothing here is sent or opened; a share is worthless without those of all other data parties.
"""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from tercet.agents.models.model_part import BIAS, INTERCEPT, SHARE, UPPER, ModelPart
from tercet.agents.session.agreed import TrainingContext
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.linear.shares import Shares
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import Entry, Layout, Tensors
from tercet.mpc.plan.plan import Plan

AnyShares = Shares | NetworkShares


def block_shares(context: JobContext, shares: AnyShares) -> dict[int, Words]:
    """Give this party's share of each data party's block, by party number."""
    return {context.number(context.me): shares.own, **shares.partners}


def upper_shares(shares: AnyShares) -> Tensors:
    """Give its share of the intercept, or of a network's upper weights and all biases."""
    if isinstance(shares, Shares):
        return {(INTERCEPT, 0): shares.intercept}
    upper = {(UPPER, k): words for k, words in enumerate(shares.upper)}
    return upper | {(BIAS, k): words for k, words in enumerate(shares.biases)}


def upper_entries(plan: Plan) -> tuple[Entry, ...]:
    """Give the order of `upper_shares` in a message."""
    if plan.network is None:
        return (Entry(INTERCEPT, 0, (1, plan.outputs)),)
    layout = Layout(plan)
    upper = (Entry(UPPER, k, layout.upper(k)) for k in layout.hidden)
    return (*upper, *(Entry(BIAS, k, (1, width)) for k, width in enumerate(layout.widths)))


def array_name(name: str, k: int) -> str:
    """Name a layer of `upper_shares` in a model part."""
    return name if name == INTERCEPT else f"{name}{k}"


def to_floats(plan: Plan, name: str, words: Words, steps: int) -> Floats:
    """Convert opened words of a model that is kept, after so many steps.

    Intercept and biases have no alpha.
    """
    if name == UPPER:
        return plan.upper_weights(words, steps, finished=True)
    return plan.intercept(words) if name in {INTERCEPT, BIAS} else plan.weights(words, steps)


def share_arrays(context: JobContext, shares: AnyShares) -> dict[str, NDArray[Any]]:
    """Give this party's share of everything, by name."""
    parties = context.description.data_parties
    named = {f"{SHARE}{parties[i]}": words for i, words in block_shares(context, shares).items()}
    return named | {f"{SHARE}{array_name(*place)}": words for place, words in upper_shares(shares).items()}


def shares_from_part(context: JobContext, part: ModelPart, arrays: Mapping[str, NDArray[Any]]) -> AnyShares:
    """Read all shares from a model part."""
    layers = 0 if part.network is None else len(part.network.hidden)
    return _from_arrays(context, arrays, part.steps, layers)


def shares_from_checkpoint(context: TrainingContext, arrays: Mapping[str, NDArray[Any]], steps: int) -> AnyShares:
    """Read all shares from a checkpoint, after so many steps."""
    network = context.description.network
    return _from_arrays(context, arrays, steps, 0 if network is None else len(network.hidden))


def _from_arrays(context: JobContext, arrays: Mapping[str, NDArray[Any]], steps: int, layers: int) -> AnyShares:
    own, partners = arrays[f"{SHARE}{context.me}"], {context.number(p): arrays[f"{SHARE}{p}"] for p in context.partners}
    if not layers:
        return Shares(steps, own, partners, arrays[f"{SHARE}{INTERCEPT}"])
    upper = tuple(arrays[f"{SHARE}{UPPER}{k}"] for k in range(layers))
    return NetworkShares(steps, own, partners, upper, tuple(arrays[f"{SHARE}{BIAS}{k}"] for k in range(layers + 1)))
