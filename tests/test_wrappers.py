"""What `reset` and `step` may return, at every door through which an environment is played."""

import json
import math
import os
from fractions import Fraction
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from rlentropy import policies
from rlentropy.cli import main
from rlentropy.errors import InputError
from rlentropy.wrappers import Checked, headless, make_with_pictures, picture, trusted

PAIR, IMAGE = Box(-1.0, 1.0, (2,)), Box(0, 255, (2, 2), np.uint8)
LONG = Box(-1.0, 1.0, (100,), np.float64)


class Says(gymnasium.Env):
    """Returns what it is told to at one step, and what is right at all others."""

    action_space = Discrete(2)

    def __init__(self, space=None, at=3, **lies):
        self.observation_space, self.at, self.lies = space or PAIR, at, lies
        is_pair = self.observation_space == PAIR
        self.good = np.float32([0.5, -0.5]) if is_pair else self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        if "reset" in self.lies:
            return self.lies["reset"]
        return self.good, {}

    def step(self, action):
        self.t += 1
        if self.t != self.at:
            return self.good, 1.0, False, False, {}
        if "step" in self.lies:
            return self.lies["step"]
        if "error" in self.lies:
            raise self.lies["error"]
        names = ("observation", "reward", "terminated", "truncated", "info")
        right = (self.good, 1.0, False, False, {})
        return tuple(self.lies.get(name, x) for name, x in zip(names, right, strict=True))


def answer(wrap=lambda env: env, **options):
    """What comes of the third step, checked."""
    env = Checked(wrap(Says(**options)))
    env.reset(0)
    for _ in range(2):
        env.step(0)
    return env.step(0)


