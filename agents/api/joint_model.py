"""Puts the joint model of a simulation together from all parties' parts.

Only a simulation may: it holds everybody's parts. No party of a real job can do this, whatever its release.
"""

from tercet.agents.models import model_part
from tercet.agents.models.full_model import FullModel, describe
from tercet.agents.simulation.exactness import Simulation, data_roles, joint_words, network_words, part_folder
from tercet.mpc.arithmetic.fixed import decode


def joint_model(simulation: Simulation) -> FullModel:
    """Open every weight of a finished training, whoever would get it."""
    trained = data_roles(simulation)
    parts = {party: model_part.manifest(part_folder(simulation, party)) for party in trained}
    context = trained[simulation.description.label].context
    job, plan, part = context.description, context.plan, parts[context.label]
    about = describe(part, {party: one.encoding for party, one in parts.items()})
    if job.network is None:
        blocks, intercept = joint_words(simulation)
        return FullModel(
            about, tuple(part.alpha * decode(block, plan.fw) for block in blocks), (), (decode(intercept, plan.fw),)
        )
    words, count, layers = network_words(simulation), len(parts), len(job.network.hidden)
    blocks, upper, biases = words[:count], words[count : count + layers], words[count + layers :]
    return FullModel(
        about,
        tuple(part.alpha * decode(block, plan.fw) for block in blocks),
        tuple(part.alpha * decode(layer, plan.finished_bits) for layer in upper),
        tuple(decode(bias, plan.fw) for bias in biases),
    )
