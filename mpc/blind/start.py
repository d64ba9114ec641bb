"""Reads a linear model's shares as those of a network without hidden layers, and back."""

from tercet.mpc.linear.shares import Shares
from tercet.mpc.network.forward import NetworkShares

AnyShares = Shares | NetworkShares


def to_layers(shares: AnyShares) -> NetworkShares:
    """Give shares of any model by layer."""
    if isinstance(shares, NetworkShares):
        return shares
    return NetworkShares(shares.step, shares.own, shares.partners, (), (shares.intercept,))


def from_layers(shares: NetworkShares) -> AnyShares:
    """Give shares as models of that kind have them."""
    return shares if shares.upper else Shares(shares.step, shares.own, shares.partners, shares.biases[0])
