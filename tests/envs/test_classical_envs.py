"""MachineReplacement and Inventory against tables, Poisson laws and a simulated store."""

import numpy as np
import pytest
from oracles import models
from scipy.stats import poisson

from rlentropy.envs.inventory import InventoryEnv
from rlentropy.envs.machine_replacement import MachineReplacementEnv

# --------------------------------------------------------------------------- machine replacement

# (state, action): {next state: probability}, from MDPs.jl's table, whose states 1 and 2 (repairs)
# are 8 and 9 here and whose 3..10 (working) are 0..7
MACHINE = {(s, 0): {s: 0.2, s + 1: 0.8} for s in range(7)}
MACHINE |= {(s, 1): {s + 1: 0.3, 8: 0.6, 9: 0.1} for s in range(7)}
MACHINE |= {(7, 0): {7: 1.0}, (7, 1): {7: 0.3, 8: 0.6, 9: 0.1}}
MACHINE |= {(8, 0): {8: 0.2, 0: 0.8}, (8, 1): {8: 1.0}}
MACHINE |= {(9, 0): {9: 1.0}, (9, 1): {8: 0.6, 9: 0.4}}


def test_machine_kernel_and_costs_are_the_table() -> None:
    P = np.zeros((10, 2, 10))
    for (s, a), row in MACHINE.items():
        for after, p in row.items():
            P[s, a, after] = p
    mdp = MachineReplacementEnv().mdp
    np.testing.assert_allclose(models.dense(mdp), P, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(mdp.r, np.tile([[0]] * 7 + [[-20], [-2], [-10]], 2))
    assert mdp.r_successor is None
    assert mdp.mu[0] == 1.0


def test_machine_is_repaired_when_worn() -> None:
    """The best policy by brute force over all 2^10 runs the new machine and mends the worn one."""
    mdp, gamma = MachineReplacementEnv().mdp, 0.8
    P, best, chosen = models.dense(mdp), -np.inf, None
    for code in range(2**10):
        a = (code >> np.arange(10)) & 1
        rows = P[np.arange(10), a]
        V = np.linalg.solve(np.eye(10) - gamma * rows, mdp.r[np.arange(10), a])
        if V.mean() > best:
            best, chosen = V.mean(), a
    assert chosen[0] == 0
    assert chosen[7] == 1
    assert (chosen[8], chosen[9]) == (0, 1)


@pytest.mark.parametrize("size", [3, 4, 25])
def test_machine_of_any_size(size: int) -> None:
    mdp = MachineReplacementEnv(size).mdp
    np.testing.assert_allclose(models.dense(mdp).sum(2), 1.0, rtol=0, atol=1e-15)
    assert mdp.reachable().all()
    worn = size - 3
    assert models.dense(mdp)[worn, 0, worn] == 1.0
    assert mdp.r[worn, 1] == -20.0


def test_machine_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="num_states must be a whole number >= 3, got 2"):
        MachineReplacementEnv(2)


# ---------------------------------------------------------------------------------------- inventory


@pytest.mark.parametrize(("limit", "backlog", "mean"), [(20, 5, 10.0), (4, 0, 1.5), (3, 2, 0.3)])
def test_inventory_kernel_is_poisson(limit: int, backlog: int, mean: float) -> None:
    mdp = InventoryEnv(limit, backlog, mean).mdp
    S, A = limit + backlog + 1, limit + 1
    assert (mdp.num_states, mdp.num_actions) == (S, A)
    P = np.zeros((S, A, S))
    for s in range(S):
        for a in range(A):
            y = min(s - backlog + a, limit)
            for z in range(-backlog + 1, y + 1):
                P[s, a, z + backlog] = poisson.pmf(y - z, mean)
            P[s, a, 0] = poisson.sf(y + backlog - 1, mean)
    np.testing.assert_allclose(models.dense(mdp), P, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(models.dense(mdp).sum(2), 1.0, rtol=0, atol=1e-13)
    assert mdp.mu[backlog] == 1.0


def test_inventory_rewards_by_hand() -> None:
    env = InventoryEnv()

    def reward(stock: int, order: int, after: int) -> float:
        row = (stock + 5) * 21 + order
        at = env.mdp.rows.begin[row] + np.flatnonzero(
            env.mdp.P[[row]].toarray()[0].nonzero()[0] == after + 5
        )
        return float(env.mdp.r_successor[at].item())

    cells = {
        (0, 0, 0): 0.0,
        (0, 0, -3): 3 * 4.99 - 3 * 0.15,
        (0, 10, 4): 6 * 4.99 - 10 * 2.49 - 0.49 - 4 * 0.05,
        (-5, 20, 15): -20 * 2.49 - 0.49 - 15 * 0.05,
        (18, 7, 20): -2 * 2.49 - 0.49 - 20 * 0.05,  # cut to the room of 2
        (20, 9, -5): 25 * 4.99 - 5 * 0.15,  # nothing bought
    }
    for cell, expected in cells.items():
        assert reward(*cell) == pytest.approx(expected, abs=1e-12), cell


def test_inventory_agrees_with_a_simulated_store(rng) -> None:
    """Mean profit of an order-up-to rule, within 4 standard errors, customer by customer."""
    env, n = InventoryEnv(mean_demand=7.0), 20_000
    for stock, order in ((-5, 9), (0, 0), (3, 12), (20, 5)):
        demand = rng.poisson(7.0, n)
        bought = min(order, 20 - stock)
        profit = np.full(n, -2.49 * bought - 0.49 * (bought > 0))
        left = np.full(n, stock + bought)
        for _ in range(demand.max()):
            served = (demand > 0) & (left > -5)
            profit += 4.99 * served
            left -= served
            demand = np.maximum(demand - 1, 0)
        profit -= np.where(left > 0, 0.05 * left, -0.15 * left)
        error = profit.std() / np.sqrt(n)
        assert abs(env.mdp.r[stock + 5, order] - profit.mean()) < 4.0 * error + 1e-9


def test_inventory_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="max_stock must be a whole number >= 1, got 0"):
        InventoryEnv(0)
    with pytest.raises(ValueError, match="max_backlog must be a whole number >= 0, got -1"):
        InventoryEnv(max_backlog=-1)
    for mean in (0.0, -1.0, np.inf, np.nan, "ten"):
        with pytest.raises(ValueError, match="mean_demand must be > 0 and finite, got"):
            InventoryEnv(mean_demand=mean)
