"""Offline data: what is read is what was written, and what is no dataset is refused in a line."""

import json
import os
import sys
import zipfile

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from hypothesis import given
from hypothesis import strategies as st

from rlentropy import data as offline
from rlentropy.data import Batch, Transitions, load, save
from rlentropy.data import columns as on_disk
from rlentropy.data.spaces import space_from_json, space_to_json
from rlentropy.errors import InputError, OutputError

KEYS = Batch._fields


def tabular_arrays(N=200, S=6, A=3, seed=0):
    """Episodes of 7 steps that never terminate, the last one shorter."""
    rng = np.random.default_rng(seed)
    s = rng.integers(S, size=N + 1)
    ends = np.arange(N) % 7 == 6
    ends[-1] = True
    s2 = np.where(ends, rng.integers(S, size=N), s[1:])
    a, r = rng.integers(A, size=N), rng.normal(size=N)
    return dict(zip(KEYS, (s[:-1], a, r, s2, np.zeros(N, bool), ends), strict=True))


def continuous_arrays(N=150, seed=0):
    """Episodes of 10 steps, every other one terminated."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 3)).astype(np.float32)
    last = np.arange(N) % 10 == 9
    x2 = np.where(last[:, None], rng.normal(size=(N, 3)), np.roll(x, -1, 0)).astype(np.float32)
    terminated = last & (np.arange(N) // 10 % 2 == 0)
    a, r = rng.uniform(-1, 1, (N, 2)).astype(np.float32), rng.normal(size=N)
    return dict(zip(KEYS, (x, a, r, x2, terminated, last & ~terminated), strict=True))


MAKERS = {"tabular": tabular_arrays, "continuous": continuous_arrays}
SPACES = {
    "tabular": (Discrete(9), Discrete(3)),
    "continuous": (Box(-np.inf, np.inf, (3,)), Box(-1.0, 1.0, (2,))),
}


def made(kind, **more):
    return Transitions.from_arrays(**MAKERS[kind](**more))


def same(found, wanted):
    for key, x, y in zip(KEYS, found.columns, wanted.columns, strict=True):
        assert x.dtype == y.dtype, key
        np.testing.assert_array_equal(x, y, err_msg=key)


def write_npz(path, arrays):
    np.savez(path, **arrays)


def write_compressed_npz(path, arrays):
    np.savez_compressed(path, **arrays)


def write_hdf5(path, arrays, **how):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for key, x in arrays.items():
            file.create_dataset(key, data=x, **how)


def write_chunked_hdf5(path, arrays):
    write_hdf5(path, arrays, chunks=True, compression="gzip")


WRITERS = {
    "npz": (write_npz, ".npz"),
    "compressed npz": (write_compressed_npz, ".npz"),
    "hdf5": (write_hdf5, ".hdf5"),
    "chunked hdf5": (write_chunked_hdf5, ".h5"),
}


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("kind", list(MAKERS))
@pytest.mark.parametrize("suffix", [".npz", ".hdf5", ".h5"])
def test_files_return_what_was_saved(tmp_path, kind, suffix):
    if suffix != ".npz":
        pytest.importorskip("h5py")
    observation_space, action_space = SPACES[kind]
    data = Transitions.from_arrays(
        **MAKERS[kind](),
        observation_space=observation_space,
        action_space=action_space,
        metadata={"who": ["me", 1.5]},
    )
    path = tmp_path / "deep" / f"data{suffix}"
    save(path, data)
    assert os.listdir(path.parent) == [path.name]
    found = load(path)
    same(found, data)
    assert found.metadata == {"who": ["me", 1.5]}
    assert (found.observation_space, found.action_space) == SPACES[kind]
    assert not found.guessed
    for column in (found.observations, found.actions, found.rewards, found.next_observations):
        assert isinstance(column, np.memmap)
        assert column.flags.aligned
        assert not column.flags.writeable


@pytest.mark.parametrize("kind", list(MAKERS))
@pytest.mark.parametrize("way", list(WRITERS))
def test_files_of_others_are_read(tmp_path, kind, way):
    write, suffix = WRITERS[way]
    arrays = MAKERS[kind]()
    names = {"terminations": "terminals", "truncations": "timeouts"}
    write(tmp_path / f"ours{suffix}", arrays)
    write(tmp_path / f"d4rl{suffix}", {names.get(k, k): x for k, x in arrays.items()})
    for name in ("ours", "d4rl"):
        found = load(str(tmp_path / f"{name}{suffix}"))
        same(found, Transitions.from_arrays(**arrays))
        assert found.guessed
        assert isinstance(found.observations, np.memmap)


def test_arrays_in_fortran_order_and_flags_of_other_types_are_read(tmp_path):
    arrays = continuous_arrays()
    wanted = Transitions.from_arrays(**arrays)
    odd = arrays | {k: np.asfortranarray(arrays[k]) for k in ("observations", "actions")}
    odd |= {k: odd[k].astype(t) for k, t in (("terminations", float), ("truncations", np.uint8))}
    for write in (write_npz, write_compressed_npz):
        write(tmp_path / "data.npz", odd)
        same(load(tmp_path / "data.npz"), wanted)


def test_a_saved_npz_is_a_plain_npz(tmp_path):
    data = made("continuous")
    save(tmp_path / "data.npz", data)
    with np.load(tmp_path / "data.npz", allow_pickle=False) as file:
        assert set(file.files) == {*KEYS, "metadata"}
        np.testing.assert_array_equal(file["observations"], data.observations)
        assert json.loads(str(file["metadata"]))["observation_space"]["type"] == "Box"


def test_the_same_data_are_the_same_bytes(tmp_path):
    for suffix in (".npz", ".hdf5"):
        if suffix == ".hdf5":
            pytest.importorskip("h5py")
        for name in ("a", "b"):
            save(tmp_path / (name + suffix), made("tabular"))
        a, b = ((tmp_path / (name + suffix)).read_bytes() for name in ("a", "b"))
        assert a == b


def test_foreign_metadata_are_ignored(tmp_path):
    np.savez(tmp_path / "data.npz", **tabular_arrays(), metadata=np.arange(3))
    assert load(tmp_path / "data.npz").metadata == {}
    h5py = pytest.importorskip("h5py")
    write_hdf5(tmp_path / "data.hdf5", tabular_arrays())
    with h5py.File(tmp_path / "data.hdf5", "a") as file:
        file.create_group("metadata")["algorithm"] = "SAC"
    assert load(tmp_path / "data.hdf5").metadata == {}


@pytest.mark.parametrize(
    ("first", "second", "joint"),
    [
        ("i1", "f8", "f8"),
        ("f4", "f8", "f4"),
        ("f4", "i8", "f4"),
        ("u1", "i8", "i8"),
        ("u8", "i8", "i8"),
        ("i8", "u1", "i8"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_parts_of_other_types_lose_nothing_but_digits(tmp_path, first, second, joint, suffix):
    if suffix == ".hdf5":
        pytest.importorskip("h5py")
    parts = []
    for dtype, value in ((first, 1), (second, 100.5 if second == "f8" else 100)):
        arrays = tabular_arrays(20)
        arrays["rewards"] = np.full(20, value, dtype)
        parts.append(Batch(**arrays))
    file = offline.write(tmp_path, f"any{suffix}", parts, Discrete(6), Discrete(3), {})
    found = load(file).rewards
    assert found.dtype == joint
    np.testing.assert_array_equal(found, np.repeat([1.0, parts[1].rewards[0]], 20))


# ---------------------------------------------------------------- streaming


@pytest.mark.parametrize("way", list(WRITERS))
def test_streams_say_what_memory_says(tmp_path, way, monkeypatch):
    write, suffix = WRITERS[way]
    arrays = continuous_arrays()
    write(tmp_path / f"data{suffix}", arrays)
    monkeypatch.setattr(on_disk, "CHUNK", 100)  # bytes: a few rows
    monkeypatch.setattr(offline.files, "CHUNK", 100)
    monkeypatch.setattr(offline.hdf5, "CHUNK", 100)
    monkeypatch.setattr(offline.checks, "CHUNK", 100)
    data = load(tmp_path / f"data{suffix}")
    indices = np.array([3, 149, 3, 0])
    for key, x in data.sample(indices)._asdict().items():
        np.testing.assert_array_equal(x, arrays[key][indices])
        assert type(x) is np.ndarray
    pieces = list(data.chunks(64))
    assert [len(piece.rewards) for piece in pieces] == [64, 64, 22]
    for key, parts in zip(KEYS, zip(*pieces, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), arrays[key])


def test_batches_are_uniform_and_follow_their_generator():
    data = made("tabular", N=20)
    draws = data.batches(1000, np.random.default_rng(5))
    first = [next(draws) for _ in range(20)]
    again = data.batches(1000, np.random.default_rng(5))
    for batch in first:
        for x, y in zip(batch, next(again), strict=True):
            np.testing.assert_array_equal(x, y)
    rewards = np.concatenate([batch.rewards for batch in first])
    counts = np.array([(rewards == r).sum() for r in data.rewards])
    assert counts.sum() == 20_000
    assert (abs(counts - 1000) < 5 * np.sqrt(1000)).all()


def test_a_generator_that_is_restored_goes_on_with_the_same_batches():
    data, rng = made("tabular"), np.random.default_rng(0)
    draws = data.batches(8, rng)
    next(draws)
    state = rng.bit_generator.state
    wanted = next(draws)
    rng = np.random.default_rng(1)
    rng.bit_generator.state = state
    np.testing.assert_array_equal(next(data.batches(8, rng)).rewards, wanted.rewards)


# ---------------------------------------------------------------- tabular counts


def loop_counts(x, S, A):
    n, r = np.zeros((S * A, S)), np.zeros((S * A, S))
    terminal, starts, fresh = np.zeros(S, bool), np.zeros(S, int), True
    for s, a, reward, s2, terminated, truncated in zip(*(x[k] for k in KEYS), strict=True):
        n[s * A + a, s2] += 1
        r[s * A + a, s2] += reward
        terminal[s2] |= terminated
        starts[s] += fresh
        fresh = terminated or truncated
    return n, r, terminal, starts


@given(seed=st.integers(0, 1000), S=st.integers(2, 6), A=st.integers(1, 3))
def test_counts_are_those_of_a_loop(seed, S, A):
    arrays = tabular_arrays(60, S, A, seed)
    arrays["observations"] = np.where(arrays["observations"] == 0, 1, arrays["observations"])
    x2, ends = arrays["next_observations"], arrays["truncations"]
    x2[:-1] = np.where(ends[:-1], x2[:-1], arrays["observations"][1:])
    arrays["terminations"] = ends & (x2 == 0)  # only state 0 ends episodes, and always does
    data = Transitions.from_arrays(**arrays)
    n, r, terminal, starts = loop_counts(arrays, S, A)
    found = data.counts(S, A)
    np.testing.assert_array_equal(found.transitions.toarray(), n)
    np.testing.assert_allclose(found.rewards.toarray(), r, atol=1e-12)
    np.testing.assert_array_equal(found.terminal, terminal)
    np.testing.assert_array_equal(found.starts, starts)
    assert found.starts.sum() == len(data.returns()) == len(data.episode_starts)


def test_counts_subtract_the_first_element_of_a_space():
    arrays = tabular_arrays()
    wanted = Transitions.from_arrays(**arrays).counts(6, 3)
    moved = arrays | {k: arrays[k] + 4 for k in ("observations", "next_observations")}
    moved["actions"] = arrays["actions"] - 2
    spaces = {"observation_space": Discrete(6, start=4), "action_space": Discrete(3, start=-2)}
    found = Transitions.from_arrays(**moved, **spaces).counts()
    np.testing.assert_array_equal(found.transitions.toarray(), wanted.transitions.toarray())
    np.testing.assert_array_equal(found.starts, wanted.starts)


def test_counts_of_small_integers_do_not_overflow():
    arrays = tabular_arrays(600, 200, 3)
    wanted = Transitions.from_arrays(**arrays).counts(200, 3)
    small = arrays | {k: arrays[k].astype(np.uint8) for k in ("observations", "actions")}
    small["next_observations"] = arrays["next_observations"].astype(np.uint8)
    found = Transitions.from_arrays(**small).counts(200, 3)
    assert (found.transitions != wanted.transitions).nnz == 0


def loop_ends(x, S, A):
    """Counts and rewards (S*A, S, 2), the last axis for transitions that went on and that ended."""
    n, r = np.zeros((2, S * A, S, 2))
    for s, a, reward, s2, terminated, _ in zip(*(x[k] for k in KEYS), strict=True):
        n[s * A + a, s2, int(terminated)] += 1
        r[s * A + a, s2, int(terminated)] += reward
    return n, r


@given(seed=st.integers(0, 1000))
def test_ends_that_are_no_function_of_the_successor_are_counted_apart(seed):
    S, A, rng = 5, 2, np.random.default_rng(seed)
    arrays = tabular_arrays(80, S, A, seed)
    ends = arrays["truncations"]
    arrays["terminations"] = ends & (rng.random(80) < 0.5)
    found = Transitions.from_arrays(**arrays).counts(S, A)
    n, r = loop_ends(arrays, S, A)
    at_terminal = n * found.terminal[:, None]
    np.testing.assert_array_equal(found.transitions.toarray(), n[..., 0] + at_terminal[..., 1])
    np.testing.assert_array_equal(found.ends.toarray(), (n - at_terminal)[..., 1])
    total = found.rewards.toarray() + found.end_rewards.toarray()
    np.testing.assert_allclose(total, r.sum(-1), atol=1e-12)
    passed = n[..., 0].any(0) | n.any((1, 2)).reshape(S, A).any(1)
    assert not (found.terminal & passed).any()


def test_a_state_that_data_leave_is_not_terminal():
    # An episode ends where it began; and one that begins in the end of the other stays there.
    for r, terminal in ((1.0, [False, False]), (0.0, [False, True])):
        o, a, o2 = np.array([[0, 0, 1], [1, 0, 0], [1, 0, 1]]).T
        rewards, terminations = np.array([1.0, 1.0, r]), np.array([True, True, True])
        data = Transitions.from_arrays(
            o[::2], a[::2], rewards[::2], o2[::2], *[terminations[:2]] * 2
        )
        np.testing.assert_array_equal(data.counts(2, 1).terminal, terminal)
    data = Transitions.from_arrays(o, a, rewards, o2, terminations, terminations)
    assert not data.counts(2, 1).terminal.any()  # 1 -> 0 pays


@pytest.mark.parametrize(
    ("spaces", "why"),
    [
        ({"observation_space": Discrete(4 * 10**9 + 1)}, "states up to 4000000000 and actions up"),
        ({"action_space": Discrete(10**12)}, "and actions up to 999999999999, which take"),
        ({"observation_space": Discrete(10**12, start=-5)}, "states up to 999999999994 and"),
    ],
)
def test_tables_that_do_not_fit_in_memory_are_refused_before_it_is_taken(spaces, why, monkeypatch):
    monkeypatch.setattr(offline.transitions, "available_memory", lambda: 2**35)
    data = Transitions.from_arrays(**tabular_arrays(), **spaces)
    with pytest.raises(InputError, match=f"{why}.*number the ids that occur"):
        data.counts()


def test_counts_refuse_other_spaces():
    with pytest.raises(InputError, match="actions must be of a space that is Discrete with at mos"):
        made("tabular").counts(6, 2)
    with pytest.raises(InputError, match="observations must be of a space that is Discrete, got"):
        made("continuous").counts()


def test_terminations_at_one_length_are_suspected():
    def limit(lengths, terminated, truncated=0):
        ends = np.zeros(sum(lengths), bool)
        ends[np.cumsum(lengths) - 1] = True
        cut = ends & (np.cumsum(ends) <= truncated)
        x, a = np.zeros(ends.size), np.zeros(ends.size, int)
        return Transitions.from_arrays(x, a, x, x, ends & ~cut, cut).suspected_limit()

    assert limit([20] * 5, True) == 20
    assert limit([3, 20, 20, 7, 20, 20, 20], True) == 20
    assert limit([20] * 4, True) is None
    assert limit([6] * 20, True) is None  # a short way to the goal
    assert limit([20] * 6, True, truncated=1) is None
    assert limit([20, 20, 20, 20, 20, 21], True) is None


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


def test_returns_are_sums_over_episodes():
    data = made("tabular", N=24)
    np.testing.assert_array_equal(data.episode_starts, [0, 7, 14, 21])
    r = data.rewards
    np.testing.assert_allclose(
        data.returns(), [r[:7].sum(), r[7:14].sum(), r[14:21].sum(), r[21:].sum()]
    )


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


def test_check_spaces_against_an_environment():
    tabular = made("tabular")
    found = tabular.check_spaces(Discrete(8), Discrete(4))  # guessed: may well be larger
    assert (found.observation_space, found.action_space) == (Discrete(8), Discrete(4))
    with pytest.raises(
        InputError, match=r"observations must be of Discrete\(9\), got data of Disc"
    ):
        found.check_spaces(Discrete(9), Discrete(4))
    with pytest.raises(InputError, match=r"actions must be in Discrete\(2\)"):
        tabular.check_spaces(Discrete(8), Discrete(2))
    with pytest.raises(InputError, match="observations must be"):
        tabular.check_spaces(Box(0.0, 1.0, (4,)), Discrete(4))
    env = gymnasium.make("CartPole-v1")
    with pytest.raises(InputError, match=r"observations must be \(N, \*shape\) with the shape \(4"):
        made("continuous").check_spaces(env.observation_space, env.action_space)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("none.npz", "data must be an existing file, got"),
        ("none.hdf5", "data must be an existing file, got"),
        ("data.csv", "data must be a Minari id .NAME-v0., the folder of"),
        ("data", "data must be a Minari id"),
    ],
)
def test_names_that_mean_nothing(tmp_path, name, why):
    with pytest.raises(InputError, match=why):
        load(tmp_path / name)


@pytest.mark.parametrize("way", ["npz", "hdf5"])
@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key(tmp_path, way, key):
    write, suffix = WRITERS[way]
    arrays = tabular_arrays()
    del arrays[key]
    write(tmp_path / f"data{suffix}", arrays)
    with pytest.raises(InputError, match=f"data{suffix}: data must have the key {key}") as refused:
        load(tmp_path / f"data{suffix}")
    assert ("or timeouts" in str(refused.value)) == (key == "truncations")


@pytest.mark.parametrize("way", list(WRITERS))
def test_a_file_cut_short_anywhere(tmp_path, way):
    write, suffix = WRITERS[way]
    write(tmp_path / f"whole{suffix}", tabular_arrays())
    content = (tmp_path / f"whole{suffix}").read_bytes()
    path = tmp_path / f"cut{suffix}"
    for length in [0, 1, 100, *range(500, len(content), len(content) // 25), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"must be a whole .* file, got a broken one") as error:
            load(path)
        assert "\n" not in str(error.value)


def test_a_flipped_bit_in_an_npz(tmp_path):
    """The zip's checksums see it, wherever it is."""
    save(tmp_path / "whole.npz", made("tabular"))
    content = bytearray((tmp_path / "whole.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "whole.npz") as archive:
        where = archive.getinfo("rewards.npy").header_offset + 700
    content[where] ^= 1
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"bad.npz: data must be a whole NPZ file, .*CRC"):
        load(tmp_path / "bad.npz")


def test_files_of_something_else(tmp_path):
    for name in ("a.npz", "a.hdf5"):
        if name == "a.hdf5":
            pytest.importorskip("h5py")
        (tmp_path / name).write_text("observations,actions\n1,2\n")
        with pytest.raises(InputError, match=f"{name}: data must be a whole"):
            load(tmp_path / name)
    arrays = tabular_arrays() | {"rewards": np.array([{}] * 200)}
    np.savez(tmp_path / "pickled.npz", **arrays)
    with pytest.raises(InputError, match="rewards must be numbers, got Python objects"):
        load(tmp_path / "pickled.npz")


def test_a_missing_package_names_its_cure(tmp_path, monkeypatch):
    (tmp_path / "data.hdf5").touch()
    for package, source in (("h5py", tmp_path / "data.hdf5"), ("minari", "any-v0")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InputError, match=r"pip install 'rlentropy\[data\]'"):
            load(source)
    np.savez(tmp_path / "data.npz", **tabular_arrays())
    assert len(load(tmp_path / "data.npz")) == 200


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="data must be on a writable disk"):
        save(tmp_path / "file" / "data.npz", made("tabular"))
    save(tmp_path / "data.npz", made("tabular"))
    before = (tmp_path / "data.npz").read_bytes()
    with pytest.raises(InputError, match="data must be a new path or Minari id"):
        save(tmp_path / "data.npz", made("continuous"))
    assert (tmp_path / "data.npz").read_bytes() == before


