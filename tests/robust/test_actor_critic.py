"""Robust actor-critic: what it learns on problems with known answers, its spaces, its runs."""

import json
import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from scipy.special import logsumexp

from rlentropy import FiniteMDP, cli, risk
from rlentropy.envs.tabular import TabularEnv
from rlentropy.errors import InputError, InputWarning
from rlentropy.log import Log
from rlentropy.neural.actor_critic import ActorCritic, clipped_gain, risk_aversion
from rlentropy.neural.estimator import estimate
from rlentropy.neural.rollouts import next_values
from rlentropy.robust.actor_critic import Config, load_policy, run
from rlentropy.runs.policies import load

SMALL = {"num_envs": 2, "rollout_steps": 16, "epochs": 2, "minibatches": 2, "final_episodes": 3}
SMALL |= {"hidden": (8,), "evaluation_episodes": 2}


def test_no_gain_from_moving_a_probability_further_than_the_clip():
    ratio, gain = torch.tensor([0.5, 0.9, 1.5, 0.5, 1.5]), torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0])
    want = torch.tensor([0.5, 0.9, 1.2, -0.8, -1.5])
    torch.testing.assert_close(clipped_gain(ratio, gain, 0.2), want)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_train_figures_are_what_they_are_called(env_id):
    """Of an update of one step, in which the policy is still the one that played."""
    config = Config(risk="entropic:0.02", gamma=0.9, num_envs=3, rollout_steps=60, epochs=1,
                    minibatches=1, hidden=(8,), horizon=25)  # fmt: skip
    env = gymnasium.make(env_id)
    agent, twin = (ActorCritic(env, config, np.random.default_rng(2)) for _ in range(2))
    rollouts = agent.play()
    figures = agent.learn(rollouts)
    assert figures["train/return"] == pytest.approx(np.mean(rollouts.returns))
    gains, gain = [], np.zeros(3)  # discounted returns so far, whose deviation scales rewards
    for rewards, ended in zip(rollouts.rewards, rollouts.ended, strict=True):
        gain = 0.9 * gain + rewards
        gains.append(gain)
        gain = np.where(ended, 0.0, gain)
    scale = np.std(gains)
    assert figures["train/reward_scale"] == pytest.approx(scale)

    x, b = rollouts.observations, 0.02 / 0.9 * scale  # not standardised yet
    with torch.no_grad():
        values = twin.values(x.reshape(-1, x.shape[-1])).reshape(61, 3)
        last = twin.encode([o for *_, o in rollouts.truncated])
        V_next = next_values(values, rollouts, twin.values(last))
        features = twin.head.features(rollouts.actions)
        seen = [part.reshape(180, -1) for part in (x[:-1], features)]
        certainty = twin.certainties(*seen).reshape(60, 3)
        settings = {"gamma": 0.9, "gae_lambda": 0.95, "trace_decay": 0.9, "max_weight": 10.0}
        found = estimate(rollouts.rewards / scale, values[:-1], V_next, certainty, rollouts.ended,
                         np.zeros(3), b=b, **settings)  # fmt: skip
        outputs = twin.policy(torch.as_tensor(seen[0]))[0]
        actions = torch.as_tensor(rollouts.actions.reshape(180, -1))
        entropy = twin.head.law(outputs, actions)[1].numpy().reshape(60, 3)
    rho, error = found.rho, certainty - found.surprise
    want = {
        "effective_sample_size": rho.sum() ** 2 / (rho**2).sum(),
        "weight_max": np.exp(found.log_w).max(),
        "linex_loss": ((np.exp(b * error) - b * error - 1.0) / b**2).mean(),
        "value_loss": 0.5 * ((values[:-1] - found.value_targets) ** 2).mean(),
        "policy_loss": 0.0,  # advantages are centred
        "entropy": (rho * entropy).mean(),
        "kl": 0.0,
        "clip_fraction": 0.0,
    }
    for name, value in want.items():
        assert figures[f"train/{name}"] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert set(figures) == {f"train/{name}" for name in (*want, "return", "reward_scale")}


# ---------------------------------------------------------------- small environments


