"""EntGame with networks: its rounds, its output, and runs that are killed, resumed and extended."""

import copy
import json

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

torch = pytest.importorskip("torch")

import rlentropy  # noqa: E402, F401
from rlentropy import cli, load_run  # noqa: E402
from rlentropy.errors import InputError  # noqa: E402
from rlentropy.exploration.features import features_of  # noqa: E402
from rlentropy.exploration.neural_entgame import (  # noqa: E402
    Config,
    NeuralEntGame,
    load_policy,
    run,
)
from rlentropy.log import Log  # noqa: E402
from rlentropy.neural.episodes import Player  # noqa: E402

SMALL = {"hidden": (16,), "episodes": 6, "horizon": 25, "evaluation_episodes": 5, "updates": 5}
SMALL |= {"final_episodes": 5, "batch_size": 32, "reservoir": 50, "forecaster_updates": 5}
ROUND = 150  # steps


class Dials(gymnasium.Env):
    """Two dials of 3 and 4 places, of which an action turns one."""

    observation_space = MultiDiscrete([3, 4])

    def __init__(self, actions=None):
        self.action_space = actions or Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = np.zeros(2, np.int64)
        return self.x.copy(), {}

    def step(self, action):
        self.x[int(action) // 2] += 2 * (int(action) % 2) - 1
        self.x %= [3, 4]
        return self.x.copy(), 0.0, False, False, {}


def grid():
    return gymnasium.make("rlentropy/ContinuousGrid-v0")


def agent_of(env, rng, **options):
    config = Config(**(SMALL | options))
    return NeuralEntGame(env, features_of(env, bins=config.bins), config.horizon, config, rng)


# ---------------------------------------------------------------- a round


def test_a_round_forecasts_then_learns(rng, monkeypatch):
    """The sampler is paid by a forecaster that knows the newest visits; then the last iterate."""
    agent = agent_of(grid(), rng, average=0.25)
    order = []
    learn, update = agent.learn, agent.forecaster.update

    def learning(log_density):
        order.append(("learn", agent.forecaster.counts.sum()))
        points = np.linspace(0.0, 1.0, 14).reshape(7, 2)
        n = agent.forecaster.counts.sum()
        cells = np.minimum((points * 20).astype(int), 19)
        counts = agent.rounds.counts[cells[:, 0] * 20 + cells[:, 1]]
        np.testing.assert_allclose(log_density(points), np.log((counts + 1) / (n + 400) * 400))
        return learn(log_density)

    def updating(visits, new):
        order.append(("update", len(visits), new))
        update(visits, new)

    monkeypatch.setattr(agent, "learn", learning)
    monkeypatch.setattr(agent.forecaster, "update", updating)
    last = agent.last_network.copy()
    for k in range(1, 4):
        acting = agent.sampler.acting()
        figures = agent.advance(1)
        np.testing.assert_array_equal(agent.members.parameters[-1], acting)  # what was played
        share = max(0.25, 1.0 / k)  # a mean of all, until a quarter is more
        last = (1.0 - share) * last + share * agent.sampler.acting()
        np.testing.assert_allclose(agent.last_network, last, atol=1e-6)
        assert agent.last_network.dtype == np.float32
        assert agent.done == agent.step == k * ROUND
        assert set(figures) == {"train/q_loss", "train/reward_deviation", "train/cross_entropy"}
    assert order == [step for k in (150, 300, 450) for step in (("update", k, 150), ("learn", k))]


def test_the_first_policy_is_uniform(rng):
    agent = agent_of(grid(), rng)
    policy = agent.policy()
    outputs = policy.outputs(rng.normal(size=(9, 2)).astype(np.float32), np.arange(9))
    assert (outputs == 0.0).all()
    assert agent.policy(mixture=True).size == 1  # before the first round, that alone


def test_cross_entropy_is_of_the_features_own_units(rng):
    """Once alone: of a histogram on a box of volume 144, of the pool that is all visits."""
    agent = agent_of(grid(), rng)
    figures = agent.advance(1)
    features = features_of(grid())
    counts = agent.rounds.counts
    q = (counts + 1) / (counts.sum() + 400) * 400
    volume = np.prod(features.high - features.low)
    slow = -(counts * np.log(q)).sum() / counts.sum() + np.log(volume)
    assert figures["train/cross_entropy"] == pytest.approx(slow, rel=1e-6)


def test_a_temperature_is_of_an_environment_step(rng):
    for options, per_decision in (
        ({}, 1.5),
        ({"horizon": 200}, 3.0),
        ({"horizon": 600}, 9.0),
        ({"temperature": 0.3}, 0.3),
        ({"temperature": 0.3, "action_repeat": 4}, 1.2),
    ):
        agent = agent_of(grid(), rng, **options)
        assert agent.sampler.temperature == pytest.approx(per_decision)


@pytest.mark.parametrize(
    ("env_id", "options", "per_decision"),
    [
        ("MountainCarWalled", {"horizon": 400}, 2.0),
        ("HangingPendulum", {"horizon": 50}, 0.5),
        ("HangingPendulum", {"horizon": 400, "sampler": "actor-critic"}, 1.0),
        ("ContinuousGrid", {"horizon": 400, "sampler": "actor-critic"}, 1.0),
    ],
)
def test_temperatures_by_the_dimensions_of_actions(env_id, options, per_decision, rng):
    agent = agent_of(gymnasium.make(f"rlentropy/{env_id}-v0"), rng, **options)
    assert agent.sampler.temperature == pytest.approx(per_decision)


@pytest.mark.parametrize(
    ("env_id", "options", "kind"),
    [
        ("MountainCarWalled", {}, "softmax"),
        ("HangingPendulum", {"horizon": 200}, "softmax"),
        ("HangingPendulum", {"horizon": 2}, "softmax"),  # a fine grid
        ("HangingPendulum", {"horizon": 2, "sampler": "soft-q", "action_grid": 7}, "softmax"),
        ("ContinuousGrid", {"horizon": 200, "sampler": "actor-critic"}, "squashed"),
        ("ContinuousGrid", {"horizon": 200, "action_grid": 4}, "squashed"),  # 16 actions
    ],
)
def test_samplers_by_their_actions(env_id, options, kind, rng):
    agent = agent_of(gymnasium.make(f"rlentropy/{env_id}-v0"), rng, **options)
    assert agent.sampler.kind == kind
    if options.get("action_grid") == 7:
        assert agent.sampler.sizes[-1] == 7


# ---------------------------------------------------------------- whole runs


def play(folder, steps, env=None, seed=3, log=None, **options):
    log = log or Log(folder)
    config = Config(steps=steps, **(SMALL | options))
    result = run(env or grid(), config, np.random.default_rng(seed), log)
    log.close()
    torch.save(dict(result.network), folder / "policy.pt")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    lines = [line for line in lines if "per_second" not in line]
    return lines, (folder / "policy.pt").read_bytes(), dict(result.summary)


KINDS = [
    {},
    {"sampler": "actor-critic"},
    {"forecaster": "knn"},
    {"forecaster": "likelihood"},
    {"mixture_size": 3, "action_repeat": 3},
]


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """Runs of eight rounds that nothing disturbs, one for each of KINDS."""
    torch.set_num_threads(1)
    return [play(tmp_path_factory.mktemp("whole"), 8 * ROUND, **options) for options in KINDS]


@pytest.mark.parametrize("k", range(len(KINDS)))
def test_killed_and_resumed(tmp_path, k, wholes, monkeypatch):
    """Dies in its sixth round, after a checkpoint at the fourth; what was logged since is cut."""
    advance, rounds = NeuralEntGame.advance, []

    def dying(self, units):
        figures = advance(self, units)
        rounds.append(units)
        if len(rounds) == 6:
            raise SystemExit
        return figures

    with monkeypatch.context() as patched:
        patched.setattr(NeuralEntGame, "advance", dying)
        log = Log(tmp_path, checkpoint_every=4 * ROUND)
        with pytest.raises(SystemExit):
            play(tmp_path, 8 * ROUND, log=log, **KINDS[k])
    log.close()
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    rounds.clear()
    with monkeypatch.context() as patched:
        patched.setattr(
            NeuralEntGame,
            "advance",
            lambda self, units: rounds.append(units) or advance(self, units),
        )
        assert play(tmp_path, 8 * ROUND, **KINDS[k]) == wholes[k]
    assert len(rounds) == 4


@pytest.mark.parametrize("k", [0, 1, 3])
def test_a_larger_budget_resumed_is_the_whole(tmp_path, k, wholes):
    for steps in (2 * ROUND, 3 * ROUND + 1):
        play(tmp_path, steps, **KINDS[k])
    torch.manual_seed(0)
    assert play(tmp_path, 8 * ROUND, **KINDS[k]) == wholes[k]


def test_a_finished_run_is_left_as_it_is(tmp_path, wholes):
    first = play(tmp_path, 8 * ROUND)
    assert first == wholes[0]
    assert play(tmp_path, 8 * ROUND) == first


@pytest.mark.parametrize("k", [0, 1])
def test_the_same_seed_is_the_same_bits_and_another_others(tmp_path, k, wholes):
    torch.manual_seed(1)
    (tmp_path / "b").mkdir()
    assert play(tmp_path, 8 * ROUND, **KINDS[k]) == wholes[k]
    other = play(tmp_path / "b", 8 * ROUND, seed=4, **KINDS[k])
    assert other[0] != wholes[k][0]
    assert other[1] != wholes[k][1]


@pytest.mark.parametrize("k", range(len(KINDS)))
def test_figures_of_a_run(k, wholes):
    lines, _, summary = wholes[k]
    assert summary["env_steps"] == 8 * ROUND
    assert summary["episodes"] == 8 * 6
    tags = {json.loads(line)["tag"] for line in lines}
    assert {"train/q_loss", "train/reward_deviation", "train/cross_entropy"} <= tags
    assert {"eval/mixture_entropy", "eval/last_iterate_entropy", "eval/knn_entropy"} <= tags
    assert 0.0 < summary["episode_value"] <= summary["mixture_value"] <= np.log(400)


class Edge(gymnasium.Env):
    """Unbounded observations and episodes of different lengths."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)

    def __init__(self, actions):
        self.action_space = actions

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = np.zeros(2)
        return self.x.copy(), {}

    def step(self, action):
        self.x += 100.0 * self.np_random.normal(size=2) + np.ravel(action)[0]
        return self.x.copy(), 1.0, bool(self.x[0] > 150.0), False, {}


@pytest.mark.parametrize(
    ("env", "options"),
    [
        ("FrozenLake-v1", {}),
        ("CartPole-v1", {}),
        ("CartPole-v1", {"forecaster": "knn", "features": "0,2"}),
        ("Pendulum-v1", {"horizon": 30}),
        ("MountainCarContinuous-v0", {"forecaster": "likelihood"}),
        (Dials(), {}),
        (Dials(), {"forecaster": "knn"}),
        (Dials(Discrete(4)), {"bins": "3,4"}),
        (Edge(Discrete(3, start=-1)), {}),
        (Edge(Box(-1.0, 1.0, (2, 2), np.float64)), {}),
        (Edge(Box(0, 5, (1,), np.int64)), {}),
        (Edge(Discrete(1)), {"hidden": ()}),
        (Edge(Box(-1.0, 1.0, (), np.float32)), {"action_repeat": 40}),
        (Edge(Box(-1.0, 1.0, (1,), np.float32)), {"horizon": 1, "steps": 3, "episodes": 3}),
        (Edge(Discrete(2)), {"episodes": 1, "final_episodes": 1, "mixture_size": 1, "steps": 1}),
    ],
)
def test_environments_of_all_kinds(env, options, rng):
    env = gymnasium.make(env) if isinstance(env, str) else env
    config = Config(**({"steps": 300} | SMALL | options))
    result = run(env, config, rng, Log(None))
    assert result.summary["env_steps"] >= config.steps
    for mixture in (False, True):
        policy = load_policy(dict(result.network), env, mixture)
        policy.begin(np.arange(1), rng)
        seen, _ = env.reset(seed=0)
        action = np.asarray(policy.act(seen, 0, rng))
        named = int(action) if isinstance(env.action_space, Discrete) else action
        assert env.action_space.contains(named)
    if isinstance(env.observation_space, Discrete):
        assert result.summary["num_cells"] == 16
        assert result.summary["knn_entropy"] is None


@pytest.mark.parametrize("name", ["ContinuousGrid", "MountainCarWalled", "HangingPendulum"])
def test_arrays_and_turns_learn_the_same(name):
    """An environment that steps in arrays, and the same where it takes turns."""
    found = []
    for arrays in (True, False):
        spec = copy.deepcopy(gymnasium.spec(f"rlentropy/{name}-v0"))
        spec.vector_entry_point = spec.vector_entry_point if arrays else None
        env = gymnasium.make(spec)
        assert (Player(env, 2, 5).vector is not None) == arrays
        result = run(env, Config(steps=600, **SMALL), np.random.default_rng(0), Log(None))
        found.append(result.network)
    assert all(torch.equal(found[0][key], found[1][key]) for key in ("flat", "mean", "deviation"))


def test_the_torso_of_a_simulator(rng):
    pytest.importorskip("mujoco")
    env = gymnasium.make("HalfCheetah-v5", exclude_current_positions_from_observation=False)
    result = run(env, Config(steps=150, **SMALL), rng, Log(None))
    assert result.summary["features"] == ["x", "x velocity"]
    assert result.summary["num_cells"] == 300
    assert result.network["kind"] == "squashed"
    policy = load_policy(dict(result.network), env, True)
    assert env.action_space.contains(policy.act(env.observation_space.sample(), 0, rng))


def test_episodes_that_end_are_shorter(rng):
    config = Config(steps=300, **(SMALL | {"horizon": 500, "episodes": 5}))
    result = run(gymnasium.make("CartPole-v1"), config, rng, Log(None))
    summary = result.summary
    assert summary["env_steps"] < 100 * summary["episodes"]
    assert summary["horizon"] == 500
    assert summary["env_steps"] >= 300


def test_two_dials_are_explored_evenly(rng):
    """12 cells: all of them, where turning at random is nearly even already."""
    options = {"bins": "3,4", "episodes": 20, "horizon": 40, "final_episodes": 50}
    result = run(Dials(), Config(steps=2400, **(SMALL | options)), rng, Log(None))
    assert result.summary["cells_visited"] == 12
    assert result.summary["mixture_value"] > np.log(12) - 0.05


# ---------------------------------------------------------------- the command line


def test_a_run_of_the_command_line_acts(tmp_path, rng):
    out = tmp_path / "run"
    options = ["--steps", "400", "--horizon", "20", "--episodes", "10", "--hidden", "8"]
    options += ["--updates", "3", "--final-episodes", "4", "--device", "cpu", "--quiet"]
    arguments = ["--env-id", "rlentropy/HangingPendulum-v0", "--out", str(out), *options]
    assert cli.main(["neural-entgame", *arguments]) == 0
    found = load_run(out)
    env = gymnasium.make("rlentropy/HangingPendulum-v0")
    seen, _ = env.reset(seed=0)
    assert env.action_space.contains(found.policy.act(seen))
    assert found.summary["env_steps"] == 400


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forecaster": "flow"}, "forecaster must be one of histogram, knn, likelihood"),
        ({"neighbours": 0}, "neighbours must be >= 1"),
        ({"reservoir": 0}, "reservoir must be >= 1"),
        ({"forecaster_updates": 0}, "forecaster_updates must be >= 1"),
        ({"prior": 0.0}, "prior must be > 0"),
        ({"average": 0.0}, r"average must be in \(0, 1\]"),
        ({"average": 1.5}, r"average must be in \(0, 1\]"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(InputError, match=message):
        Config(**options)


@pytest.mark.parametrize("forecaster", ["knn", "likelihood"])
def test_states_have_no_density(forecaster, rng):
    config = Config(steps=100, forecaster=forecaster, **SMALL)
    with pytest.raises(InputError, match="forecaster must be histogram where states are discrete"):
        run(gymnasium.make("FrozenLake-v1"), config, rng, Log(None))


@pytest.mark.parametrize(
    ("actions", "options", "message"),
    [
        (MultiBinary(13), {}, "actions must be at most 5000 combinations"),
        (MultiDiscrete([99, 99]), {}, "actions must be at most 5000 combinations"),
        (Box(-np.inf, np.inf, (1,)), {"sampler": "soft-q"}, "actions must be of a Discrete space"),
        (Box(-np.inf, 1.0, (1,)), {"sampler": "actor-critic"}, "actions must be of a bounded Box"),
        (Discrete(3), {"sampler": "actor-critic"}, "actions must be of a bounded Box"),
        (Box(-1.0, 1.0, (9,)), {"sampler": "soft-q"}, "action_grid must make at most 5000 points"),
    ],
)
def test_actions_that_samplers_do_not_have(actions, options, message, rng):
    with pytest.raises(InputError, match=message):
        run(Dials(actions), Config(steps=100, **(SMALL | options)), rng, Log(None))


def test_neighbours_must_be_in_the_reservoir(rng):
    config = Config(steps=100, forecaster="knn", **(SMALL | {"neighbours": 60}))
    with pytest.raises(InputError, match="reservoir must be >= 60"):
        run(grid(), config, rng, Log(None))


def test_a_horizon_must_be_known(rng):
    config = Config(steps=100, **(SMALL | {"horizon": None}))
    with pytest.raises(InputError, match="horizon must be >= 1"):
        run(Dials(), config, rng, Log(None))


def test_observations_that_no_memory_holds_are_refused(rng):
    """Of 84 x 84 pixels every step; one in 4 would do."""

    class Pictures(Dials):
        observation_space = Box(0, 255, (84, 84), np.uint8)

    config = Config(steps=100_000, **SMALL)
    with pytest.raises(InputError, match=r"steps must make at most 2 GiB .* 7056 numbers every 1"):
        NeuralEntGame(Pictures(), features_of(Pictures(), "0"), 25, config, rng)
    config = Config(steps=100_000, action_repeat=4, **SMALL)
    NeuralEntGame(Pictures(), features_of(Pictures(), "0"), 25, config, rng)


@pytest.mark.parametrize("sampler", ["soft-q", "actor-critic"])
def test_learning_that_diverges_is_refused(sampler, rng):
    config = Config(steps=3000, sampler=sampler, learning_rate=1e30, **SMALL)
    with pytest.raises(InputError, match=r"learning_rate must be small enough .* got 1e\+30"):
        run(grid(), config, rng, Log(None))


@pytest.mark.parametrize(
    ("env_id", "shown"), [("FrozenLake-v1", "state"), ("MountainCar-v0", "position, velocity")]
)
def test_what_the_console_shows(env_id, shown, tmp_path, capsys):
    """Intervals where there are any, and which features count."""
    options = ("--steps", "40", "--horizon", "20", "--hidden", "4", "--updates", "1")
    less = ("--episodes", "2", "--evaluation-episodes", "2", "--final-episodes", "2")
    command = ["neural-entgame", "--env-id", env_id, *options, *less, "--out", str(tmp_path / "x")]
    assert cli.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    (features,) = [line.split(maxsplit=1)[1] for line in lines if line.startswith("  features ")]
    assert features == shown
    assert any(line.startswith("  mixture_ci95 ") and " to " in line for line in lines)