def test_metadata_that_json_cannot_hold(tmp_path):
    loop: list = []
    loop.append(loop)
    for value in (np.zeros(2), {1, 2}, loop):
        data = Transitions.from_arrays(**tabular_arrays(), metadata={"a": value})
        with pytest.raises(InputError, match="metadata must be what JSON can hold"):
            save(tmp_path / "data.npz", data)
        assert not list(tmp_path.iterdir())


def test_an_unpacking_disk_that_is_full(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "data.npz", **tabular_arrays())

    def full():
        return open("/dev/full", "wb")

    monkeypatch.setattr(on_disk.tempfile, "TemporaryFile", full)
    with pytest.raises(OutputError, match="TMPDIR"):
        load(tmp_path / "data.npz")


# ---------------------------------------------------------------- spaces


@pytest.mark.parametrize(
    "space",
    [
        Discrete(4),
        Discrete(4, start=-2),
        Box(-np.inf, np.inf, (3,)),
        Box(np.array([-1.0, 0.1]), np.array([1.0, np.inf])),
        Box(0, 255, (2, 3), np.uint8),
        Box(-2.5, 0.3, (), np.float64),
        MultiDiscrete([2, 3]),
        MultiDiscrete([2, 3], start=[1, -1]),
        MultiBinary(5),
        MultiBinary([2, 3]),
    ],
)
def test_spaces_survive_json(space):
    assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space


