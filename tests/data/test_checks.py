"""What a column may be: its types and shapes, guessed spaces, and refusals."""

import numpy as np
import pytest
from examples.datasets import KEYS, MAKERS, SPACES, continuous_arrays, made, same, tabular_arrays
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from rlentropy import data as offline
from rlentropy.data import Transitions, load
from rlentropy.errors import InputError

# ---------------------------------------------------------------- types and shapes of columns


WIDE = 1000  # transitions of one (s, a, s'): sums that small types don't hold


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "g", "i1", "u1", ">i2", "u8", "?"])
def test_rewards_of_all_types_are_summed_in_double_precision(tmp_path, dtype):
    ends = np.ones(WIDE, bool)
    rewards = np.ones(WIDE, dtype) if dtype == "?" else np.full(WIDE, 100, dtype)
    zeros = np.zeros(WIDE, int)
    np.savez(
        tmp_path / "data.npz",
        **dict(zip(KEYS, (zeros, zeros, rewards, zeros, ~ends, ends), strict=True)),
    )
    data = load(tmp_path / "data.npz")
    assert data.counts().rewards.toarray() == (WIDE if dtype == "?" else 100 * WIDE)
    np.testing.assert_array_equal(data.returns(), rewards.astype(float))


@pytest.mark.parametrize("dtype", ["f2", "f4", "g", ">f4", ">i4", "u1", "?", "u8"])
def test_observations_of_all_types_are_read(tmp_path, dtype):
    arrays = continuous_arrays()
    for key in ("observations", "next_observations"):
        arrays[key] = np.abs(arrays[key] * 50).astype(dtype)
    np.savez(tmp_path / "data.npz", **arrays)
    data = load(tmp_path / "data.npz")
    assert data.observations.dtype.isnative
    assert data.observations.dtype.itemsize <= 8
    np.testing.assert_array_equal(data.observations, arrays["observations"].astype(float))


def test_what_follows_may_be_stored_in_another_precision():
    arrays = continuous_arrays()
    arrays["observations"] = arrays["observations"].astype(np.float16)
    assert len(Transitions.from_arrays(**arrays)) == 150
    arrays["next_observations"][3] += 0.5
    with pytest.raises(InputError, match="got neither at transition 3"):
        Transitions.from_arrays(**arrays)


def test_columns_of_one_number_a_row_are_columns():
    arrays = tabular_arrays()
    wanted = Transitions.from_arrays(**arrays)
    tall = {k: arrays[k][:, None] for k in ("rewards", "terminations", "truncations")}
    found = Transitions.from_arrays(**arrays | tall)
    same(found, wanted)


@pytest.mark.parametrize(
    "stored",
    [lambda a: a[:, None], lambda a: a * 1.0, lambda a: a[:, None] * 1.0, lambda a: a.astype("u1")],
)
def test_ids_of_actions_are_known_in_every_guise(stored):
    arrays = tabular_arrays()
    found = Transitions.from_arrays(**arrays | {"actions": stored(arrays["actions"])})
    assert found.action_space == Discrete(3)
    np.testing.assert_array_equal(found.actions, arrays["actions"])
    assert "actions as Discrete(3) from" in found.guessed
    box = Box(0.0, 2.0, (1,))  # an environment knows better
    again = found.check_spaces(Discrete(6), box)
    assert (again.actions.shape, again.action_space, again.guessed) == ((200, 1), box, "")


@pytest.mark.parametrize(
    ("actions", "space"),
    [
        (np.linspace(0.0, 1.0, 200), Box(0.0, 1.0, (), np.float64)),
        (np.linspace(-1.0, 1.0, 200)[:, None], Box(-1.0, 1.0, (1,), np.float64)),
        (np.where(np.arange(200) % 2, -1.0, 1.0)[:, None], Box(-1.0, 1.0, (1,), np.float64)),
        (np.full((200, 1), 1e300), Box(1e300, 1e300, (1,), np.float64)),
        (np.zeros((200, 2), int), Box(0, 0, (2,), np.int64)),
    ],
)
def test_actions_that_are_no_ids(actions, space):
    found = Transitions.from_arrays(**tabular_arrays() | {"actions": actions})
    assert found.action_space == space
    assert f"actions as {space} from" in found.guessed


