"""UCBVI-Ent against dense numpy written from exploration §3.1-3.4; properties 8, 9, 12 and 13."""

import json

import gymnasium
import numpy as np
import pytest
from oracles import episodic, models
from scipy.stats import t as student

from rlentropy import FiniteMDP
from rlentropy.cli import main
from rlentropy.entropy import trajectory_entropy
from rlentropy.envs.tabular import TabularEnv
from rlentropy.exploration import ucbvi_ent
from rlentropy.exploration.setting import Setting
from rlentropy.log import Log
from rlentropy.planning import max_trajectory_entropy

DELTA = 0.1
VARIANTS = ("none", "code", "pac", "fast")


def environment(m, terminal=None):
    return TabularEnv(FiniteMDP(*m.args, terminal=terminal))


def make(m, H, seed=0, simulator="compiled", terminal=None, **options):
    config = ucbvi_ent.Config(horizon=H, simulator=simulator, **options)
    setting = Setting.of(environment(m, terminal), H, simulator)
    return ucbvi_ent.UCBVIEnt(setting, config, np.random.default_rng(seed))


# ---------------------------------------------------------------- the equations, dense


def lse(q):
    top = q.max()
    return float(top + np.log(np.exp(q - top).sum()))


def dense_plan(n, H, variant, scale, plus):
    """§3.1-3.3 for counts n (K, S, A, S), K = 1 or H: Q, V, lower Q, lower V, G (H + 1, S).

    Every confidence term (w_H, w_p, and that of κ in the quadratic gap) is multiplied by the scale:
    of the readings of §3.4's "widths scaled by 0.1" it alone gives stopping times like those there.
    """
    K, S, A, _ = n.shape
    N = n.sum(-1)
    log_SA = np.log(S * A)
    p = np.where(N[..., None] > 0, n / np.maximum(N, 1)[..., None], 1.0 / S)
    up, low = np.zeros((H + 1, S)), np.zeros((H + 1, S))
    Q, Qlow, G = np.zeros((H, S, A)), np.zeros((H, S, A)), np.zeros((H + 1, S))
    for h in range(H - 1, -1, -1):
        k = h if K > 1 else 0
        stage = h + 1  # the page counts from 1
        v = (H - stage + 1) * log_SA
        counted = 1.0 if plus or stage < H else 0.0
        for s in range(S):
            after = np.zeros(A)
            for a in range(A):
                visits = int(N[k, s, a])
                x = max(visits, 1)
                kl = np.log(2 * S * A * H / DELTA)
                if S > 1:
                    kl += (S - 1) * np.log(np.e * (1 + visits / (S - 1)))
                kappa = kl / x
                H_hat = episodic.shannon(p[k, s, a])
                if variant in ("none", "code"):
                    b_p = b_H = 0.0
                    if variant == "code":
                        conc = np.log(4 * S * A * H / DELTA)
                        conc += np.log(4 * np.e * x * (2 * visits + 1))
                        b1 = np.log(4 * S * A * H / DELTA)
                        b1 += np.log(x) ** 2 * np.log(2 * x * (visits + 1))
                        b2 = 1.0
                        if S > 1:
                            b2 += (S - 1) * np.log(np.e * (1 + visits / (S - 1)))
                        b_p = scale * v * np.sqrt(conc / x)
                        b_H = scale * (np.sqrt(b1 / x) + b2 / x)
                    Q[h, s, a] = counted * (H_hat + b_H) + b_p + p[k, s, a] @ up[h + 1]
                    continue
                w_p = scale * (H - stage) * log_SA * np.sqrt(kappa / 2)
                tau = min(np.sqrt(kappa / 2), 1 - 1 / S)
                h2 = sum(-x * np.log(x) for x in (tau, 1 - tau) if x > 0)
                w_H = scale * counted * min(np.log(S), tau * np.log(max(S - 1, 1)) + h2)
                H_hat *= counted
                ceiling = counted * np.log(S) + (H - stage) * log_SA
                Q[h, s, a] = min(H_hat + w_H + p[k, s, a] @ up[h + 1] + w_p, ceiling)
                floor = max(H_hat - w_H, 0.0) + p[k, s, a] @ low[h + 1] - w_p
                Qlow[h, s, a] = max(floor, 0.0)
                if variant == "pac":
                    after[a] = min(2 * (w_H + w_p) + p[k, s, a] @ G[h + 1], v)
                else:
                    after[a] = (1 + 1 / H) * (p[k, s, a] @ G[h + 1])
                    after[a] += scale * (H + 4) * (H - stage) * log_SA * kappa
            up[h, s] = min(lse(Q[h, s]), v)
            low[h, s] = lse(Qlow[h, s])
            pi = np.exp(Q[h, s] - lse(Q[h, s]))
            if variant == "pac":
                G[h, s] = pi @ after
            else:
                widest = ((Q[h, s] - Qlow[h, s]) ** 2).max()
                G[h, s] = min(v, 0.5 * widest + pi @ after)
    return Q, up, Qlow, low, G


