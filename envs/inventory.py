"""Inventory: how much to order under Poisson demand."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gammaln, pdtrc

from rlentropy.envs.tabular import TabularEnv, check_whole
from rlentropy.mdp import FiniteMDP

SALE_PRICE, UNIT_COST, ORDER_COST = 4.99, 2.49, 0.49
HOLDING_COST, BACKLOG_COST = 0.05, 0.15  # a unit and step, of what is left or owed


class InventoryEnv(TabularEnv):  # type: ignore[misc]
    """Order a units (action a in 0..max_stock) of one good; the start is an empty store.

    State s is a stock of s - max_backlog, negative when units are owed. An order arrives at once,
    cut to what the store still holds: y = min(stock + a, max_stock). Then demand D ~
    Poisson(mean_demand) leaves max(y - D, -max_backlog); customers beyond the backlog are lost,
    those within pay at once. With k = y - stock units bought and next stock z, the step pays

        4.99 (y - z) - 2.49 k - 0.49 [k > 0] - 0.05 max(z, 0) - 0.15 max(-z, 0)

    so a reward depends on the successor. An episode never terminates.

    Prices and max_stock are those of the inventory domain of craam, the order of events that of
    MDPs.jl (both by Petrik and others); the mean demand and the backlog limit are ours.

    Args:
        max_stock: at least 1.
        max_backlog: at least 0.
        mean_demand: > 0 and finite.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        max_stock: int = 20,
        max_backlog: int = 5,
        mean_demand: float = 10.0,
        *,
        render_mode: str | None = None,
    ) -> None:
        check_whole("max_stock", max_stock, 1)
        check_whole("max_backlog", max_backlog, 0)
        number = isinstance(mean_demand, float | int | np.number)
        if not (number and 0.0 < mean_demand < math.inf):
            raise ValueError(f"mean_demand must be > 0 and finite, got {mean_demand!r}")
        stock = np.arange(-max_backlog, max_stock + 1)
        y = np.minimum(stock[:, None] + np.arange(max_stock + 1), max_stock)  # (S, A)
        bought = y - stock[:, None]
        sold = y[:, :, None] - stock  # (S, A, S), to reach each next stock
        some = np.maximum(sold, 0)
        P = np.exp(some * math.log(mean_demand) - mean_demand - gammaln(some + 1.0))
        P = np.where(sold >= 0, P, 0.0)
        P[:, :, 0] = np.where(some[:, :, 0] > 0, pdtrc(some[:, :, 0] - 1, mean_demand), 1.0)
        keep = HOLDING_COST * np.maximum(stock, 0) + BACKLOG_COST * np.maximum(-stock, 0)
        pay = UNIT_COST * bought + ORDER_COST * (bought > 0)
        super().__init__(
            FiniteMDP(
                P, SALE_PRICE * sold - keep - pay[:, :, None], np.eye(stock.size)[max_backlog]
            ),
            action_names=tuple(f"order {a}" for a in range(max_stock + 1)),
            render_mode=render_mode,
        )
