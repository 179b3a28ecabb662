"""Every exploration command on degenerate environments, and resumed at awkward places."""

import json
import math

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete

from rlentropy import FiniteMDP
from rlentropy.cli import main
from rlentropy.envs.tabular import TabularEnv
from rlentropy.exploration import (
    entgame,
    maxent,
    random_policy,
    reg_entgame,
    rf_explore_ent,
    rf_ucrl,
    ucbvi_ent,
)
from rlentropy.log import Interrupted, Log

# name → command, its options
COMMANDS = {
    "entgame": ("entgame",),
    "entgame-bernstein": ("entgame", "--bonus", "bernstein-kl", "--clip"),
    "entgame-ave-s": ("entgame", "--objective", "AVE_S", "--bonus", "code"),
    "reg": ("reg-entgame", "--temperature", "0.5"),
    "reg-bonus": ("reg-entgame", "--bonus", "inverse-n", "--bonus-scale", "0.1"),
    "reg-frozen": ("reg-entgame", "--reward-free-episodes", "13"),
    "maxent": ("maxent", "--round-episodes", "4"),
    "maxent-fixed": ("maxent", "--round-episodes", "3", "--step", "fixed", "--objective", "AVE_S"),
    "rf-ucrl": ("rf-ucrl",),
    "rf-express": ("rf-ucrl", "--variant", "rf-express", "--objective", "VE_S"),
    "ucbvi-none": ("ucbvi-ent",),
    "ucbvi-code": ("ucbvi-ent", "--variant", "code", "--objective", "TE+"),
    "ucbvi-pac": ("ucbvi-ent", "--variant", "pac", "--bonus-scale", "0.1"),
    "ucbvi-fast": ("ucbvi-ent", "--variant", "fast"),
    "rf-explore-ent": ("rf-explore-ent",),
    "rf-explore-entgame": ("rf-explore-ent", "--sampler", "entgame"),
    "rf-explore-express": ("rf-explore-ent", "--sampler", "rf-express", "--objective", "TE+"),
    "rf-explore-random": ("rf-explore-ent", "--sampler", "random"),
    "random": ("random-policy",),
}
MODULES = {
    "entgame": entgame,
    "reg-entgame": reg_entgame,
    "maxent": maxent,
    "rf-ucrl": rf_ucrl,
    "ucbvi-ent": ucbvi_ent,
    "rf-explore-ent": rf_explore_ent,
    "random-policy": random_policy,
}


def configured(name, **more):
    """The module and the Config that the options of a command stand for."""
    command, *options = COMMANDS[name]
    fields = dict(more)
    while options:
        key = options.pop(0).removeprefix("--").replace("-", "_")
        if not options or options[0].startswith("--"):
            fields[key] = True
            continue
        value = options.pop(0)
        try:
            fields[key] = json.loads(value)
        except ValueError:
            fields[key] = value
    module = MODULES[command]
    return module, module.Config(**fields)


def finite(value):
    return value is None or isinstance(value, str | bool | list) or math.isfinite(value)


def check(found, H, S, A, episodes):
    """What every result must be."""
    for pi in (found.policy["pi"], found.last_iterate):
        assert pi.shape == (H, S, A)
        assert np.isfinite(pi).all()
        assert (pi >= 0).all()
        np.testing.assert_allclose(pi.sum(-1), 1.0, atol=1e-9)
    if found.mixture is not None:
        kept = min(len(found.mixture), episodes)
        assert np.isfinite(found.mixture).all()
        np.testing.assert_allclose(found.mixture[:kept].sum(-1), 1.0, atol=1e-5)
    summary = {k: v for k, v in found.summary.items() if not isinstance(v, tuple)}
    bad = {k: v for k, v in summary.items() if not finite(v)}
    assert not bad, bad
    assert summary["episodes"] == episodes or summary["stopped_by_certificate"]
    if summary.get("optimum") is not None:
        slack = summary["certificate"] + 1e-7
        for key in ("value", "mixture_value", "last_iterate_value"):
            if summary.get(key) is not None:
                assert summary[key] <= summary["optimum"] + slack
                assert summary[key] >= -1e-9
    if found.visits is not None:
        assert found.visits.sum() <= summary["episodes"] * H
        assert (found.visits >= 0).all()