def planned(learner):
    V, Q = np.zeros_like(learner.V), np.zeros_like(learner.Q)
    learner.fill(V, Q)
    return Q, V


def compare_with_equations(learner, n, variant, scale, plus):
    H = learner.setting.horizon
    Q, V = planned(learner)
    want_Q, want_V, want_low, _, want_G = dense_plan(n, H, variant, scale, plus)
    np.testing.assert_allclose(Q, want_Q, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(V, want_V, rtol=1e-11, atol=1e-11)
    if variant in ("pac", "fast"):
        np.testing.assert_allclose(learner.guarantee.gap, want_G[0], rtol=1e-10, atol=1e-11)
    if variant == "fast":
        np.testing.assert_allclose(
            learner.guarantee.width, want_Q - want_low, rtol=1e-9, atol=1e-10
        )
    pi = np.exp(want_Q - want_Q.max(-1, keepdims=True))
    np.testing.assert_allclose(learner.policy(), pi / pi.sum(-1, keepdims=True), atol=1e-11)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("objective", ["TE", "TE+"])
def test_plan_for_counts_put_into_the_model(variant, objective):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        S, A, H = (int(x) for x in rng.integers((1, 1, 1), (6, 4, 6)))
        scale = float(rng.choice([0.0, 0.01, 0.3, 1.0, 2.5]))
        staged = bool(seed % 2)
        m = models.random_mdp(rng, S, A)
        learner = make(
            m, H, variant=variant, objective=objective, bonus_scale=scale, stage_dependent=staged
        )
        K = H if staged else 1
        n = np.zeros((K, S, A, S), np.int64)
        for k in range(K):
            for s in range(S):
                for a in range(A):
                    visits = int(rng.choice([0, 1, 2, 7, 400, 30_000]))
                    n[k, s, a] = rng.multinomial(visits, m.P[s, a])
        # Far more pairs than pool: one by one for the small, whole arrays for the large.
        k, s, a, s2 = np.nonzero(n)
        times = n[k, s, a, s2]
        k, s, a, s2 = (np.repeat(x, times) for x in (k, s, a, s2))
        order = rng.permutation(k.size)
        learner.model.update(s[order], a[order], s2[order], k[order] if staged else 0)
        learner.refresh()
        compare_with_equations(learner, n, variant, scale, objective == "TE+")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("staged", [False, True])
def test_plan_after_every_episode(variant, staged):
    """Counts kept here by hand, through `begin_episode` and `end_episode`, with terminations."""
    rng = np.random.default_rng(5)
    S, A, H, scale = 5, 3, 4, 0.2
    m = models.random_mdp(rng, S, A)
    learner = make(m, H, variant=variant, bonus_scale=scale, stage_dependent=staged)
    n = np.zeros((H if staged else 1, S, A, S), np.int64)
    starts = np.zeros(S)
    for episode in range(40):
        assert learner.begin_episode()
        states, actions = rng.integers(S, size=H + 1), rng.integers(A, size=H)
        terminated_at = -1
        if episode % 3 == 0:
            terminated_at = int(rng.integers(1, H + 1))
            states[terminated_at:] = states[terminated_at]
            for k in range(len(n)):
                for a in range(A):  # the flag tells that the state is absorbing, whatever is done
                    if n[k, states[terminated_at], a].sum() == 0:
                        n[k, states[terminated_at], a, states[terminated_at]] = 1
        for h in range(H):
            n[h if staged else 0, states[h], actions[h], states[h + 1]] += 1
        starts[states[0]] += 1
        learner.end_episode(states, actions, terminated_at)
        compare_with_equations(learner, n, variant, scale, plus=False)
        if variant in ("pac", "fast"):
            G = dense_plan(n, H, variant, scale, plus=False)[-1]
            certified = learner.certified_gap()
            assert certified == pytest.approx(starts @ G[0] / starts.sum(), rel=1e-10)
        else:
            assert learner.certified_gap() is None


# ---------------------------------------------------------------- properties 12 and 13


def test_property_12_values_lost_to_wrong_action_values():
    """V* - V^{softmax Q̂} <= ½ Σ_h E max_a (Q̂ - Q*)², with the package's V* and TE."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        S, A, H = 4, 3, 4
        m = models.random_mdp(rng, S, A)
        mdp = FiniteMDP(*m.args)
        plus = bool(seed % 2)
        best = max_trajectory_entropy(mdp, H, plus)
        noise = rng.choice([0.01, 0.3, 2.0, 20.0])
        Q_hat = best.Q + noise * rng.standard_normal((H, S, A))
        pi = episodic.softmax(Q_hat)
        lost = best.value - trajectory_entropy(mdp, pi, H, plus)
        d = episodic.occupancy(m, pi).sum(-1)
        bound = 0.5 * (d * ((Q_hat - best.Q) ** 2).max(-1)).sum()
        assert -1e-9 <= lost <= bound + 1e-9


@pytest.mark.parametrize("variant", ["pac", "fast"])
@pytest.mark.parametrize("objective", ["TE", "TE+"])
def test_property_13_values_are_bracketed_and_the_gap_is_certified(variant, objective):
    """With full widths at least a share 1 - δ of the runs is right at every episode."""
    runs, wrong = 25, 0
    plus = objective == "TE+"
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        S, A, H = 3, 2, 3
        m = models.random_mdp(rng, S, A, start=0)
        best = max_trajectory_entropy(FiniteMDP(*m.args), H, plus)
        learner = make(m, H, seed, variant=variant, objective=objective)
        right = True
        env_rng = rng.spawn(1)[0]
        for t in (1, 2, 5, 20, 100, 500, 2000):
            learner.play(t - learner.episodes, env_rng)
            Q, V = planned(learner)
            right &= bool((best.V <= V + 1e-9).all())
            if variant == "fast":
                low = Q - learner.guarantee.width
                right &= bool((low <= best.Q + 1e-9).all() and (best.Q <= Q + 1e-9).all())
            gap = best.value - trajectory_entropy(learner.setting.mdp, learner.policy(), H, plus)
            right &= gap <= learner.certified_gap() + 1e-9
        wrong += not right
    assert wrong <= runs * DELTA + 3 * np.sqrt(runs * DELTA * (1 - DELTA))


@pytest.mark.parametrize("variant", ["pac", "fast"])
def test_certificates_hold_from_a_random_start(variant):
    """Small widths, random initial distributions: still right, as exploration §3.4 saw."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        m = models.random_mdp(rng, 4, 2)
        best = max_trajectory_entropy(FiniteMDP(*m.args), 4)
        learner = make(m, 4, seed, variant=variant, bonus_scale=0.1)
        for t in (10, 100, 1000):
            learner.play(t - learner.episodes, rng.spawn(1)[0])
            gap = best.value - trajectory_entropy(learner.setting.mdp, learner.policy(), 4)
            assert gap <= learner.certified_gap() + 1e-9


# ---------------------------------------------------------------- the deviation of `fast`


def test_exactly_one_stage_deviates():
    rng = np.random.default_rng(3)
    S, A, H = 4, 3, 5
    m = models.random_mdp(rng, S, A, start=0)
    learner = make(m, H, variant="fast", bonus_scale=0.05)
    learner.play(200, rng.spawn(1)[0])
    pi, width = learner.policy(), learner.guarantee.width.copy()
    stages = np.zeros(H)
    n = 3000
    drawn = np.zeros((H, S, A))
    for _ in range(n):
        assert learner.begin_episode()
        stages[learner.deviation] += 1
        for h in range(H):
            for s in range(S):
                a = learner.act(h, s)
                if h == learner.deviation:
                    assert a == np.argmax(width[h, s])
                else:
                    drawn[h, s, a] += 1
    se = np.sqrt(n * (1 / H) * (1 - 1 / H))
    assert (np.abs(stages - n / H) < 4 * se).all()
    rest = (n - stages)[:, None, None]
    error = np.abs(drawn / rest - pi)
    assert (error < 5 * np.sqrt(pi * (1 - pi) / rest) + 1e-12).all()


def test_the_simulator_plays_the_mixture_of_one_step_deviations():
    """Visits of the compiled loop against (1/H) Σ_h' occupancy of π^(h'), model frozen."""
    rng = np.random.default_rng(4)
    S, A, H, n = 4, 3, 4, 40_000
    m = models.random_mdp(rng, S, A, start=1)
    learner = make(m, H, variant="fast", bonus_scale=0.05)
    learner.play(300, rng.spawn(1)[0])
    learner.memory = learner.memory._replace(frozen=True)
    pi, width = learner.policy(), learner.guarantee.width.copy()
    learner.visits[...] = 0
    learner.play(n, rng.spawn(1)[0])
    expected = np.zeros((H, S, A))
    for deviation in range(H):
        other = pi.copy()
        other[deviation] = np.eye(A)[width[deviation].argmax(-1)]
        expected += episodic.occupancy(m, other) / H
    se = np.sqrt(expected * (1 - expected) / n)
    assert (np.abs(learner.visits / n - expected) < 5 * se + 1e-12).all()
    plain = episodic.occupancy(m, pi)
    assert (np.abs(expected - plain) > 20 * se).any(), "the test could not see a deviation"


def test_other_variants_never_deviate():
    m = models.random_mdp(np.random.default_rng(0), 3, 2)
    for variant in ("none", "code", "pac"):
        learner = make(m, 3, variant=variant)
        for _ in range(20):
            learner.begin_episode()
            assert learner.deviation == -1


# ---------------------------------------------------------------- the stopping rule


GARNET = (
    *("ucbvi-ent", "--env-id", "rlentropy/Garnet-v0"),
    *("--env-kwargs", '{"num_states": 3, "num_actions": 2, "branching": 2}'),
    *("--horizon", "3", "--tolerance", "0.2", "--bonus-scale", "0.01", "--quiet"),
)


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("simulator", ["compiled", "gymnasium"])
@pytest.mark.parametrize("variant", ["pac", "fast"])
def test_stop_by_certificate(tmp_path, capsys, simulator, variant):
    out = tmp_path / "run"
    run = (*GARNET, "--variant", variant, "--simulator", simulator)
    assert main([*run, "--episodes", "5000", "--out", str(out)]) == 0
    summary = summary_of(out)
    stop = summary["episodes"]
    assert summary["stopped_by_certificate"] is True
    assert 1 <= stop < 5000
    assert summary["env_steps"] == 3 * stop
    assert summary["certified_gap"] <= 0.2
    assert -1e-9 <= summary["optimum"] - summary["value"] <= 0.2
    # One episode fewer, and nothing is certified yet.
    earlier = tmp_path / "earlier"
    assert main([*run, "--episodes", str(stop - 1), "--out", str(earlier)]) == 0
    less = summary_of(earlier)
    assert less["stopped_by_certificate"] is False
    assert less["episodes"] == stop - 1
    assert less["certified_gap"] > 0.2
    # A resumed run that is certified is finished, whatever the budget.
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    capsys.readouterr()
    more = ("--episodes", "9000", "--out", str(out), "--resume", "--no-quiet")
    assert main([*run, *more]) == 0
    assert "already finished" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    # And one that is resumed before it stops, stops at the same place with the same policy.
    assert main([*run, "--episodes", "5000", "--out", str(earlier), "--resume"]) == 0
    clocks = {"wall_seconds": 0, "compile_seconds": 0}
    assert summary_of(earlier) | clocks == summary | clocks
    with np.load(out / "policy.npz") as one, np.load(earlier / "policy.npz") as other:
        np.testing.assert_array_equal(one["pi"], other["pi"])


def test_no_tag_is_logged_twice_at_a_step(tmp_path):
    """The plan is certified before the next episode, right after an evaluation."""
    out = tmp_path / "run"
    run = (*GARNET, "--variant", "pac", "--eval-every", "1", "--out", str(out))
    assert main([*run, "--episodes", "5000"]) == 0
    assert summary_of(out)["stopped_by_certificate"] is True
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    keys = [(row["tag"], row["step"]) for row in rows]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    assert not twice, twice


def test_a_stopped_learner_plays_nothing_more():
    m = models.random_mdp(np.random.default_rng(1), 3, 2, start=0)
    for simulator in ("compiled", "gymnasium"):
        learner = make(m, 3, simulator=simulator, variant="fast", bonus_scale=0.001, tolerance=0.5)
        learner.play(3000, np.random.default_rng(0))
        assert learner.stopped
        episodes, visits = learner.episodes, learner.visits.copy()
        assert learner.play(10, np.random.default_rng(0)) == 0
        assert not learner.begin_episode()
        assert learner.episodes == episodes
        np.testing.assert_array_equal(learner.visits, visits)


@pytest.mark.parametrize("variant", ["pac", "fast"])
def test_tolerance_zero_never_stops(variant):
    m = models.random_mdp(np.random.default_rng(1), 3, 1, start=0)
    learner = make(m, 3, variant=variant, bonus_scale=0.0)
    learner.play(50, np.random.default_rng(0))
    assert (learner.episodes, learner.stopped) == (50, False)


def stopping_time(seed, scale, variant="fast", budget=60_000):
    rng = np.random.default_rng(seed)
    m = models.random_mdp(rng, 3, 2, successors=3, start=0)
    learner = make(
        m, 3, seed, variant=variant, bonus_scale=scale, tolerance=0.2, stage_dependent=True
    )
    learner.play(budget, rng.spawn(1)[0])
    best = max_trajectory_entropy(learner.setting.mdp, 3).value
    gap = best - trajectory_entropy(learner.setting.mdp, learner.policy(), 3)
    return learner, gap


def test_stopping_times():
    """§3.4, S=3, A=2, H=3, ε=0.2: about 3 700 episodes at scale 0.1 and 60 at 0.01.

    The MDP is not given, so this asks for the order of magnitude in the median of seven, each
    with a kernel a stage as in the theory.
    """
    for scale, episodes in ((0.1, 3700), (0.01, 60)):
        found = []
        for seed in range(7):
            learner, gap = stopping_time(seed, scale)
            assert learner.stopped
            assert gap <= 0.2
            found.append(learner.episodes)
        assert episodes / 4 <= np.median(found) <= 4 * episodes, (scale, found)


def test_full_widths_do_not_stop():
    """§3.4: the certificate is still 1.78 after 60 000 episodes, the true gap 0.011."""
    learner, gap = stopping_time(0, 1.0)
    assert not learner.stopped
    assert 0.2 < learner.certified_gap() < 4.0
    assert gap < 0.05


# ---------------------------------------------------------------- reference numbers


def run(env_id, seed, **options):
    rng = np.random.default_rng(seed)
    return ucbvi_ent.run(gymnasium.make(env_id), ucbvi_ent.Config(**options), rng, Log(None))


@pytest.mark.parametrize("simulator", ["compiled", "gymnasium"])
def test_noisy_chain_closes_nine_tenths_of_the_gap(simulator):
    best, uniform = 11.115425, 11.019060
    for seed in range(5 if simulator == "compiled" else 1):
        found = run("rlentropy/NoisyChain-v0", seed, episodes=2000, simulator=simulator)
        assert found.summary["optimum"] == pytest.approx(best, abs=1e-6)
        assert found.summary["value"] >= uniform + 0.9 * (best - uniform)


def test_property_8_equal_noise_everywhere_makes_uniform_optimal():
    """DoubleChain with counts in the exact proportions 9 : 1."""
    m = models.double_chain()
    learner = make(m, 20)
    counts = np.rint(10 * m.P).astype(int)
    s, a, s2 = np.nonzero(counts)
    learner.model.update(*(np.repeat(x, counts[s, a, s2]) for x in (s, a, s2)))
    learner.refresh()
    np.testing.assert_allclose(learner.policy(), 0.5, atol=1e-9)
    best = max_trajectory_entropy(learner.setting.mdp, 20)
    np.testing.assert_allclose(best.pi, 0.5, atol=1e-9)
    assert best.value == pytest.approx(20.0395201056, abs=1e-9)


CHAIN_TABLE = {  # §6.4, exact TE after 10, 28, 79, 224, 630, 1775, 5000 episodes; 5 seeds
    ("none", 1.0): (19.01, 19.52, 19.84, 19.97, 20.013, 20.029, 20.037),
    ("code", 1.0): (13.15, 16.23, 18.84, 19.79, 19.77, 18.65, 17.06),
    ("code", 0.01): (17.27, None, None, None, None, None, 20.024),
}


@pytest.mark.parametrize(("variant", "scale"), list(CHAIN_TABLE))
def test_chain_table(variant, scale):
    """Within the error of the page's five seeds and ours, whose sd stands for both.

    Student's t at 1 % over all fifteen numbers together: after 10 episodes the sd is 1.8.
    """
    seeds, mdp = 6, FiniteMDP(*models.double_chain().args)
    episodes = (10, 28, 79, 224, 630, 1775, 5000)
    ours = np.zeros((seeds, len(episodes)))
    for seed in range(seeds):
        rng = np.random.default_rng(100 + seed)
        learner = make(
            models.double_chain(), 20, seed, variant=variant, bonus_scale=scale, objective="TE+"
        )
        for k, t in enumerate(episodes):
            learner.play(t - learner.episodes, rng)
            ours[seed, k] = trajectory_entropy(mdp, learner.policy(), 20)
    se = ours.std(0, ddof=1) * np.sqrt(1 / 5 + 1 / seeds)
    multiple = student.ppf(1 - 0.01 / 15 / 2, seeds - 1)
    for k, value in enumerate(CHAIN_TABLE[variant, scale]):
        if value is not None:
            rounding = 0.0005 if value > 20 else 0.005
            assert abs(ours[:, k].mean() - value) <= multiple * se[k] + rounding, (
                episodes[k],
                ours[:, k],
            )