def test_spaces_that_no_array_holds():
    with pytest.raises(InputError, match="spaces must be Box, Discrete, MultiDiscrete or Multi"):
        space_to_json(Dict({"a": Discrete(2)}))
    for content in ({"type": "Dict"}, {"type": "Discrete", "n": 0, "start": 0}, {"n": 3}, 7):
        with pytest.raises(InputError, match="metadata must describe a space"):
            space_from_json(content)


# ---------------------------------------------------------------- episodes and Minari


class Episode:
    def __init__(self, x, a, r, terminations, truncations):
        self.observations, self.actions, self.rewards = x, a, r
        self.terminations, self.truncations = terminations, truncations


def test_episodes_become_transitions():
    first = Episode([0, 1, 2], [1, 0], [0.5, 1.0], [False, True], [False, False])
    second = Episode([2, 0], [1], [2.0], [False], [True])
    data = Transitions.from_episodes([first, second], action_space=Discrete(2))
    np.testing.assert_array_equal(data.observations, [0, 1, 2])
    np.testing.assert_array_equal(data.next_observations, [1, 2, 0])
    np.testing.assert_array_equal(data.terminations, [False, True, False])
    np.testing.assert_array_equal(data.truncations, [False, False, True])
    np.testing.assert_array_equal(data.returns(), [1.5, 2.0])


