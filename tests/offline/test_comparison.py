"""What risk changed of a table's policy: against dense value iteration and by hand."""

import json

import numpy as np
import pytest
from examples.offline import PASSED, SMALL, dataset, learnt, table
from oracles import discounted

from rlentropy import FiniteMDP, cli
from rlentropy.data import save
from rlentropy.envs.ring import RingEnv
from rlentropy.offline import comparison, fqi, rfqi, rfzi, tabular

GAMMA = 0.95


def counted(data, S=14, A=3):
    """Frequencies of what followed, (S, A, S), without the package."""
    n = np.zeros((S, A, S))
    np.add.at(n, (data.observations, data.actions, data.next_observations), 1.0)
    return n / n.sum(2, keepdims=True)


@pytest.fixture(scope="module")
def ring():
    mdp = RingEnv(p=0.01).mdp
    return mdp, dataset(mdp, 60_000, seed=0)


@pytest.mark.parametrize("beta", [0.1, 0.3, 1.0, 3.0])
def test_states_that_risk_moves_are_those_whose_action_loses_without_it(ring, beta) -> None:
    mdp, data = ring
    P = counted(data)
    Q = discounted.action_values(P, mdp.r, GAMMA)
    risky = discounted.action_values(P, mdp.r, GAMMA, discounted.entropic(beta / GAMMA))
    taken = np.take_along_axis(Q, risky.argmax(1)[:, None], 1)[:, 0]
    V = Q.max(1)
    seen = [[np.ptp(V[P[s, a] > 0]) for a in range(3)] for s in range(14)]
    summary = learnt(rfzi, data, risk=f"entropic:{beta}").summary
    assert summary["differs_from_nominal"] == (taken < V - 1e-6).sum()
    assert summary["next_value_spread"] == pytest.approx(np.median(seen), abs=1e-6)
    assert summary["scaled_risk_aversion"] == pytest.approx(beta * np.median(seen), abs=1e-6)
    if beta == 0.1:  # the command's default, which on the ring is too little
        scaled = f"{beta * np.median(seen):.2g}"
        assert summary["hint"] == (
            "same greedy policy as β = 0 on these data: raise β "
            f"(times the spread of next values it is {scaled})"
        )
    else:
        assert summary["differs_from_nominal"] > 0
        assert "hint" not in summary


def test_a_radius_is_compared_likewise(ring) -> None:
    data = ring[1]
    small, large = (learnt(rfqi, data, risk=f"tv-ball:{rho}").summary for rho in (1e-6, 0.3))
    assert small["differs_from_nominal"] == 0
    assert small["hint"] == "same greedy policy as radius 0 on these data: raise the radius"
    assert large["differs_from_nominal"] > 0
    assert not {"hint", "next_value_spread", "scaled_risk_aversion"} & large.keys()


@pytest.mark.parametrize("beta", [0.01, 50.0])
def test_equal_actions_are_no_difference(rng, beta) -> None:
    """Where nothing is random, risk changes nothing; many actions tie."""
    P = np.eye(7)[rng.integers(7, size=(7, 3))]
    P[:, 2] = P[:, 1]
    r = rng.normal(size=(7, 3))
    r[:, 2] = r[:, 1]
    summary = learnt(
        rfzi, dataset(FiniteMDP(P, r, np.full(7, 1 / 7)), 4000, seed=0), risk=f"entropic:{beta}"
    ).summary
    assert summary["differs_from_nominal"] == 0
    assert summary["next_value_spread"] == 0.0
    assert summary["hint"].endswith("which show no noise to be robust against")


def test_a_tie_without_risk_is_no_difference_whatever_risk_prefers() -> None:
    """In state 0 both actions are worth 1 on average, one surely; risk takes the sure one."""
    gamble = [(0, 1, 2.0, 1, True), (0, 1, 0.0, 2, True)]
    data = table((0, 0, 1.0, 1, True), (0, 0, 1.0, 1, True), *gamble)
    model = tabular.Model.counted(data.counts())
    sure, risky = np.zeros((2, 3, 2))
    sure[0, 0] = risky[0, 1] = 1.0
    for Q in (sure, risky):
        found = comparison.with_nominal(model, Q, 0.5, 0.0, 1e-9)
        assert found == comparison.Comparison(differing=0, spread=pytest.approx(4.0))
    worse = table((0, 0, 1.0, 1, True), (0, 1, 2.0, 1, True), (0, 1, 0.1, 2, True))
    model = tabular.Model.counted(worse.counts())
    assert comparison.with_nominal(model, sure, 0.5, 0.0, 1e-9).differing == 1
    assert comparison.with_nominal(model, risky, 0.5, 0.0, 1e-9).differing == 0


def test_spreads_of_next_values_by_hand() -> None:
    """PASSED: after (1, 0) state 1 goes on, or an end is entered, and rewards are 2, 0 and 1."""
    model = tabular.Model.counted(table(*PASSED).counts())
    spreads = comparison.next_value_spreads(model, 0.5, np.array([5.0, 10.0, 20.0]))
    cells = dict(zip(model.cell.tolist(), spreads.tolist(), strict=True))
    # r / γ + V: 2 / .5 + 20, 0 + 10, 1 / .5 + 0 twice
    assert cells[2] == pytest.approx(24.0 - 2.0)
    assert cells[0] == cells[1] == 0.0


def test_what_is_not_known_is_not_said(ring, monkeypatch) -> None:
    monkeypatch.setattr(comparison, "SWEEPS", 3)
    summary = learnt(rfzi, ring[1], risk="entropic:0.1").summary
    assert not {"hint", "differs_from_nominal", "next_value_spread"} & summary.keys()


def test_networks_and_the_baseline_say_nothing(ring) -> None:
    for summary in (
        learnt(rfzi, ring[1], updates=2, **SMALL).summary,
        learnt(fqi, ring[1]).summary,
    ):
        assert "differs_from_nominal" not in summary


def test_the_command_line_prints_it(tmp_path, capsys, ring) -> None:
    path, out = tmp_path / "ring.npz", tmp_path / "run"
    save(path, ring[1])
    assert cli.main(["rfzi", "--data", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "same greedy policy as β = 0 on these data: raise β" in printed
    stored = json.loads((out / "summary.json").read_text("utf-8"))
    assert stored["differs_from_nominal"] == 0