def test_guesses_are_in_words():
    words = "observations as Discrete(6) from int64 (N,); actions as Discrete(3) from int64 (N,)"
    assert made("tabular").guessed == words
    observation_space, action_space = SPACES["tabular"]
    arrays = tabular_arrays()
    half = Transitions.from_arrays(**arrays, observation_space=observation_space)
    assert half.guessed == "actions as Discrete(3) from int64 (N,)"
    whole = Transitions.from_arrays(
        **arrays, observation_space=observation_space, action_space=action_space
    )
    assert whole.guessed == ""


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("rewards", [[1.0], [2.0, 3.0]], "rewards must be an array of numbers, got list"),
        ("rewards", np.ma.masked_equal(np.arange(200), 3), "rewards must be without gaps"),
        ("observations", np.full(200, 2**64 - 1, np.uint64), r"ids below 2\^63 - 1, got 1844674"),
        (
            "terminations",
            np.full(200, 2, np.uint8).view(bool),
            "terminations must be 0 or 1, got 2",
        ),
        ("terminations", np.full(200, np.nan), "terminations must be 0 or 1, got nan"),
        ("rewards", np.zeros(200, "M8[s]"), "rewards must be real numbers, got datetime64"),
        ("rewards", np.zeros(200, [("a", "f8")]), "rewards must be real numbers"),
        ("actions", np.zeros(200, "S3"), r"actions must be real numbers, got \|S3"),
    ],
)
def test_columns_that_are_no_numbers(key, value, why):
    with pytest.raises(InputError, match=why):
        Transitions.from_arrays(**tabular_arrays() | {key: value})


# ---------------------------------------------------------------- refusals


def changed(kind, key, k, value):
    arrays = MAKERS[kind]()
    arrays[key] = arrays[key].copy()
    arrays[key][k] = value
    return arrays


def cut(kind, key):
    arrays = MAKERS[kind]()
    return arrays | {key: arrays[key][:-1]}


def turned(kind, key, dtype):
    arrays = MAKERS[kind]()
    return arrays | {key: arrays[key].astype(dtype)}


BAD = {
    "rewards must have the length of observations, 200, got 199": cut("tabular", "rewards"),
    "truncations must have the length of observations": cut("continuous", "truncations"),
    "actions must have the length of observations, 200, got no array": (
        tabular_arrays() | {"actions": 3}
    ),
    "data must hold at least one transition": {k: x[:0] for k, x in tabular_arrays().items()},
    "rewards must be finite, got nan at transition 17": (changed("tabular", "rewards", 17, np.nan)),
    "observations must be finite, got .* at transition 5": (
        changed("continuous", "observations", (5, 1), np.inf)
    ),
    "next_observations must be finite, .* at transition 149": (
        changed("continuous", "next_observations", (149, 0), np.nan)
    ),
    "actions must be finite, .* at transition 8": (
        changed("continuous", "actions", (8, 0), -np.inf)
    ),
    r"actions must be in Discrete\(3\), got -1 at transition 8": (
        changed("tabular", "actions", 8, -1)
    ),
    r"observations must be in Discrete\(6\), got -2 at transition 0": (
        changed("tabular", "observations", 0, -2)
    ),
    "actions must be real numbers, got complex": turned("continuous", "actions", complex),
    "observations must be real numbers, got <U": turned("continuous", "observations", str),
    r"next_observations must be whole numbers for Discrete\(6\), got float64": (
        turned("tabular", "next_observations", float)
    ),
    r"rewards must be \(N, \*shape\) with the shape \(\)": (
        tabular_arrays() | {"rewards": np.zeros((200, 2))}
    ),
    r"next_observations must be \(N, \*shape\) with the shape \(3,\)": (
        continuous_arrays() | {"next_observations": np.zeros((150, 4))}
    ),
    "terminations must be 0 or 1, got 2 at transition 3": (
        tabular_arrays() | {"terminations": np.where(np.arange(200) == 3, 2, 0)}
    ),
    r"truncations must be flags \(N,\)": tabular_arrays() | {"truncations": np.zeros((200, 2))},
    "episodes must end terminated or truncated, got neither at the last transition, 199": (
        changed("tabular", "truncations", 199, False)
    ),
    "episodes must end .* got neither at transition 29, though transition 30 begins elsewhere": (
        changed("continuous", "truncations", 29, False)
        | {"terminations": continuous_arrays()["terminations"] & (np.arange(150) != 29)}
    ),
}