@pytest.mark.parametrize(
    ("episodes", "why"),
    [
        ([], "data must hold at least one transition"),
        ([Episode([0, 1], [1, 0], [0, 0], [0, 1], [0, 0])], r"episode 0 must hold T \+ 1 obs"),
        ([Episode([0, 1], [1], [0], [0], [0])], "got neither in episode 0"),
        ([Episode({"x": [0, 1]}, [1], [0], [1], [0])], "episode 0 must hold arrays, got a dict"),
        ([Episode([0, 1], None, [0], [1], [0])], "episode 0 must hold arrays, got"),
        ([Episode([0, 1], [1], 0.0, [1], [0])], r"got \[2, 1, 0, 1, 1\]"),
        ([Episode([[0], [1, 2]], [1], [0], [1], [0])], "observations must be an array of numbers"),
        ([Episode([0, 1], [None], [0], [1], [0])], "episode 0 must hold real numbers, got object"),
        ([Episode([0, 1], ["left"], [0], [1], [0])], "must hold real numbers, got <U4"),
        (
            [
                Episode([0, 1], [1], [0], [1], [0]),
                Episode([0.5, 1.0], [1], [0], [1], [0]),
            ],
            "observations must have one shape and type in all episodes",
        ),
    ],
)
def test_episodes_that_are_refused(episodes, why):
    with pytest.raises(InputError, match=why):
        Transitions.from_episodes(episodes)