class Probe(gymnasium.Env):
    """Any spaces; rewards and ends from functions of the step and the action."""

    def __init__(self, observations, actions, reward, terminal=lambda t: False):
        self.observation_space, self.action_space = observations, actions
        self.reward, self.terminal = reward, terminal

    def observation(self):
        space = self.observation_space
        if isinstance(space, Discrete):
            return space.start + self.t % int(space.n)
        if isinstance(space, MultiDiscrete | MultiBinary):
            return np.full(space.shape, self.t % 2, space.dtype)
        return np.full(space.shape, self.t, space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        reward = self.reward(action, self.np_random)
        return self.observation(), reward, self.terminal(self.t), False, {}


def limited(env, steps):
    return gymnasium.wrappers.TimeLimit(env, steps)


LINE = Box(-math.inf, math.inf, (1,), np.float32)


@pytest.mark.parametrize(("ends", "value"), [("truncated", 2.0), ("terminated", 1.5)])
def test_critic_learns_the_value_of_a_clock(ends, value):
    """Reward 1 a step for 2 steps, γ = 1/2: 2 where the time limit is none of the problem's."""
    clock = Probe(Box(0, 9, (1,), np.float32), Discrete(2), lambda a, r: 1.0)
    if ends == "terminated":
        clock.terminal = lambda t: t == 2
    else:
        clock = limited(clock, 2)
    config = Config(steps=6_000, gamma=0.5, num_envs=4, rollout_steps=30, minibatches=1,
                    hidden=(16,), critic_learning_rate=1e-2, final_episodes=1)  # fmt: skip
    found = run(clock, config, np.random.default_rng(0), Log(None)).summary
    assert found["value"] == pytest.approx(value, rel=0.05)
    assert found["mean_return"] == 2.0


def gamble(action, rng):
    """Action 0 costs 0.6; action 1 costs 0 or 1, evenly."""
    return -0.6 if action == 0 else -float(rng.random() < 0.5)


@pytest.mark.parametrize(("beta", "scale"), [(0.0, 1.0), (4.0, 1.0), (4.0, 100.0)])
def test_risk_aversion_refuses_the_gamble(beta, scale):
    """Episodes of one step; β is per unit of the environment's own reward."""
    env = Probe(LINE, Discrete(2), lambda a, rng: scale * gamble(a, rng), lambda t: True)
    config = Config(steps=20_000, risk=f"entropic:{beta / scale}", gamma=0.9, rollout_steps=64,
                    epochs=4, minibatches=1, hidden=(8,), learning_rate=1e-2,
                    critic_learning_rate=1e-2, final_episodes=5)  # fmt: skip
    result = run(env, config, np.random.default_rng(1), Log(None))
    b = beta / 0.9
    risky = -0.5 if b == 0.0 else -math.log(0.5 + 0.5 * math.exp(b)) / b
    assert (risky < -0.6) == (beta > 0.0)
    act = load_policy(result.network, env).act
    chosen = act(np.zeros((1, 1), np.float32), np.zeros(1, int), np.random.default_rng(0))
    assert chosen[0] == (0 if beta else 1)
    assert result.summary["value"] == pytest.approx(scale * max(risky, -0.6), rel=0.08)


def test_critic_learns_certainty_equivalents_of_a_tabular_problem():
    """A policy that stays put: V̂ and Q̂ = V̂ + ĝ, averaged over batches, against exact ones."""
    S, A, gamma, beta = 4, 3, 0.7, 1.0
    rng = np.random.default_rng(40)
    P = rng.dirichlet(np.full(S, 0.6), size=(S, A))
    r, V = np.repeat(rng.normal(size=(S, 1)), A, axis=1), np.zeros(S)
    for _ in range(300):
        Q = r - gamma / beta * logsumexp(-beta * V, axis=-1, b=P)
        V = Q.mean(1)
    config = Config(risk=f"entropic:{beta}", gamma=gamma, rollout_steps=64, epochs=8,
                    learning_rate=1e-9, critic_learning_rate=1e-2, minibatches=1,
                    normalise_rewards=False, max_weight=100.0)  # fmt: skip
    env = TabularEnv(FiniteMDP(P, r, np.full(S, 1 / S)))
    agent = ActorCritic(env, config, np.random.default_rng(0))
    states, found = np.eye(S, dtype=np.float32), []
    s, a = np.divmod(np.arange(S * A), A)
    for _ in range(60):
        agent.advance(1)
        g = agent.certainties(states[s], np.eye(A, dtype=np.float32)[a])
        found.append(np.append(agent.values(states), g))
    mean = np.mean(found[20:], axis=0)
    nominal = np.linalg.solve(np.eye(S) - gamma * P.mean(1), r.mean(1))
    assert (nominal - V > 0.25).all()
    np.testing.assert_allclose(mean, np.append(V, Q - V[:, None]), atol=0.08)


# ---------------------------------------------------------------- spaces


OBSERVATIONS = (
    Box(-1, 1, (2, 3), np.float64), Box(0, 255, (4,), np.uint8), Discrete(5, start=3),
    MultiDiscrete([3, 4]), MultiBinary(3),
)  # fmt: skip
ACTIONS = (
    Discrete(3), Discrete(3, start=-1), MultiDiscrete([2, 3]), MultiBinary(3),
    Box(-2, 2, (1,), np.float32), Box(np.array([0, -np.inf]), np.array([5, 1]), dtype=np.float64),
    Box(0, 9, (2, 2), np.int64),
)  # fmt: skip


@pytest.mark.parametrize(
    ("observations", "actions"),
    [(space, Discrete(2)) for space in OBSERVATIONS] + [(LINE, space) for space in ACTIONS],
)
def test_every_space_is_acted_in(observations, actions):
    """The probe refuses actions outside its space."""
    env = limited(Probe(observations, actions, lambda a, r: float(r.random())), 7)
    config = Config(steps=64, risk="entropic:0.5", random_action=0.5, stochastic_evaluation=True,
                    **SMALL)  # fmt: skip
    result = run(env, config, np.random.default_rng(0), Log(None))
    assert math.isfinite(result.summary["value"])
    assert result.summary["env_steps"] == 64


def test_a_batch_that_is_larger_than_the_budget_is_said():
    env = Probe(LINE, Discrete(2), lambda a, r: 0.0)
    with pytest.warns(InputWarning, match=r"steps 7 are less than a batch .* = 32, "):
        result = run(env, Config(steps=7, **SMALL), np.random.default_rng(0), Log(None))
    assert (result.summary["steps"], result.summary["env_steps"]) == (7, 32)


@pytest.mark.parametrize("space", [Dict({"x": LINE}), Tuple((LINE, LINE))])
@pytest.mark.parametrize("where", ["observations", "actions"])
def test_other_spaces_are_refused(space, where):
    spaces = {"observations": LINE, "actions": Discrete(2)} | {where: space}
    env = Probe(spaces["observations"], spaces["actions"], lambda a, r: 0.0)
    with pytest.raises(InputError, match=f"{where} must be of a Box.*, got"):
        run(env, Config(steps=8, **SMALL), np.random.default_rng(0), Log(None))


@pytest.mark.parametrize("reward", [math.nan, math.inf])
def test_rewards_that_are_not_finite_are_refused(reward):
    env = Probe(LINE, Discrete(2), lambda a, r: reward)
    with pytest.raises(InputError, match=r"reward must be finite, got (nan|inf) at step 1"):
        run(env, Config(steps=64, **SMALL), np.random.default_rng(0), Log(None))


# ---------------------------------------------------------------- runs

CASES = {
    "cart-pole": ("CartPole-v1", {"risk": "entropic:0.05", "random_action": 0.1}),
    "pendulum": ("Pendulum-v1", {"stochastic_evaluation": True, "activation": "relu"}),
    "river-swim": ("rlentropy/RiverSwim-v0", {"risk": "entropic:1"}),
}


def outcome(folder, result):
    """All that a run leaves, without times."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    metrics = [row for row in map(json.loads, lines) if not row["tag"].startswith("time/")]
    with np.load(folder / "checkpoint" / "state.npz") as file:
        arrays = {name: file[name].tolist() for name in file.files if name != "json"}
        rest = json.loads(str(file["json"]))
    arrays |= {k: v for k, v in rest.items() if not k.startswith("_")}
    network = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in result.network.items()}
    return metrics, arrays, network, result.summary


def play(case, folder, steps, **schedule):
    env_id, options = CASES[case]
    log = Log(folder, **schedule)
    config = Config(steps=steps, gamma=0.9, **options, **SMALL)
    result = run(gymnasium.make(env_id), config, np.random.default_rng(3), log)
    log.close()
    return outcome(folder, result)


@pytest.mark.parametrize("case", CASES)
def test_half_and_resume_is_the_whole(tmp_path, case):
    """Bit for bit; 330 steps are rounded up to whole batches of 32."""
    whole = play(case, tmp_path / "whole", 660)
    half = play(case, tmp_path / "halves", 330)
    assert half[3]["env_steps"] == 352
    assert half[2] != whole[2]
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    assert play(case, tmp_path / "halves", 660) == whole


def test_killed_anywhere_and_resumed_is_the_whole(tmp_path, monkeypatch):
    case = "cart-pole"
    whole = play(case, tmp_path / "whole", 300, checkpoint_every=50)
    scalar = Log.scalar
    for k, at in enumerate((1, 17, 58)):
        calls = 0

        def killed(log, tag, value, step, at=at):
            nonlocal calls
            calls += 1
            if calls == at:
                raise RuntimeError("killed")
            scalar(log, tag, value, step)

        with monkeypatch.context() as patch:
            patch.setattr(Log, "scalar", killed)
            with pytest.raises(RuntimeError, match="killed"):
                play(case, tmp_path / str(k), 300, checkpoint_every=50)
        assert play(case, tmp_path / str(k), 300, checkpoint_every=50) == whole


def test_checkpoints_are_written_between_batches(tmp_path, monkeypatch):
    """Every 50 steps, with batches of 32: after 64, 128, 160, 224, 256, 320, 352."""
    written = []
    checkpoint = Log.checkpoint
    monkeypatch.setattr(Log, "checkpoint", lambda log, state, *cut: (
        written.append(state["agent"]["env_steps"]), checkpoint(log, state, *cut)))  # fmt: skip
    play("cart-pole", tmp_path, 330, checkpoint_every=50)
    assert written == [64, 128, 160, 224, 256, 320, 352]


def test_resume_refuses_an_environment_that_does_not_repeat_itself(tmp_path):
    chance = np.random.default_rng(0)

    class Moody(Probe):
        def observation(self):
            return chance.normal(size=1).astype(np.float32)

    for steps in (64, 128):
        log = Log(tmp_path)
        config, env = Config(steps=steps, **SMALL), Moody(LINE, Discrete(2), lambda a, r: 1.0)
        if steps == 64:
            run(env, config, np.random.default_rng(0), log)
        else:
            with pytest.raises(InputError, match="env must repeat an episode"):
                run(env, config, np.random.default_rng(0), log)
        log.close()


def test_evaluations_do_not_disturb_training(tmp_path):
    seldom = play("cart-pole", tmp_path / "a", 400, eval_every=400)
    often = play("cart-pole", tmp_path / "b", 400, eval_every=40)
    assert seldom[1:] == often[1:]
    assert [row["step"] for row in often[0] if row["tag"] == "eval/return"] == [
        64, 96, 128, 160, 224, 256, 288, 320, 384, 416]  # fmt: skip


def test_no_risk_is_the_limit_of_little_risk():
    """One update with β = 0 and with tiny ones: the same batch, nearly the same networks."""
    found = {}
    for beta in (0.0, 1e-10, 1e-6):
        config = Config(risk=f"entropic:{beta}", rollout_steps=64)
        agent = ActorCritic(gymnasium.make("CartPole-v1"), config, np.random.default_rng(0))
        figures = agent.learn(agent.play())
        found[beta] = agent.policy.flat.detach().clone(), agent.critic.flat.detach().clone()
        assert figures["train/effective_sample_size"] == pytest.approx(512, rel=1e-4)
        assert figures["train/weight_max"] == pytest.approx(1.0, rel=1e-3)
    for beta in (1e-10, 1e-6):
        for one, other in zip(found[beta], found[0.0], strict=True):
            np.testing.assert_allclose(one, other, atol=2e-4)


def test_nominal_and_entropic_zero_are_the_same_run():
    results = [
        run(gymnasium.make("CartPole-v1"), Config(steps=128, risk=name, **SMALL),
            np.random.default_rng(0), Log(None)) for name in ("nominal", "entropic:0")
    ]  # fmt: skip
    assert torch.equal(results[0].network["flat"], results[1].network["flat"])


def test_command_line_and_the_saved_policy(tmp_path, capsys):
    command = ["robust-actor-critic", "--env-id", "CartPole-v1", "--steps", "300", "--out",
               str(tmp_path / "run"), "--risk", "entropic:0.1", "--hidden", "8", "8",
               "--rollout-steps", "16", "--final-episodes", "12", "--quiet"]  # fmt: skip
    assert cli.main(command) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["env_steps"], summary["steps"], summary["evaluation_episodes"]) == (
        384,
        300,
        12,
    )
    assert summary["risk"] == "entropic:0.1"
    env = gymnasium.make("CartPole-v1")
    policy = load(tmp_path / "run", env)
    actions = policy.act(np.zeros((5, 4), np.float32), np.zeros(5, int), np.random.default_rng(0))
    assert actions.shape == (5,)
    assert all(env.action_space.contains(a) for a in actions)
    with pytest.raises(InputError, match="env must have 4 observed numbers"):
        load(tmp_path / "run", gymnasium.make("Pendulum-v1"))


@pytest.mark.parametrize("change", [
    {"risk": "cvar:0.5"}, {"risk": "kl-ball:0.1"}, {"risk": "entropic:-1"}, {"risk": "entropc:1"},
    {"gamma": 1.0}, {"gamma": 0.0}, {"steps": 0}, {"num_envs": 0}, {"rollout_steps": 0},
    {"epochs": 0}, {"minibatches": 0}, {"minibatches": 2000}, {"learning_rate": 0.0},
    {"critic_learning_rate": -1.0}, {"gae_lambda": 1.1}, {"clip": 0.0}, {"entropy_bonus": -0.1},
    {"max_gradient_norm": 0.0}, {"trace_decay": -0.1}, {"max_weight": 1.0}, {"hidden": (0,)},
    {"activation": "gelu"}, {"random_action": 1.5}, {"evaluation_episodes": 0},
    {"final_episodes": 0},
])  # fmt: skip
def test_bad_settings_are_refused_by_name(change):
    name = next(iter(change))
    with pytest.raises(InputError, match=rf"^{name}.* must "):
        Config(**change)


@pytest.mark.parametrize("text", ["nominal", "entropic:0", "entropic:0.25", " entropic: 1e-3 "])
def test_risk_is_read_as_everywhere(text):
    measure = risk.parse(text)
    assert risk_aversion(text) == getattr(measure, "risk_aversion", 0.0)


@pytest.mark.parametrize("text", [
    "tv-ball:0.1", "nominal:1", "entropic", "entropic:", "entropic:x", "entropic:1,2",
    "entropic:-1", "entropic:inf", "entropic:nan", "", 3,
])  # fmt: skip
def test_other_measures_are_named_as_not_supported(text):
    with pytest.raises(InputError, match=r"risk must be nominal or entropic:β .*, got '?"):
        risk_aversion(text)
    if text != "tv-ball:0.1":
        with pytest.raises(InputError):
            risk.parse(text)


def test_a_misspelt_risk_is_recognised():
    with pytest.raises(InputError, match=r"got 'entropc:1'; did you mean entropic\?"):
        Config(risk="entropc:1")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_cart_pole_is_solved(seed):
    env = gymnasium.make("CartPole-v1")
    summary = run(env, Config(), np.random.default_rng(seed), Log(None)).summary
    assert summary["env_steps"] <= 200_704
    assert summary["evaluation_episodes"] == 100
    assert summary["mean_return"] >= 475.0
