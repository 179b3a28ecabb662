"""Whole episodes side by side, against a loop over one environment."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary
from gymnasium.vector import AutoresetMode

pytest.importorskip("torch")

import rlentropy  # noqa: F401
from rlentropy.envs.batched import ArrayEnv, BatchedEnv
from rlentropy.errors import InputError
from rlentropy.neural.episodes import Episodes, Player, vector_env

SEEDS = np.arange(100, 107)


class Ledge(ArrayEnv):
    """A place that actions move; beyond 1 it ends, and it is paid for each step."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def draw_start(self, rng):
        return float(rng.uniform(-1.0, 0.5)), 0.0

    def advance(self, states, actions):
        moved = states + np.concatenate([0.1 * actions, np.ones((len(actions), 1))], axis=1)
        return moved, moved[:, 0] * 2.0, moved[:, 0] > 1.0


class LedgeBatch(BatchedEnv):
    single = Ledge


class Resetting(LedgeBatch):
    metadata = LedgeBatch.metadata | {"autoreset_mode": AutoresetMode.NEXT_STEP}


class Demanding(LedgeBatch):
    def __init__(self, **kwargs):
        raise TypeError("another argument")


@pytest.fixture(autouse=True)
def _registered():
    for name, batch in (
        ("Batched", LedgeBatch),
        ("Turns", None),
        ("Resetting", Resetting),
        ("Demanding", Demanding),
    ):
        gymnasium.register(
            f"Ledge/{name}-v0",
            entry_point=Ledge,
            vector_entry_point=batch,
            max_episode_steps=50,
        )
    yield
    for name in ("Batched", "Turns", "Resetting", "Demanding"):
        del gymnasium.registry[f"Ledge/{name}-v0"]


class Script:
    """Actions that depend on the episode's seed, the step and what is seen; remembers its calls."""

    def __init__(self, actions, seeds=SEEDS):
        self.actions, self.seeds, self.begun = actions, seeds, []
        self.t = []

    def begin(self, index, rng):
        self.begun.append(index.tolist())
        self.first = sum(len(slots) for slots in self.begun[:-1])

    def act(self, observations, t=0, rng=None):
        n = len(observations)
        assert t.shape == (n,)
        assert (t == t[0]).all()
        self.t.append(int(t[0]))
        seeds = self.seeds[self.first : self.first + n]
        return np.array(
            [self.actions(s, int(t[0]), o) for s, o in zip(seeds, observations, strict=True)]
        )


def push(seed, t, seen):
    """Mostly to the right, harder for some seeds, so that episodes end at different times."""
    return np.array([np.sin(seed + t) * 0.3 + (seed % 4) / 3.0], np.float32)


def loop(env_id, actions, seeds, horizon):
    """Episodes as a reader of gymnasium's documentation would play them."""
    env = gymnasium.make(env_id, max_episode_steps=horizon)
    rows, lengths, ends, returns = [], [], [], []
    for seed in seeds.tolist():
        seen, _ = env.reset(seed=seed)
        row, total, terminated = [seen], 0.0, False
        for t in range(horizon):
            action = actions(seed, t, seen)
            action = int(action) if isinstance(env.action_space, Discrete) else action
            seen, reward, terminated, truncated, _ = env.step(action)
            row.append(seen)
            total += reward
            if terminated or truncated:
                break
        lengths.append(len(row) - 1)
        rows.append(np.array(row + [row[-1]] * (horizon + 1 - len(row))))
        ends.append(terminated)
        returns.append(total)
    return Episodes(np.array(rows), np.array(lengths), np.array(ends), np.array(returns))


def played(env_id, actions, horizon, num_envs, rng, seeds=SEEDS):
    player = Player(gymnasium.make(env_id), num_envs, horizon)
    script = Script(actions, seeds)
    found = player.play(script, seeds, rng)
    player.close()
    return player, script, found


def same(found, slow):
    np.testing.assert_array_equal(found.observations, slow.observations)
    assert found.observations.dtype == slow.observations.dtype
    np.testing.assert_array_equal(found.lengths, slow.lengths)
    np.testing.assert_array_equal(found.terminated, slow.terminated)
    np.testing.assert_allclose(found.returns, slow.returns, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["Batched", "Turns"])