def test_episodes_may_differ_where_nothing_is_lost():
    first = Episode([0, 1], [1], [0.5], [False], [True])
    empty = Episode([3], [], [], [], [])
    narrow = Episode(np.array([1, 2], np.int32), np.array([0], np.uint8), [1], [1], [0])
    data = Transitions.from_episodes([first, empty, narrow])
    np.testing.assert_array_equal(data.observations, [0, 1])
    np.testing.assert_array_equal(data.rewards, [0.5, 1.0])
    assert data.observations.dtype == np.int64


@pytest.fixture
def minari(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return minari


@pytest.mark.parametrize("kind", list(MAKERS))
def test_minari_returns_what_was_saved(minari, tmp_path, kind):
    spaces = dict(zip(("observation_space", "action_space"), SPACES[kind], strict=True))
    data = Transitions.from_arrays(**MAKERS[kind](), **spaces, metadata={"a": [1]})
    save("lab/test-v0", data)
    assert list(minari.list_local_datasets()) == ["lab/test-v0"]
    theirs = minari.load_dataset("lab/test-v0")
    assert (theirs.total_episodes, theirs.total_steps) == (len(data.returns()), len(data))
    for source in ("lab/test-v0", tmp_path / "minari/lab/test-v0"):
        found = load(source)
        same(found, data)
        assert (found.observation_space, found.action_space) == SPACES[kind]
        assert found.metadata == {"a": [1]}
    assert len(load(tmp_path / "minari/lab/test-v0/data")) == len(data)
    with pytest.raises(InputError, match="which exists"):
        save("lab/test-v0", data)
    assert os.environ["MINARI_DATASETS_PATH"] == str(tmp_path / "minari")


def test_minari_keeps_the_environment(minari):
    env = gymnasium.make("FrozenLake-v1", is_slippery=False)
    arrays = tabular_arrays(20, 16, 4)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    save("lake-v1", Transitions.from_arrays(**arrays, **spaces), env)
    recovered = minari.load_dataset("lake-v1").recover_environment()
    assert recovered.spec.id == "FrozenLake-v1"
    assert recovered.spec.kwargs["is_slippery"] is False


def test_minari_data_that_are_missing_or_broken(minari, tmp_path):
    with pytest.raises(InputError, match="data must be on this machine"):
        load("lab/none-v3")
    save("test-v0", made("tabular"))
    file = tmp_path / "minari/test-v0/data/main_data.hdf5"
    content = file.read_bytes()
    for length in (0, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(InputError, match="data must be a whole Minari dataset"):
            load("test-v0")
    (tmp_path / "minari/test-v0/data/metadata.json").write_text("{")
    with pytest.raises(InputError, match="data must be a whole Minari dataset"):
        load("test-v0")


def test_a_minari_folder_is_not_written_to(tmp_path):
    with pytest.raises(InputError, match="data must be a Minari id to be written to"):
        save(tmp_path, made("tabular"))