NAN = np.array([0.25, math.nan], np.float32)
WRONG = [
    (
        {"reward": np.zeros(2)},
        r"reward must be a number, got an array of shape \(2,\) at step 3 of an episode in Says",
    ),
    ({"reward": None}, "reward must be a number, got None"),
    ({"reward": "1.0"}, r"reward must be a number, got '1\.0'"),
    ({"reward": [1.0]}, r"reward must be a number, got \[1\.0\]"),
    ({"reward": np.ma.masked}, "reward must be a number, got masked"),
    ({"reward": 1j}, "reward must be a number, got 1j"),
    ({"reward": {"a": 1}}, r"reward must be a number, got \{'a': 1\}"),
    ({"reward": np.array(["1"])}, "reward must be a number, got an array"),
    ({"reward": math.nan}, "reward must be finite, got nan at step 3"),
    ({"reward": np.float32("inf")}, "reward must be finite, got inf"),
    ({"reward": np.array([[-np.inf]])}, "reward must be finite, got -inf"),
    ({"reward": 10**400}, "reward must be finite, got 1000.* …"),
    ({"terminated": None}, "terminated must be a boolean, got None"),
    ({"terminated": "False"}, "terminated must be a boolean, got 'False'"),
    ({"terminated": math.nan}, "terminated must be a boolean, got nan"),
    ({"truncated": {}}, r"truncated must be a boolean, got \{\}"),
    ({"truncated": 2}, "truncated must be a boolean, got 2"),
    ({"truncated": np.zeros(2, bool)}, "truncated must be a boolean, got an array of shape"),
    ({"observation": NAN}, "observation must be finite, got nan at index .1. at step 3"),
    ({"observation": [0.0, 1e300]}, r"observation must be finite, got 1e\+300 at index"),
    ({"observation": np.zeros(3)}, r"observation must have shape \(2,\), got .* shape \(3,\)"),
    ({"observation": 0.5}, r"observation must have shape \(2,\), got 0\.5"),
    ({"observation": [[1.0], [1.0, 2.0]]}, "observation must be numbers of Box"),
    ({"observation": None}, "observation must be numbers of Box.*, got None"),
    ({"observation": ["a", "b"]}, "observation must be numbers of Box"),
    ({"observation": {"x": 1}}, "observation must be numbers of Box"),
    (
        {"space": LONG, "observation": np.where(np.arange(100) == 70, np.nan, 0.0)},
        r"observation must be finite, got nan at index \[70\]",
    ),
    (
        {"space": IMAGE, "observation": np.full((2, 2), 256)},
        r"observation must be whole numbers of uint8, got 256 at index \[0, 0\]",
    ),
    (
        {"space": IMAGE, "observation": np.full((2, 2), 0.5)},
        r"observation must be whole numbers of uint8, got 0\.5",
    ),
    ({"space": Discrete(5), "observation": 5}, r"observation must be one of 0\.\.4, got 5"),
    ({"space": Discrete(5), "observation": -1}, r"one of 0\.\.4, got -1"),
    ({"space": Discrete(5, start=2), "observation": 1}, r"one of 2\.\.6, got 1 at step 3"),
    ({"space": Discrete(5), "observation": 1.5}, r"one of 0\.\.4, got 1\.5"),
    ({"space": Discrete(5), "observation": math.nan}, r"one of 0\.\.4, got nan"),
    ({"space": Discrete(5), "observation": "1"}, r"one of 0\.\.4, got '1'"),
    ({"space": Discrete(5), "observation": np.zeros(2)}, r"one of 0\.\.4, got an array of shape"),
    ({"space": MultiDiscrete([2, 3]), "observation": [1, 3]}, r"be in MultiD.*, got \[1, 3\]"),
    ({"space": MultiBinary(2), "observation": [1, 2]}, "observation must be in MultiBinary"),
    ({"space": Dict(a=Discrete(2)), "observation": {"a": 5}}, r"be in Dict.*, got \{'a': 5\}"),
    (
        {"step": (NAN, 1.0, False, {})},
        r"step must return 5 values \(observation, reward, terminated, truncated, info\), "
        "got 4 values at step 3",
    ),
    ({"step": None}, "step must return 5 values .*, got None"),
    ({"step": np.zeros(5)}, r"step must return 5 values .*, got an array of shape \(5,\)"),
    ({"step": tuple(range(6))}, "step must return 5 values .*, got 6 values"),
    ({"reset": np.zeros(2)}, r"reset must return 2 values \(observation, info\), got .* at reset"),
    ({"reset": (np.zeros(2), {}, 0)}, "reset must return 2 values .*, got 3 values at reset"),
    ({"reset": (NAN, {})}, "observation must be finite, got nan at index .1. at reset in Says"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_what_is_wrong_is_named(options, message):
    with pytest.raises(InputError, match=message):
        answer(**options)


@pytest.mark.parametrize(
    ("reward", "value"),
    [
        *((x, 2.0) for x in (2, 2.0, np.int8(2), np.float16(2), np.array(2.0), np.array([[2]]))),
        (True, 1.0),
        (np.bool_(True), 1.0),
        (Fraction(1, 2), 0.5),
    ],
)
def test_rewards_that_are_one_number(reward, value):
    found = answer(reward=reward)[1]
    assert (type(found), found) == (float, value)


def test_flags_that_are_booleans():
    for flag in (True, np.bool_(True), np.array([True]), 1, np.int64(1)):
        assert answer(terminated=flag)[2] is True
        assert answer(truncated=flag)[3] is True
    assert answer(terminated=0)[2:] == (False, False)


def test_observations_come_in_the_dtype_of_their_space():
    for given in (np.array([0.1, 3.0]), [0.1, 3], (np.float64(0.1), 3.0)):  # 3 is out of bounds
        found = answer(observation=given)[0]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.array([0.1, 3.0], np.float32))
    for given in (4, np.int64(4), np.array(4), np.array([4]), 4.0, np.float32(4)):
        found = answer(space=Discrete(5), observation=given)[0]
        assert (type(found), found) == (int, 4)
    found = answer(space=IMAGE, observation=[[0, 255], [1.0, 2.0]])[0]
    assert (found.dtype, found.tolist()) == (np.uint8, [[0, 255], [1, 2]])
    assert answer(space=MultiDiscrete([2, 3]), observation=(1, 2))[0].dtype == np.int64
    assert answer(space=Dict(a=Discrete(2)), observation={"a": 1})[0] == {"a": 1}


def test_finite_numbers_whose_sum_is_not():
    huge = np.full(2, 1e308)
    found = answer(space=Box(-np.inf, np.inf, (2,), np.float64), observation=huge, reward=1e308)
    np.testing.assert_array_equal(found[0], huge)
    assert found[1] == 1e308


def test_errors_of_the_environment_are_its_own():
    for error in (ValueError("mine"), TypeError("mine"), AssertionError("mine"), KeyError("mine")):
        with pytest.raises(type(error), match="mine") as caught:
            answer(lambda env: gymnasium.wrappers.TimeLimit(env, 9), error=error)
        assert caught.value is error
        assert not isinstance(caught.value, InputError)


def test_what_gymnasium_could_not_take_apart():
    def limited(env):
        return gymnasium.wrappers.TimeLimit(env, 9)

    with pytest.raises(InputError, match=r"step must take .* 5 values .*expected 5, got 4\) at st"):
        answer(limited, step=(NAN, 1.0, False, {}))
    with pytest.raises(InputError, match="step must take an action and return 5 values"):
        answer(limited, step=None)

    class Old(Says):
        def reset(self):
            return self.good

    with pytest.raises(InputError, match="reset must take seed and options and return 2 values"):
        Checked(Old()).reset(0)
    with pytest.raises(InputError, match="unexpected keyword argument 'seed' at reset in Old"):
        Checked(limited(Old())).reset(0)


def test_policies_play_in_the_dtype_of_the_space():
    """A start in whole numbers doesn't make whole numbers of what follows."""

    class Whole(Says):
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(2, np.int64), {}

    class Sees:
        seen = ()

        def begin(self, index, rng):
            pass

        def act(self, observations, t, rng):
            self.seen += (observations.copy(),)
            return np.zeros(len(t), np.int64)

    policy = Sees()
    policies.play([Whole(), Whole()], policy, [0, 1], 2, np.random.default_rng(0))
    np.testing.assert_array_equal(policy.seen[1], [[0.5, -0.5]] * 2)


# ---------------------------------------------------------------- the doors


@pytest.fixture(scope="module", autouse=True)
def _registered():
    for name, options in (("Float", {}), ("State", {"space": Discrete(5)})):
        gymnasium.register(f"Checked/{name}-v0", Says, max_episode_steps=9, kwargs=options)
    yield
    for name in ("Float", "State"):
        gymnasium.registry.pop(f"Checked/{name}-v0")


LIES = {
    "reward": (np.ones(2), "reward must be a number, got an array of shape (2,) at step 3"),
    "observation": (None, "at step 3"),
    "step": ((0, 0.0, False, {}), "(expected 5, got 4) at step 3"),
    "reset": (0, "reset must return 2 values (observation, info), got 0 at reset"),
}
DOORS = {
    "collect": ("Float", "collect --steps 50 --data d.npz"),
    "actor-critic": ("Float", "robust-actor-critic --steps 64 --num-envs 2 --rollout-steps 32"),
    "exploration": ("State", "random-policy --episodes 40"),
    "offline": ("Float", "fqi --data good.npz --updates 1 --hidden 4 --episodes 1"),
    "evaluate": ("Float", "evaluate --run good --episodes 2"),
}


@pytest.mark.parametrize("door", list(DOORS))
def test_every_door_says_it_in_one_line(door, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    kind, line = DOORS[door]
    env_id, arguments = f"Checked/{kind}-v0", line.split()
    where = ["--env-id", env_id, "--quiet"]
    if door == "offline":
        assert main(["collect", *where, "--steps", "40", "--data", "good.npz"]) == 0
    if door == "evaluate":
        small = ["--steps", "4", "--num-envs", "1", "--rollout-steps", "4", "--hidden", "4"]
        small += ["--minibatches", "1", "--epochs", "1", "--final-episodes", "1"]
        assert main(["robust-actor-critic", *where, *small, "--out", "good"]) == 0
    for name, (lie, message) in LIES.items():
        monkeypatch.setitem(gymnasium.registry[env_id].kwargs, name, lie)
        assert main([*arguments, *where]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert message in said
        assert f"in {env_id}" in said
        monkeypatch.delitem(gymnasium.registry[env_id].kwargs, name)


def test_environments_without_spaces_are_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    class Bare(gymnasium.Env):
        observation_space = None
        action_space = Discrete(2)

    monkeypatch.setitem(
        gymnasium.registry,
        "Checked/Bare-v0",
        gymnasium.envs.registration.EnvSpec("Checked/Bare-v0", Bare),
    )
    assert main(["collect", "--env-id", "Checked/Bare-v0", "--data", "d.npz"]) == 2
    said = capsys.readouterr().err
    assert "env must have a gymnasium space as its observation_space, got None" in said
    assert json.dumps(said).count("\\n") == 1


# ---------------------------------------------------------------- what is stored, what is drawn


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "judge",
            "a.py:f",
            r"judge must be given .*--judge.* where .* is a function, got 'a.py:f'",
        ),
        ("env_id", "module:Env-v0", r"env_id must be given \(--env-id\) where .* imports a module"),
        ("env_id", 7, "env_id must be text in run, got 7"),
        ("env_kwargs", '{"a": [{"b": "c/d"}]}', r"env_kwargs must be given \(--env-kwargs\) where"),
        ("env_kwargs", '{"a": "module:thing"}', "name a file, got "),
    ],
)
def test_what_could_run_code_must_be_typed(name, value, message, tmp_path):
    with pytest.raises(InputError, match=message):
        trusted(name, value, Path("run"))