def world(name):
    """P (S, A, S), mu, terminal, H."""
    rng = np.random.default_rng(0)
    if name == "one of each":
        return np.ones((1, 1, 1)), np.ones(1), None, 1
    if name == "one state":
        return np.ones((1, 3, 1)), np.ones(1), None, 4
    if name == "one action":
        return rng.dirichlet(np.ones(4), size=(4, 1)), np.eye(4)[1], None, 3
    if name == "one step":
        return rng.dirichlet(np.ones(3), size=(3, 2)), rng.dirichlet(np.ones(3)), None, 1
    if name == "unreachable states":
        P = np.zeros((6, 2, 6))
        P[:3, :, :3] = rng.dirichlet(np.ones(3), size=(3, 2))
        P[3:, :, 3:] = rng.dirichlet(np.ones(3), size=(3, 2))
        return P, np.eye(6)[0], None, 4
    if name == "terminal start":
        P = rng.dirichlet(np.ones(3), size=(3, 2))
        P[0] = np.eye(3)[0]
        return P, np.eye(3)[0], np.array([True, False, False]), 3
    if name == "sometimes a terminal start":
        P = rng.dirichlet(np.ones(3), size=(3, 2))
        P[0] = np.eye(3)[0]
        return P, np.array([0.5, 0.5, 0.0]), np.array([True, False, False]), 3
    if name == "deterministic":
        P = np.eye(4)[rng.integers(4, size=(4, 2))]
        return P, np.eye(4)[0], None, 4
    if name == "absorbing":
        P = np.repeat(np.eye(4)[:, None], 2, axis=1)
        return P, np.full(4, 0.25), None, 3
    assert name == "tiny probabilities"
    P = np.zeros((3, 2, 3))
    P[...] = np.array([1.0 - 2e-300, 1e-300, 1e-300])
    return P, np.array([1.0 - 1e-12, 1e-12, 0.0]), None, 3


WORLDS = (
    "one of each",
    "one state",
    "one action",
    "one step",
    "unreachable states",
    "terminal start",
    "sometimes a terminal start",
    "deterministic",
    "absorbing",
    "tiny probabilities",
)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("simulator", ["compiled", "gymnasium"])
@pytest.mark.parametrize("place", WORLDS)
def test_degenerate_worlds(place, simulator):
    P, mu, terminal, H = world(place)
    S, A = P.shape[:2]
    for k, name in enumerate(COMMANDS):
        # Each command with either simulator and either model in some worlds, not in all.
        turn = k + WORLDS.index(place)
        if turn % 2 == (simulator == "compiled"):
            continue
        staged = turn // 2 % 2 == 0 and name != "random"
        more = {"stage_dependent": True} if staged else {}
        module, config = configured(name, horizon=H, episodes=40, simulator=simulator, **more)
        env = TabularEnv(FiniteMDP(P, np.zeros((S, A)), mu, terminal=terminal))
        log = Log(None, eval_every=13)
        found = module.run(env, config, np.random.default_rng(0), log)
        check(found, H, S, A, 40)


@pytest.mark.parametrize("name", ["ucbvi-pac", "ucbvi-fast", "rf-ucrl", "rf-express"])
def test_nothing_to_learn_is_certified(name):
    """One state, one action: the gap of every plan is 0, and trajectory entropy says so."""
    module, config = configured(name, horizon=3, episodes=20_000, tolerance=1.0)
    env = TabularEnv(FiniteMDP(np.ones((1, 1, 1)), np.zeros((1, 1)), np.ones(1)))
    found = module.run(env, config, np.random.default_rng(0), Log(None))
    assert found.summary["certified_gap"] >= 0.0
    if name.startswith("ucbvi"):
        assert found.summary["stopped_by_certificate"] is True
        assert found.summary["episodes"] == 1


@pytest.mark.parametrize("name", list(COMMANDS))
def test_frozen_lake_through_gymnasium(name):
    """Holes and the goal terminate; the table P is its model, `step` is not known to follow it."""
    env = gymnasium.make("FrozenLake-v1", max_episode_steps=-1)
    options = {"episodes": 150, "horizon": 6, "simulator": "gymnasium"}
    module, config = configured(name, **options)
    found = module.run(env, config, np.random.default_rng(1), Log(None))
    check(found, 6, 16, 4, 150)
    assert found.summary["value_is_exact"] is True
    assert found.summary["env_steps"] <= 150 * 6
    assert found.visits[:, 5].sum() <= found.visits.sum() - 150


