"""What every registered id must do, through gymnasium's front door."""

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy.stats import chi2

import rlentropy  # noqa: F401  (registers the ids)
from rlentropy.envs.picture import HEADER

STEPS = {
    "rlentropy/DoubleChain-v0": 20,
    "rlentropy/GridWorld-v0": 20,
    "rlentropy/RiverSwim-v0": 20,
    "rlentropy/Ring-v0": 100,
    "rlentropy/Garnet-v0": 50,
    "rlentropy/NoisyChain-v0": 10,
    "rlentropy/Fan-v0": 2,
    "rlentropy/MachineReplacement-v0": 50,
    "rlentropy/Inventory-v0": 50,
    "rlentropy/StakesGrid-v0": 12,
}
CONTINUOUS = {  # no tables; tests/envs/test_batched.py
    "rlentropy/ContinuousGrid-v0": 1200,
    "rlentropy/MountainCarWalled-v0": 400,
    "rlentropy/HangingPendulum-v0": 200,
    "rlentropy/PointMaze-v0": 100,
}
every_id = pytest.mark.parametrize("env_id", STEPS)


def test_exactly_these_ids_are_registered() -> None:
    registered = {
        name: spec.max_episode_steps
        for name, spec in gymnasium.registry.items()
        if str(spec.entry_point).startswith("rlentropy.envs")
    }
    assert registered == STEPS | CONTINUOUS


def test_registering_loads_neither_scipy_nor_numba_nor_an_environment() -> None:
    code = (
        "import sys, rlentropy\n"
        "heavy = {'scipy', 'numba', 'torch', 'PIL', 'rlentropy.mdp', 'rlentropy.envs.tabular'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("env_id", STEPS | CONTINUOUS)
def test_check_env_has_no_complaint(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(env_id).unwrapped)


@every_id
def test_model_spaces_and_names_agree(env_id: str) -> None:
    env = gymnasium.make(env_id).unwrapped
    S, A = env.mdp.num_states, env.mdp.num_actions
    assert (env.observation_space.n, env.action_space.n) == (S, A)
    assert len(env.action_names) == A
    assert env.grid_shape is None or np.prod(env.grid_shape) == S
    assert not env.mdp.terminal.any()
    assert env.step.samples_mdp


@every_id
def test_frames_show_every_move(env_id: str) -> None:
    env = gymnasium.make(env_id, render_mode="rgb_array")
    env.action_space.seed(0)
    states, frames = [env.reset(seed=0)[0]], [env.render()]
    truncated = False
    while not truncated:
        state, _, _, truncated, _ = env.step(env.action_space.sample())
        states.append(state)
        frames.append(env.render())
    for frame in frames:
        assert frame.dtype == np.uint8
        assert frame.shape == frames[0].shape
        height, width, channels = frame.shape
        assert channels == 3
        assert 320 <= width <= 640
        assert height <= 640
        assert height % 2 == width % 2 == 0  # as video codecs require
    moved = [k for k in range(len(states) - 1) if states[k] != states[k + 1]]
    assert moved
    for k in moved:  # below the header, which the step count changes
        assert (frames[k][HEADER:] != frames[k + 1][HEADER:]).any()


@every_id
def test_text_marks_the_agent_and_names_the_action(env_id: str) -> None:
    env = gymnasium.make(env_id, render_mode="ansi")
    env.reset(seed=0)
    env.step(1)
    picture, status = env.render().rsplit("\n", 1)
    assert picture.count("@") == 1
    assert f"state {env.unwrapped.state} " in status
    assert f"action {env.unwrapped.action_names[1]} " in status


@every_id
def test_seeded_episodes_repeat(env_id: str) -> None:
    def episode() -> list[tuple[int, float]]:
        env = gymnasium.make(env_id)
        env.action_space.seed(1)
        seen = [(env.reset(seed=5)[0], 0.0)]
        truncated = False
        while not truncated:
            state, reward, terminated, truncated, info = env.step(env.action_space.sample())
            assert not terminated
            assert info == {}
            seen.append((state, reward))
        return seen

    first = episode()
    np.random.seed(0)  # noqa: NPY002  (the global generator must not matter)
    assert episode() == first
    assert len(first) == 1 + STEPS[env_id]


@every_id
def test_counted_steps_agree_with_the_model(env_id: str) -> None:
    env = gymnasium.make(env_id).unwrapped
    mdp, rng, draws = env.mdp, np.random.default_rng(7), 400
    starts = np.array([env.reset(seed=11)[0], *(env.reset()[0] for _ in range(draws - 1))])
    statistics = [fit(starts, mdp.mu)]
    kernel = mdp.P
    noisy = np.flatnonzero(np.diff(kernel.indptr) > 1)
    for i in [*rng.choice(noisy, 10 if noisy.size else 0), *rng.choice(kernel.shape[0], 4)]:
        s, a = divmod(int(i), mdp.num_actions)
        after = np.empty(draws, int)
        for k in range(draws):
            env.state = s
            after[k], reward, *_ = env.step(a)
            if mdp.r_successor is None:
                assert reward == mdp.r[s, a]
        statistics.append(fit(after, kernel[[i]].toarray()[0]))
    # A sum of independent chi-squares is one, with the sum of their degrees of freedom.
    statistic, freedom = np.sum(statistics, axis=0)
    assert not freedom or chi2.sf(statistic, freedom) > 1e-4


def fit(drawn: np.ndarray, p: np.ndarray) -> tuple[float, int]:
    """Pearson's statistic of draws against p, and its degrees of freedom; rare states pooled."""
    counts = np.bincount(drawn, minlength=p.size)
    assert not counts[p == 0.0].any()
    expected = drawn.size * p
    rare = expected < 5
    if expected[rare].sum() > 0.0:
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    counts, expected = counts[expected > 0], expected[expected > 0]
    return float(((counts - expected) ** 2 / expected).sum()), expected.size - 1
