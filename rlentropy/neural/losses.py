"""What networks minimise: least squares, LINEX, the dual of a ball.

LINEX of an error u - x at risk aversion β is, with y = β (u - x),

    l = (e^y - y - 1) / β²        dl/du = (e^y - 1) / β

u = -(1/β) log E e^{-βx} minimises its mean over x (robust §4.5), and it tends to (u - x)²/2 as β
falls to 0. Beyond y = tail it goes on as its tangent, so that one rare low x moves u only so far.
Three functions are it, for three uses: `linex_loss` is differentiated, `linex_gradient` is its
derivative alone, exact however small y is, and `mean_linex_loss` is the figure that is logged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch

from rlentropy.types import Array

Tensor = torch.Tensor


class Objective(Protocol):
    """What a network minimises."""

    descent: ClassVar[bool]  # plain gradient descent instead of Adam

    def head(self, output: Tensor) -> Tensor:
        """u of a network's output, elementwise."""

    def loss(self, u: Tensor, x: Tensor, updates: int) -> Tensor:
        """How far u is from one sampled target x of each, elementwise."""


def bounded(output: Tensor, low: float, high: float) -> Tensor:
    """A sigmoid scaled to [low, high]."""
    return low + (high - low) * torch.sigmoid(output)


def squared_loss(u: Tensor, x: Tensor) -> Tensor:
    """(u - x)² / 2, which E x minimises."""
    return 0.5 * (u - x) ** 2


def linex_loss(u: Tensor, x: Tensor, risk_aversion: float, tail: float = math.inf) -> Tensor:
    """LINEX, elementwise; at a risk aversion > 0 whose square single precision holds."""
    y = risk_aversion * (u - x)
    capped = y.clamp(max=tail)
    loss = torch.exp(capped) * (1.0 + y - capped) - y - 1.0
    small = 0.5 * y**2 * (1.0 + y / 3.0)  # where the terms would cancel
    return torch.where(y.abs() < 1e-3, small, loss) / risk_aversion**2


def linex_gradient(u: Tensor, x: Tensor, risk_aversion: float, tail: float = math.inf) -> Tensor:
    """Its derivative in u, elementwise; u - x at a risk aversion of 0."""
    error = u - x
    if risk_aversion == 0.0:
        return error
    return torch.expm1((risk_aversion * error).clamp(max=tail)) / risk_aversion


def mean_linex_loss(error: Array, risk_aversion: float, tail: float = math.inf) -> float:
    """Its mean over errors u - x, in double precision; at a risk aversion of 0 too."""
    y = risk_aversion * error
    small = np.abs(y) < 1e-3
    bent = np.where(small, 1.0, np.minimum(y, tail))
    straight = np.where(small, 1.0, y)
    large = np.expm1(bent) + np.exp(bent) * (straight - bent) - straight
    ratio = np.where(small, 0.5 + y / 6.0 + y**2 / 24.0, large / straight**2)  # of l to error²
    return float((error**2 * ratio).mean())


@dataclass(frozen=True)
class Squared:
    """Least squares: u is the mean of x."""

    descent: ClassVar[bool] = False
    low: float
    high: float

    def head(self, output: Tensor) -> Tensor:
        return bounded(output, self.low, self.high)

    def loss(self, u: Tensor, x: Tensor, updates: int) -> Tensor:
        return squared_loss(u, x)


@dataclass(frozen=True)
class Linex:
    """u = -(1/β) log E exp(-βx), β growing from 0 over the first ``anneal`` updates."""

    descent: ClassVar[bool] = False
    low: float
    high: float
    risk_aversion: float  # β > 0
    tail: float
    anneal: int = 0

    def head(self, output: Tensor) -> Tensor:
        return bounded(output, self.low, self.high)

    def loss(self, u: Tensor, x: Tensor, updates: int) -> Tensor:
        share = min(1.0, (updates + 1) / self.anneal) if self.anneal else 1.0
        return linex_loss(u, x, share * self.risk_aversion, self.tail)


@dataclass(frozen=True)
class SquaredZ:
    """The companion code's: least squares of Z = exp(-βu), a sigmoid, which is in (0, 1)."""

    descent: ClassVar[bool] = True
    risk_aversion: float  # β > 0

    def head(self, output: Tensor) -> Tensor:
        return -torch.nn.functional.logsigmoid(output) / self.risk_aversion

    def loss(self, u: Tensor, x: Tensor, updates: int) -> Tensor:
        beta = self.risk_aversion
        return (torch.exp(-beta * u) - torch.exp(-beta * x)) ** 2


@dataclass(frozen=True)
class TVDual:
    """Least squares on the dual of a total variation ball with a fail state (§1.5, §4.6).

    W = max_η E[η - (η - x)₊ - ρ (η - m)], with m the value of the fail state: a second network,
    η(s, a), ascends it, and u is the mean of what stands in the brackets.
    """

    descent: ClassVar[bool] = False
    low: float
    high: float
    radius: float  # ρ, in [0, 1]
    fail: float  # m
    steps: int  # of ascent an update
    learning_rate: float  # of ascent

    def head(self, output: Tensor) -> Tensor:
        return bounded(output, self.low, self.high)

    def threshold(self, output: Tensor) -> Tensor:
        """η of the second network's output."""
        return bounded(output, self.fail, self.high)

    def dual(self, eta: Tensor, x: Tensor) -> Tensor:
        return eta - torch.relu(eta - x) - self.radius * (eta - self.fail)

    def loss(self, u: Tensor, x: Tensor, updates: int) -> Tensor:
        return squared_loss(u, x)