class Hidden(gymnasium.Env):
    """Five states in a ring, no model; or observations that are no states."""

    def __init__(self, lie=None, start=0):
        self.observation_space, self.action_space = Discrete(5, start=start), Discrete(2)
        self.lie, self.start = lie, start

    def seen(self):
        if self.lie == "reset" and self.t == 0:
            return 5 + self.start
        if self.lie == "late" and self.t == 2:
            return -1 + self.start
        if self.lie == "string":
            return "here"
        if self.lie == "array":
            return np.array([1, 2])
        if self.lie == "nan":
            return float("nan")
        if self.lie == "none":
            return None
        return self.s + self.start

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = self.t = 0
        return self.seen(), {}

    def step(self, action):
        self.t += 1
        noise = int(self.np_random.integers(2))
        self.s = (self.s + int(action) * (1 + noise)) % 5
        return self.seen(), 0.0, False, False, {}


@pytest.fixture(scope="module", autouse=True)
def _registered():
    gymnasium.register("StressQA/Hidden-v0", Hidden, max_episode_steps=4)
    yield
    gymnasium.registry.pop("StressQA/Hidden-v0")


@pytest.mark.parametrize(
    ("name", "lie"),
    [(name, "late") for name in COMMANDS]
    + [("reg", lie) for lie in ("reset", "string", "array", "nan", "none")],
)
def test_environments_that_lie_about_their_observations(tmp_path, capsys, name, lie):
    """With gymnasium's own checker out of the way, as a user may have it."""
    command, *options = COMMANDS[name]
    arguments = [
        *(command, *options, "--env-id", "StressQA/Hidden-v0"),
        *("--env-kwargs", json.dumps({"lie": lie, "disable_env_checker": True})),
        *("--episodes", "40", "--quiet", "--out", str(tmp_path / "run")),
    ]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "observation" in said
    assert "0..4" in said


@pytest.mark.parametrize("name", list(COMMANDS))
def test_environments_without_a_model(name):
    module, config = configured(name, horizon=4, episodes=45)
    found = module.run(Hidden(start=3), config, np.random.default_rng(0), Log(None))
    check(found, 4, 5, 2, 45)
    assert found.summary["value_is_exact"] is False


# ---------------------------------------------------------------- resuming


# One of each learner; EntGame and the random policy are in tests/test_resume.py.
RESUMED = (
    ("reg", "compiled"),
    ("reg-frozen", "compiled"),
    ("reg-frozen", "gymnasium"),
    ("maxent", "compiled"),
    ("maxent", "gymnasium"),
    ("rf-express", "gymnasium"),
    ("ucbvi-fast", "compiled"),
    ("ucbvi-fast", "gymnasium"),
    ("rf-explore-ent", "compiled"),
    ("rf-explore-ent", "gymnasium"),
    ("rf-explore-random", "compiled"),
)
CHAIN = ("--env-id", "rlentropy/NoisyChain-v0", "--env-kwargs", '{"num_states": 6}')
LAKE = ("--env-id", "FrozenLake-v1", "--env-kwargs", '{"is_slippery": true}')


def result(folder):
    """All that two runs must have in common, to the bit."""
    found = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            found[path.name] = {key: file[key].tobytes() for key in file.files}
    assert "policy.npz" in found
    summary = json.loads((folder / "summary.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len({(r["tag"], r["step"]) for r in rows}) == len(rows), "a line was written twice"
    found["metrics"] = [row for row in rows if not row["tag"].startswith("time/")]
    return found | {"summary": summary | {"wall_seconds": 0, "compile_seconds": 0}}


def arguments(name, place, simulator, out):
    command, *options = COMMANDS[name]
    rest = ("--horizon", "4", "--simulator", simulator, "--eval-every", "5", "--seed", "3")
    return [command, *options, *place, *rest, "--quiet", "--out", str(out)]


@pytest.mark.parametrize(
    ("name", "simulator"), [pair for pair in RESUMED if pair[0] != "rf-explore-ent"]
)
def test_extended_runs_end_like_unbroken_ones(tmp_path, name, simulator):
    """run(n) + resume(m) == run(m); n ends within a round of MaxEnt, early in phase 2."""
    place = CHAIN if simulator == "compiled" else LAKE
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*arguments(name, place, simulator, whole), "--episodes", "60"]) == 0
    first = 15 if name == "reg-frozen" else 10
    for episodes in (first, 60):
        more = ["--episodes", str(episodes), *(["--resume"] if episodes > first else [])]
        assert main([*arguments(name, place, simulator, parts), *more]) == 0
    one, other = result(whole), result(parts)
    assert one == other


