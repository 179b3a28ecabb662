"""RF-UCRL and RF-Express against dense numpy from exploration §5.3; the numbers of §6.4."""

import json

import gymnasium
import numpy as np
import pytest
from oracles import episodic, models

from rlentropy import FiniteMDP
from rlentropy.cli import main
from rlentropy.envs.tabular import TabularEnv
from rlentropy.exploration import rf_ucrl
from rlentropy.exploration.setting import Setting
from rlentropy.log import Log

DELTA = 0.1


def make(m, H, seed=0, simulator="compiled", **options):
    config = rf_ucrl.Config(horizon=H, simulator=simulator, **options)
    setting = Setting.of(TabularEnv(FiniteMDP(*m.args)), H, simulator)
    return rf_ucrl.RewardFree(setting, config, np.random.default_rng(seed))


def dense_plan(n, H, variant, scale, clip):
    """§5.3 for counts n (K, S, A, S): E or W (H, S, A), and its maximum (H + 1, S)."""
    K, S, A, _ = n.shape
    E, F = np.zeros((H, S, A)), np.zeros((H + 1, S))
    for h in range(H - 1, -1, -1):
        k = h if K > 1 else 0
        v = H - h  # H - h + 1 of the page, which counts stages from 1
        for s in range(S):
            for a in range(A):
                N = int(n[k, s, a].sum())
                p = n[k, s, a] / N if N else np.full(S, 1.0 / S)
                x = max(N, 1)
                if variant == "rf-ucrl":
                    beta = np.log(2 * S * A * H / DELTA)
                    if S > 1:
                        beta += (S - 1) * np.log(np.e * (1 + N / (S - 1)))
                    E[h, s, a] = scale * v * np.sqrt(beta / x) + p @ F[h + 1]
                else:
                    beta = np.log(3 * S * A * H / DELTA) + S * np.log(8 * np.e * (N + 1))
                    E[h, s, a] = scale * 15 * H**2 * beta / x + (1 + 1 / H) * (p @ F[h + 1])
            F[h, s] = E[h, s].max()
            if variant == "rf-express":
                F[h, s] = min(F[h, s], H)
            elif clip:
                F[h, s] = min(F[h, s], 2 * v)
    return E, F