@pytest.mark.parametrize("why", list(BAD))
def test_what_is_no_dataset_is_refused(tmp_path, why, monkeypatch):
    with pytest.raises(InputError, match=why) as refused:
        Transitions.from_arrays(**BAD[why])
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(offline.checks, "CHUNK", 64)  # found in whatever chunk it is
    np.savez(tmp_path / "bad.npz", **BAD[why])
    with pytest.raises(InputError, match=f"bad.npz: {why}".replace("got no array", "")):
        load(tmp_path / "bad.npz")


def test_declared_spaces_are_enforced():
    arrays = tabular_arrays()
    with pytest.raises(InputError, match=r"actions must be in Discrete\(2\), got 2 at transition"):
        Transitions.from_arrays(**arrays, action_space=Discrete(2))
    with pytest.raises(InputError, match=r"observations must be in Discrete\(5\), got 5 at tr"):
        Transitions.from_arrays(**arrays, observation_space=Discrete(5))
    floats = arrays | {"actions": arrays["actions"] + 0.0}
    with pytest.raises(InputError, match=r"actions must be whole numbers for Discrete\(3\), got f"):
        Transitions.from_arrays(**floats, action_space=Discrete(3))
    box = Box(-0.5, 0.5, (2,))
    with pytest.raises(InputError, match=r"actions must be in Box\(-0.5, 0.5, \(2,\)"):
        Transitions.from_arrays(**continuous_arrays(), action_space=box)
    with pytest.raises(InputError, match="observations must be of a Box, Discrete, MultiDiscrete"):
        Transitions.from_arrays(**arrays, observation_space=Dict({"a": Discrete(6)}))


def test_actions_of_many_parts_are_checked():
    arrays = continuous_arrays()
    rng = np.random.default_rng(0)
    arrays["actions"] = rng.integers(0, [3, 2], size=(150, 2))
    Transitions.from_arrays(**arrays, action_space=MultiDiscrete([3, 2]))
    with pytest.raises(InputError, match="actions must be in MultiDiscrete"):
        Transitions.from_arrays(**arrays, action_space=MultiDiscrete([2, 2]))
    with pytest.raises(InputError, match="actions must be in MultiBinary"):
        Transitions.from_arrays(**arrays, action_space=MultiBinary(2))


def test_bounds_are_compared_in_the_type_of_the_space():
    arrays = continuous_arrays()
    arrays["actions"] = np.full((150, 2), 0.7)  # as float32 it is less than 0.7
    Transitions.from_arrays(**arrays, action_space=Box(-0.7, 0.7, (2,)))


def test_observations_may_leave_their_box():
    Transitions.from_arrays(**continuous_arrays(), observation_space=Box(-0.1, 0.1, (3,)))


def test_guessed_spaces():
    tabular, continuous = made("tabular"), made("continuous")
    assert (tabular.observation_space, tabular.action_space) == (Discrete(6), Discrete(3))
    assert continuous.observation_space == Box(-np.inf, np.inf, (3,))
    actions = continuous.actions
    assert continuous.action_space == Box(actions.min(0), actions.max(0))
    pixels = continuous_arrays()
    for key in ("observations", "next_observations"):
        pixels[key] = (abs(pixels[key]) * 50).astype(np.uint8)
    assert Transitions.from_arrays(**pixels).observation_space == Box(0, 255, (3,), np.uint8)
