"""Limits a network's job, and estimates how far one step moves its pre-activations.

It sees the job's public numbers, and proves nothing: weights above a hidden layer have no bound that follows from the
job, and one that held over all steps in the worst case would refuse every sensible network.

So bounds are *nominal*: weights into a layer that carry an error of 1 back as WEIGHT at most, rows of standardised
columns of their mean length but all in one direction, activations of size 1. With them one step moves no
pre-activation past the guard, and an error that goes back is far below what a truncation can hold: for that it would
have to reach 2^(62 - F - 20), which is 65,536 with the usual bits, while a step within the bound keeps it below
2^(63 - 2 f_x - F) / (rows (columns + 1)).

What is nominal may fail in a run that diverges, and the helper stops that. A hidden pre-activation may not exceed
HIDDEN_LIMIT, nor a raw one 2^(62 - f_z). Words of f_z fractional bits wrap at 2^(64 - f_z), so a step that jumps past
the guard would have to bring every element of a batch back into half of the words or, without L2, a quarter by chance.
An error that wraps in a truncation moves the bias of its unit by as much, unless its slope is 0, in which case it does
nothing at all; so the next step's pre-activations are past the limit. Such a job stops a step late, and no model comes
of it. But this is likelihood, not proof.
"""

from tercet.mpc.functions.hidden import HIDDEN
from tercet.mpc.plan.architecture import Network

MOST_LAYERS, MOST_UNITS = 8, 4096
MOST_ELEMENTS = 2**24  # of a batch's hidden layer: the answer for it has three words each, 400 MB
WEIGHT = 4.0  # what an error of 1 in one output is at a unit below it: trained weights are of a few units
DEEPER = 2.0  # how much larger an error is at each further hidden layer: twice what He's first weights do
Check = tuple[bool, str, str]  # whether it holds; else the reason and the remedy of a refusal


def architecture(network: Network, batch: int) -> tuple[Check, ...]:
    """List the conditions of an architecture that can be trained at all."""
    layers, widths = len(network.hidden), network.hidden or (1,)
    return (
        (network.activation in HIDDEN, f'the activation "{network.activation}" of hidden layers is unknown',
         f"choose one of {', '.join(HIDDEN)}"),
        (1 <= layers <= MOST_LAYERS, f"there are {layers} hidden layers", f"use 1 to {MOST_LAYERS}"),
        (min(widths) >= 1 and max(widths) <= MOST_UNITS,
         f"a hidden layer has fewer than 1 or more than {MOST_UNITS} units", f"use 1 to {MOST_UNITS}"),
        (batch * max(widths) <= MOST_ELEMENTS, f"a hidden layer has more than {MOST_ELEMENTS} elements in a batch",
         "use smaller batches or fewer units"),
    )  # fmt: skip


def nominal_leap(network: Network, columns: int, outputs: int) -> float:
    """Estimate how far a step at a rate of 1 moves a pre-activation.

    Output errors are at most 1.

    In every layer that is the error there times the squared length of what is below it, a bias included.
    """
    below = (columns, *network.hidden)
    return max((inputs + 1.0) * error_at_layer(network, layer, outputs) for layer, inputs in enumerate(below))


def error_at_layer(network: Network, layer: int, outputs: int) -> float:
    """Estimate the error at a layer's pre-activations for output errors of at most 1.

    The output comes after all hidden layers.

    The errors of several classes add up to 2 in size.
    """
    deeper = len(network.hidden) - layer
    return 1.0 if deeper == 0 else min(outputs, 2) * WEIGHT * DEEPER ** (deeper - 1)