@pytest.mark.parametrize("variant", ["rf-ucrl", "rf-express"])
@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize("clip", [False, True])
def test_plan_gap_and_policy_are_those_of_the_equations(variant, staged, clip):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        S, A, H = (int(x) for x in rng.integers((1, 1, 1), (6, 4, 6)))
        scale = float(rng.choice([0.0, 1e-4, 0.01, 1.0]))
        m = models.random_mdp(rng, S, A)
        learner = make(m, H, variant=variant, bonus_scale=scale, clip=clip, stage_dependent=staged)
        n = np.zeros((H if staged else 1, S, A, S), np.int64)
        for k in range(len(n)):
            for s in range(S):
                for a in range(A):
                    visits = int(rng.choice([0, 1, 5, 300, 50_000]))
                    n[k, s, a] = rng.multinomial(visits, m.P[s, a])
        k, s, a, s2 = np.nonzero(n)
        times = n[k, s, a, s2]
        k, s, a, s2 = (np.repeat(x, times) for x in (k, s, a, s2))
        learner.model.update(s, a, s2, k if staged else 0)
        learner.refresh()
        starts = rng.integers(0, 5, S) + 1
        learner.visits[0, :, 0] = starts
        learner.episodes = int(starts.sum())
        V, Q = np.zeros((H + 1, S)), np.zeros((H, S, A))
        learner.fill(V, Q)
        E, F = dense_plan(n, H, variant, scale, clip)
        np.testing.assert_allclose(Q, E, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(V, F, rtol=1e-11, atol=1e-12)
        # Stop at E_1 <= ε/2, or at 3e sqrt(W_1) + W_1 <= ε/2: the smallest ε that would do.
        gap = 2 * F[0] if variant == "rf-ucrl" else 2 * (3 * np.e * np.sqrt(F[0]) + F[0])
        certified = learner.certified_gap()
        assert certified == pytest.approx(starts @ gap / starts.sum(), rel=1e-10)
        top = E.max(-1, keepdims=True)
        best = top - E <= 1e-9 * (1 + top)
        np.testing.assert_allclose(
            learner.last_iterate(), best / best.sum(-1, keepdims=True), atol=1e-12
        )


@pytest.mark.parametrize("variant", ["rf-ucrl", "rf-express"])
def test_certificate_is_that_of_every_reward(variant):
    """What ε promises: for any reward in [0, 1] the plan on p̂ is ε-optimal (full widths)."""
    runs, wrong = 15, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        m = models.random_mdp(rng, 3, 2, start=0)
        learner = make(m, 3, seed, variant=variant)
        right = True
        for t in (1, 10, 100, 1000):
            learner.play(t - learner.episodes, rng)
            counts = learner.model.counts
            p = np.full((6, 3), 1.0 / 3)
            for i in range(6):
                if counts.N[i]:
                    places = slice(counts.begin[i], counts.end[i])
                    p[i] = 0.0
                    p[i, counts.successor[places]] = counts.p[places]
            estimated = models.Dense(p.reshape(3, 2, 3), m.mu)
            for _ in range(5):
                r = rng.random((3, 3, 2))
                pi = np.eye(2)[episodic.plan(estimated, r)[0].argmax(-1)]
                lost = episodic.plan(m, r)[1][0, 0] - (episodic.occupancy(m, pi) * r).sum()
                right &= lost <= learner.certified_gap() + 1e-9
        wrong += not right
    assert wrong <= runs * DELTA + 3 * np.sqrt(runs * DELTA * (1 - DELTA))


@pytest.mark.parametrize("simulator", ["compiled", "gymnasium"])
@pytest.mark.parametrize(
    ("variant", "tolerance", "scale"), [("rf-ucrl", "2", "0.1"), ("rf-express", "9", "0.001")]
)
def test_stop_rule(tmp_path, capsys, simulator, variant, tolerance, scale):
    out = tmp_path / "run"
    run = (
        *("rf-ucrl", "--env-id", "rlentropy/Garnet-v0", "--simulator", simulator),
        *("--env-kwargs", '{"num_states": 4, "num_actions": 2, "branching": 2}'),
        *("--horizon", "3", "--variant", variant, "--tolerance", tolerance),
        *("--bonus-scale", scale, "--out", str(out)),
    )
    assert main([*run, "--episodes", "20000"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    stop = summary["episodes"]
    assert summary["stopped_by_certificate"] is True
    assert 1 < stop < 20_000
    assert summary["certified_gap"] <= float(tolerance)
    assert summary["env_steps"] == 3 * stop
    assert np.sum(summary["state_visits"]) == 3 * stop
    capsys.readouterr()
    assert main([*run, "--episodes", "30000", "--resume"]) == 0
    assert "already finished" in capsys.readouterr().out
    assert main([*run, "--episodes", str(stop - 1), "--overwrite"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["stopped_by_certificate"] is False
    assert summary["certified_gap"] > float(tolerance)


@pytest.mark.parametrize(("clip", "expected"), [(True, 3.442), (False, 3.983)])
def test_visits_on_the_chain(clip, expected):
    """§6.4: AVE of the visits in 5000 episodes, and mean visits of states 0, 5, 10, 15.

    The page gives ten seeds without their sd; ours, of five, stands for it.
    """
    table = {True: (0, 724, 3474, 16961), False: (1448, 2384, 3999, 7540)}[clip]
    entropies, visits = [], []
    for seed in range(5):
        learner = make(models.double_chain(), 20, seed, objective="AVE", clip=clip)
        learner.play(5000, np.random.default_rng(seed))
        n = learner.visits.sum(0)
        entropies.append(episodic.shannon(n / n.sum()))
        visits.append(n.sum(1)[[0, 5, 10, 15]])
    se = np.std(entropies, ddof=1) * np.sqrt(1 / 5 + 1 / 10)
    assert abs(np.mean(entropies) - expected) <= 4 * se + 0.0005, entropies
    se = np.std(visits, axis=0, ddof=1) * np.sqrt(1 / 5 + 1 / 10)
    assert (np.abs(np.mean(visits, axis=0) - table) <= 4 * se + 1.0).all(), np.mean(visits, axis=0)


def test_full_run_reports_the_entropy_of_its_mixture():
    env = gymnasium.make("rlentropy/DoubleChain-v0")
    config = rf_ucrl.Config(objective="AVE", episodes=300)
    found = rf_ucrl.run(env, config, np.random.default_rng(0), Log(None))
    assert found.summary["mixture_value"] <= found.summary["optimum"] + 1e-5
    projection = found.visits / np.maximum(found.visits.sum(-1, keepdims=True), 1)
    seen = found.visits.sum(-1) > 0
    np.testing.assert_allclose(found.policy["pi"][seen], projection[seen], atol=1e-12)
    d = episodic.occupancy(models.double_chain(), found.policy["pi"])
    assert found.summary["value"] == pytest.approx(episodic.visitation_entropy(d, "AVE"), abs=1e-9)