@pytest.mark.parametrize("num_envs", [7, 3, 1, 12])
@pytest.mark.parametrize("horizon", [1, 8, 30])
def test_episodes_are_those_of_a_loop(name, num_envs, horizon, rng):
    slow = loop("Ledge/Turns-v0", push, SEEDS, horizon)
    player, _, found = played(f"Ledge/{name}-v0", push, horizon, num_envs, rng)
    same(found, slow)
    assert (player.vector is not None) == (name == "Batched")
    if horizon == 30:
        assert found.terminated.any()
        assert not found.terminated.all()
        assert len(set(found.lengths.tolist())) > 2
        assert (found.lengths[~found.terminated] == 30).all()


def test_termination_in_the_last_step_is_not_truncation(rng):
    slow = loop("Ledge/Turns-v0", push, SEEDS, 50)
    ends = slow.lengths[slow.terminated]
    for name in ("Batched", "Turns"):
        _, _, found = played(f"Ledge/{name}-v0", push, int(ends[0]), 7, rng)
        assert found.terminated[np.flatnonzero(slow.terminated)[0]]


def test_steps_that_were_taken(rng):
    _, _, found = played("Ledge/Batched-v0", push, 30, 7, rng)
    slow = [[t < length for t in range(30)] for length in found.lengths]
    np.testing.assert_array_equal(found.real, slow)


@pytest.mark.parametrize("name", ["Batched", "Turns"])
def test_beyond_an_end_nothing_changes(name, rng):
    """Whatever the policy says to an episode that is over."""
    _, _, found = played(f"Ledge/{name}-v0", push, 30, 7, rng)

    def mad(seed, t, seen):
        i = int(seed) - 100
        return push(seed, t, seen) if t < found.lengths[i] else np.array([-1.0], np.float32)

    _, _, again = played(f"Ledge/{name}-v0", mad, 30, 7, rng)
    same(again, found)
    for row, length in zip(found.observations, found.lengths, strict=True):
        assert (row[length:] == row[length]).all()


def test_playing_stops_when_all_episodes_are_over(rng):
    always = lambda seed, t, seen: np.ones(1, np.float32)  # noqa: E731
    for name in ("Batched", "Turns"):
        _, script, found = played(f"Ledge/{name}-v0", always, 50, 7, rng)
        assert found.terminated.all()
        assert script.t == list(range(found.lengths.max()))
        assert found.observations.shape == (7, 51, 2)


@pytest.mark.parametrize("name", ["Batched", "Turns"])
def test_each_part_begins_its_slots(name, rng):
    _, script, _ = played(f"Ledge/{name}-v0", push, 8, 3, rng)
    assert script.begun == [[0, 1, 2], [0, 1, 2], [0]]


def test_at_most_so_many_environments_are_stepped_in_turns(rng):
    seeds = np.arange(50)
    player, script, found = played("Ledge/Turns-v0", push, 3, 50, rng, seeds)
    assert len(player.envs) == player.num_envs == 20
    assert [len(slots) for slots in script.begun] == [20, 20, 10]
    same(found, loop("Ledge/Turns-v0", push, seeds, 3))


@pytest.mark.parametrize("horizon", [20, 80])
def test_the_horizon_takes_the_place_of_the_limit(horizon, rng):
    stay = lambda seed, t, seen: np.zeros(1, np.float32)  # noqa: E731
    for name in ("Batched", "Turns"):
        _, _, found = played(f"Ledge/{name}-v0", stay, horizon, 7, rng)
        assert (found.lengths == horizon).all()
        assert not found.terminated.any()


@pytest.mark.parametrize("name", ["Turns", "Resetting", "Demanding"])
def test_environments_without_such_slots_are_stepped_in_turns(name, rng):
    assert vector_env(gymnasium.make(f"Ledge/{name}-v0"), 2, 5) is None
    same(played(f"Ledge/{name}-v0", push, 8, 7, rng)[2], loop("Ledge/Turns-v0", push, SEEDS, 8))