@pytest.mark.parametrize(("name", "simulator"), RESUMED)
def test_interrupted_runs_end_like_unbroken_ones(tmp_path, monkeypatch, name, simulator):
    """Ctrl-C at the boundary of two phases or within one, and in the next; within a round."""
    place = CHAIN if simulator == "compiled" else LAKE
    small = (*LAKE[:3], '{"desc": ["SF", "HG"]}')  # 4 states: S * H = 16 searches
    place = small if name == "rf-explore-ent" and simulator == "gymnasium" else place
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    budget = ["--episodes", "60"]
    assert main([*arguments(name, place, simulator, whole), *budget]) == 0
    checkpoint_due, stops = Log.checkpoint_due, [13, 26]

    def interrupting(log, before, done):
        while stops and done >= stops[0]:
            log.interrupted = True
            stops.pop(0)
        return checkpoint_due(log, before, done)

    next_stop = Log.next_stop
    monkeypatch.setattr(Log, "checkpoint_due", interrupting)
    monkeypatch.setattr(
        Log,
        "next_stop",
        lambda log, done, total: min([next_stop(log, done, total), *stops[:1]]),
    )
    codes = [main([*arguments(name, place, simulator, parts), *budget])]
    while codes[-1] == 130 and len(codes) < 9:
        codes.append(main([*arguments(name, place, simulator, parts), *budget, "--resume"]))
    assert codes == [130] * 2 + [0]
    assert result(whole) == result(parts)


@pytest.mark.parametrize("simulator", ["compiled", "gymnasium"])
def test_two_phases_saved_in_every_episode(simulator):
    """state_dict → a fresh learner, after every episode across the boundary of the phases."""
    from rlentropy.exploration.episodes import play_episode
    from rlentropy.exploration.setting import Setting

    P, mu, terminal, _ = world("sometimes a terminal start")
    env = TabularEnv(FiniteMDP(P, np.zeros(P.shape[:2]), mu, terminal=terminal))
    setting = Setting.of(env, 4, simulator)
    _, config = configured("reg-frozen", horizon=4, episodes=30)

    def fresh():
        return reg_entgame.make_learner(setting, config, np.random.default_rng(9))

    def play(learner, rng):
        if simulator == "compiled":
            learner.play(1, rng)
        else:
            play_episode(env, setting, learner, rng)

    straight, broken = fresh(), fresh()
    rngs = np.random.default_rng(1), np.random.default_rng(1)
    for t in range(30):
        play(straight, rngs[0])
        again = fresh()
        state = broken.state_dict()
        again.load_state_dict({k: v.copy() if hasattr(v, "copy") else v for k, v in state.items()})
        broken = again
        play(broken, rngs[1])
        assert straight.episodes == broken.episodes == t + 1
        np.testing.assert_array_equal(straight.visits, broken.visits)
        np.testing.assert_array_equal(straight.last_iterate(), broken.last_iterate())
        np.testing.assert_array_equal(straight.policy(), broken.policy())
        assert straight.certified_gap() == broken.certified_gap()


def test_interrupted_is_the_error_that_the_command_line_knows():
    assert issubclass(Interrupted, KeyboardInterrupt)


def test_tables_beyond_memory_are_one_line(tmp_path, capsys):
    command = ["entgame", "--env-id", "rlentropy/DoubleChain-v0", "--horizon", "1000000000"]
    assert main([*command, "--out", str(tmp_path / "run"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "must have tables that fit in memory, got H x S x A = 1000000000 x 31 x 2" in error
    assert error.count("\n") == 1