@pytest.mark.parametrize("value", ["Ns/Env-v0", '{"a": ["4x4", 0.5, null]}', "no JSON"])
def test_what_could_not_is_taken(value):
    name = "env_kwargs" if value.startswith("{") else "env_id"
    assert trusted(name, value, Path("run")) == value


def test_drawing_needs_no_display_unless_there_is_one(monkeypatch):
    names = ("DISPLAY", "SDL_VIDEODRIVER", "MUJOCO_GL")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("DISPLAY", ":0")
    headless()
    assert [os.environ.get(name) for name in names[1:]] == [None, None]
    monkeypatch.delenv("DISPLAY")
    headless()
    assert os.environ["SDL_VIDEODRIVER"] == "dummy"


def test_pictures():
    env = make_with_pictures("rlentropy/Ring-v0", "{}", True)
    env.reset(seed=0)
    frame = picture(env)
    assert (frame.dtype, frame.ndim, frame.shape[2]) == (np.uint8, 3, 3)
    np.testing.assert_array_equal(frame, env.render())
    assert env.spec.max_episode_steps is None
    env.unwrapped.render = lambda: "text"
    with pytest.raises(
        InputError, match=r"pictures must be \(height, width, 3\) of uint8, got 'te"
    ):
        picture(env)
    gymnasium.register("rlentropy/Blind-v0", Says)
    with pytest.raises(
        InputError, match="renders rgb_array, got rlentropy/Blind-v0, which renders"
    ):
        make_with_pictures("rlentropy/Blind-v0", "{}", False)
    del gymnasium.registry["rlentropy/Blind-v0"]
