import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlentropy.envs.tabular import TabularEnv
from rlentropy.mdp import FiniteMDP


def coin(**options: object) -> TabularEnv:
    """From 0, action 0 enters 1 or the terminal 2; r depends on which. Action 1 enters 2."""
    P = np.zeros((3, 2, 3))
    P[0, 0, [1, 2]] = 0.25, 0.75
    P[0, 1, 2] = P[1, :, 0] = P[2, :, 2] = 1.0
    r = np.zeros((3, 2, 3))
    r[0, 0, [1, 2]] = 4.0, 8.0
    return TabularEnv(
        FiniteMDP(P, r, [1.0, 0.0, 0.0], terminal=np.array([False, False, True])), **options
    )


def test_reward_and_termination_follow_the_drawn_successor() -> None:
    env = coin()
    env.reset(seed=0)
    seen = set()
    for _ in range(50):
        env.state = 0
        state, reward, terminated, truncated, info = env.step(np.int32(0))
        assert type(reward) is float
        assert type(terminated) is bool
        seen.add((int(state), reward, terminated, truncated, len(info)))
    assert seen == {(1, 4.0, False, False, 0), (2, 8.0, True, False, 0)}


@given(u=st.floats(0.0, 1.0, exclude_max=True), seed=st.integers(0, 2**32 - 1))
def test_no_draw_leaves_the_row(u: float, seed: int) -> None:
    class Fixed:
        def random(self) -> float:
            return u

    rng = np.random.default_rng(seed)
    P = np.where(rng.random((6, 2, 6)) < 0.5, rng.random((6, 2, 6)), 0.0)
    P[:, :, 3] += 1e-300  # every row has a successor, and many a negligible one
    P /= P.sum(axis=2, keepdims=True)
    mu = np.array([0.0, 1 / 3, 1 / 3, 1 / 3, 0.0, 0.0])
    env = TabularEnv(FiniteMDP(P, np.zeros((6, 2)), mu))
    env.np_random = Fixed()
    assert mu[env.reset()[0]] > 0.0
    for s in range(6):
        for a in range(2):
            env.state = s
            assert P[s, a, env.step(a)[0]] > 0.0


def test_overriding_step_loses_the_promise() -> None:
    class Silent(TabularEnv):
        pass

    class Loud(TabularEnv):
        def step(self, action: int) -> tuple:
            return super().step(action)

    assert TabularEnv.step.samples_mdp
    assert Silent.step.samples_mdp
    assert not hasattr(Loud.step, "samples_mdp")


@pytest.mark.parametrize("action", [-1, 2, 0.0, "left", None])
def test_action_outside_the_space_is_refused(action: object) -> None:
    env = coin()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action must be an integer in 0\.\.1, got "):
        env.step(action)


def test_reset_comes_first() -> None:
    env = coin(render_mode="ansi")
    with pytest.raises(gymnasium.error.ResetNeeded, match="before step"):
        env.step(0)
    with pytest.raises(gymnasium.error.ResetNeeded, match="before render"):
        env.render()


def test_constructor_refuses() -> None:
    with pytest.raises(ValueError, match="action_names must hold one name for each of 2 actions"):
        coin(action_names=("only",))
    with pytest.raises(ValueError, match="render_mode must be None, 'ansi' or 'rgb_array', got 'x"):
        coin(render_mode="x")


def test_render_without_a_mode_warns_and_draws_nothing() -> None:
    env = coin()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert env.render() is None


def test_text_of_a_strip() -> None:
    env = coin(render_mode="ansi", action_names=("toss", "end"))
    env.reset(seed=0)
    assert env.render() == "@..\nstep 0   state 0"
    env.step(1)
    assert env.render() == "o.@\nstep 1   state 2   action end   reward 0"


def test_what_was_played_before_is_drawn_without_its_reward() -> None:
    env = coin(render_mode="ansi", action_names=("toss", "end"))
    env.reset(seed=0)
    env.step(1)
    env.place(0)
    assert env.render() == "@..\nstep 0   state 0"
    env.place(1, 0)
    env.place(0, 1)
    assert env.render() == "@..\nstep 2   state 0   action end"
    assert env._previous == 1
    env.step(1)
    assert env.render() == "o.@\nstep 3   state 2   action end   reward 0"


def test_text_of_a_long_strip_keeps_the_agent_in_view() -> None:
    S = 1000
    env = TabularEnv(
        FiniteMDP(np.eye(S)[:, None], np.zeros((S, 1)), np.full(S, 1 / S)), render_mode="ansi"
    )
    env.reset(seed=0)
    for s, ends in ((0, (False, True)), (500, (True, True)), (S - 1, (True, False))):
        env.state = s
        line = env.render().split("\n")[0]
        assert line.count("@") == 1
        assert line.strip("…").count(".") == 63
        assert (line[0] == "…", line[-1] == "…") == ends