def test_wrapped_environments_and_those_without_a_spec_are_stepped_in_turns(rng):
    flipped = gymnasium.wrappers.TransformReward(gymnasium.make("Ledge/Batched-v0"), lambda r: -r)
    for env, sign in ((flipped, -1.0), (Ledge(), 1.0)):
        player = Player(env, 7, 8)
        assert player.vector is None
        found = player.play(Script(push), SEEDS, rng)
        slow = loop("Ledge/Turns-v0", push, SEEDS, 8)
        np.testing.assert_allclose(found.returns, sign * slow.returns)
        np.testing.assert_array_equal(found.observations, slow.observations)


def test_the_environment_itself_is_never_stepped(rng):
    env = gymnasium.make("Ledge/Turns-v0")
    env.reset(seed=3)
    before = env.unwrapped.state.copy()
    Player(env, 2, 8).play(Script(push), SEEDS, rng)
    np.testing.assert_array_equal(env.unwrapped.state, before)


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "CartPole-v1", "CliffWalking-v1"])
def test_environments_of_gymnasium(env_id, rng):
    env = gymnasium.make(env_id)
    n = int(env.action_space.n)
    actions = lambda seed, t, seen: (7 * seed + t * t) % n  # noqa: E731
    _, _, found = played(env_id, actions, 15, 4, rng)
    same(found, loop(env_id, actions, SEEDS, 15))


class Flags(gymnasium.Env):
    """MultiBinary observations; ends by itself and by a limit of its own, at once."""

    observation_space, action_space = MultiBinary(3), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(3, np.int8), {}

    def step(self, action):
        self.t += 1
        bits = np.array([self.t & 1, self.t & 2, self.t & 4], bool).astype(np.int8)
        return bits, float(action), self.t == 5 and action == 1, self.t == 5, {}


def test_an_environment_may_truncate_on_its_own_and_may_do_both_at_once(rng):
    actions = lambda seed, t, seen: int(seed) % 2  # noqa: E731
    found = Player(Flags(), 7, 8).play(Script(actions), SEEDS, rng)
    assert (found.lengths == 5).all()
    assert found.observations.dtype == np.int8
    np.testing.assert_array_equal(found.terminated, SEEDS % 2 == 1)
    np.testing.assert_array_equal(found.returns, 5.0 * (SEEDS % 2))
    np.testing.assert_array_equal(found.observations[0, 4:, :], [[0, 0, 1]] + [[1, 0, 1]] * 4)


class Broken(Ledge):
    def observe(self, states):
        seen = super().observe(states)
        seen[states[:, 1] == 3.0] = np.nan
        return seen


class BrokenBatch(BatchedEnv):
    single = Broken


def test_numbers_that_are_none_are_refused(rng):
    with pytest.raises(InputError, match=r"observation.*finite"):
        Player(Broken(), 2, 8).play(Script(push), SEEDS, rng)
    gymnasium.register("Ledge/Broken-v0", entry_point=Broken, vector_entry_point=BrokenBatch)
    try:
        player = Player(gymnasium.make("Ledge/Broken-v0"), 2, 8)
        assert player.vector is not None
        with pytest.raises(InputError, match="observations must be finite in single precision"):
            player.play(Script(push), SEEDS, rng)
    finally:
        del gymnasium.registry["Ledge/Broken-v0"]


def test_numbers_that_float32_does_not_have_are_refused(rng):
    """Networks would see infinity."""

    class Huge(Ledge):
        observation_space = Box(-np.inf, np.inf, (2,), np.float64)

        def observe(self, states):
            return states * 1e39

    with pytest.raises(InputError, match="observations must be finite in single precision"):
        Player(Huge(), 2, 8).play(Script(push), SEEDS, rng)


def test_a_reward_that_is_none_is_refused(rng):
    class Unpaid(Ledge):
        def advance(self, states, actions):
            after, rewards, ended = super().advance(states, actions)
            return after, rewards * np.nan, ended

    with pytest.raises(InputError, match="reward"):
        Player(Unpaid(), 2, 8).play(Script(push), SEEDS, rng)
