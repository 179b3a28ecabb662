"""Checkpoints: nested states that come back to the bit, and files that are refused."""

import json

import numpy as np
import pytest

from rlentropy.cli import main
from rlentropy.errors import InputError
from rlentropy.log import CHECKPOINT, Log, owner_of
from rlentropy.log.checkpoints import BIT_GENERATORS


def saved(folder, **state):
    """A checkpoint after one scalar."""
    log = Log(folder)
    log.owner = {"command": "entgame", "seed": 3}
    log.scalar("eval/x", 1.0, 1)
    log.checkpoint({"n": 1, "x": np.arange(4.0)} | state)
    log.close()


def test_state_comes_back_to_the_bit(tmp_path, rng):
    generator = np.random.default_rng(5)
    generator.random(3)
    state = {
        "counts": rng.integers(0, 9, (3, 2)),
        "values": rng.standard_normal((2, 2)),
        "single": rng.random(4).astype(np.float32),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3)),
        "rng": generator.bit_generator.state,
        "episodes": 12,
        "best": [0.1, 1e-300],
        "nothing": None,
    }
    log = Log(tmp_path)
    log.checkpoint(state)
    log.close()
    found = Log(tmp_path).restore()
    assert found is not None
    assert set(found) == set(state)
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value)
        else:
            assert found[name] == value
    again = np.random.default_rng(0)
    again.bit_generator.state = found["rng"]
    assert again.random() == generator.random()


def test_nested_states_come_back_to_the_bit(tmp_path, rng):
    state = {
        "network": {"flat": rng.normal(size=3), "adam": {"steps": 7, "mean": rng.normal(size=3)}},
        "rounds": [{"pairs": np.arange(4), "label": 0.5}, {"pairs": np.arange(0), "label": None}],
        "deep": [[[np.float32(0.1), np.int64(-3), np.bool_(True)]], {}, []],
        "text": "Δ /$",
        "extremes": [1e-320, -0.0, float("inf"), 2**200],
    }
    saved(tmp_path, **state)
    found = Log(tmp_path).restore()
    assert found["network"]["flat"].tobytes() == state["network"]["flat"].tobytes()
    assert found["network"]["adam"]["mean"].tobytes() == state["network"]["adam"]["mean"].tobytes()
    assert found["network"]["adam"]["steps"] == 7
    assert found["rounds"][0]["pairs"].dtype == np.int64
    assert [(part["pairs"].tolist(), part["label"]) for part in found["rounds"]] == [
        ([0, 1, 2, 3], 0.5),
        ([], None),
    ]
    assert found["deep"] == [[[float(np.float32(0.1)), -3, True]], {}, []]
    assert found["text"] == "Δ /$"
    assert [str(x) for x in found["extremes"]] == [str(x) for x in state["extremes"]]


@pytest.mark.parametrize("name", BIT_GENERATORS)
def test_generators_come_back_as_they_were(tmp_path, name):
    generator = np.random.Generator(getattr(np.random, name)(5))
    generator.integers(9, size=3, dtype=np.uint32)  # half of a number may be left over
    saved(tmp_path, agent={"rng": generator, "others": [generator]})
    expected = [generator.random(4), generator.integers(9, size=5, dtype=np.uint32)]
    found = Log(tmp_path).restore()["agent"]
    for again in (found["rng"], *found["others"]):
        assert isinstance(again, np.random.Generator)
        np.testing.assert_array_equal(again.random(4), expected[0])
        np.testing.assert_array_equal(again.integers(9, size=5, dtype=np.uint32), expected[1])


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"x": {1: 2}}, "keys of a state must be text .*, got 1"),
        ({"a/b": 1}, "keys of a state must be text .*, got 'a/b'"),
        ({"x": [{"$array": "y"}]}, "keys of a state must be text .*, got '.array'"),
        ({"x": {"y": [object()]}}, "state/x/y/0 must be of a kind .*, got object"),
        ({"x": np.array([None])}, "state/x must be of a kind .*, got ndarray"),
    ],
)
def test_states_that_no_checkpoint_holds(tmp_path, state, said):
    saved(tmp_path)
    with pytest.raises(TypeError, match=said):
        Log(tmp_path).checkpoint(state)
    assert Log(tmp_path).restore()["n"] == 1


def other_format(folder, version):
    """The checkpoint as another version would have written it, with its checksum."""
    from rlentropy.files import sum_of

    with np.load(folder / CHECKPOINT) as file:
        arrays = dict(file)
    header = json.loads(str(arrays.pop("json")))
    del header["_sum"], header["_format"]
    header.pop("_elsewhere", None)
    if version == 1:  # a flat state
        header |= header.pop("state")
        arrays = {name.removeprefix("state/"): array for name, array in arrays.items()}
        header.pop("x", None)
    else:
        header["_format"] = version
    text = json.dumps(header | {"_sum": sum_of(arrays | header)})
    np.savez(folder / CHECKPOINT, json=np.array(text), **arrays)


@pytest.mark.parametrize("version", [1, 3])
def test_another_versions_format_is_refused_in_a_line(tmp_path, version):
    saved(tmp_path)
    other_format(tmp_path, version)
    said = rf"must be of checkpoint format 2, got format {version}: .* or pass --overwrite"
    with pytest.raises(InputError, match=said) as refusal:
        Log(tmp_path).restore()
    assert "\n" not in str(refusal.value)
    assert owner_of(tmp_path) == {"command": "entgame", "seed": 3}


def test_a_run_of_another_format_is_left_as_it_was(tmp_path, capsys):
    command = ["random-policy", "--env-id", "rlentropy/DoubleChain-v0", "--horizon", "4"]
    command += ["--out", str(tmp_path / "run"), "--quiet", "--episodes"]
    assert main([*command, "5"]) == 0
    other_format(tmp_path / "run", 1)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert main([*command, "9", "--resume"]) == 2
    assert "got format 1: finish the run with the version" in capsys.readouterr().err
    after = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert before == after
    assert main([*command, "5", "--resume"]) == 0  # it is finished
    assert main([*command, "9", "--overwrite"]) == 0


def rewritten(folder, **changes):
    """The checkpoint as a whole archive with other arrays in it; None leaves one out."""
    with np.load(folder / CHECKPOINT) as file:
        arrays = dict(file) | changes
    np.savez(folder / CHECKPOINT, **{k: v for k, v in arrays.items() if v is not None})


@pytest.mark.parametrize(
    "changes",
    [
        {"state/x": np.arange(4.0) + 1e-9},
        {"state/x": np.arange(4.0).reshape(2, 2)},
        {"state/x": np.arange(4)},
        {"state/x": None},
        {"y": np.zeros(2)},
        {"json": None},
        {"json": np.array("{}")},
        {"json": np.array("[" * 50_000)},
        {"json": np.array('{"_sum": 0}')},
    ],
)
def test_a_checkpoint_has_a_checksum_of_its_own(tmp_path, changes):
    saved(tmp_path)
    rewritten(tmp_path, **changes)
    with pytest.raises(InputError, match=r"readable state\.npz, got .*put it back from a copy"):
        Log(tmp_path).restore()


def test_a_checkpoint_damaged_in_a_bit_is_refused_or_the_same(tmp_path, rng):
    saved(tmp_path)
    content = (tmp_path / CHECKPOINT).read_bytes()
    for k in rng.choice(8 * len(content), 300, replace=False).tolist():
        damaged = bytearray(content)
        damaged[k // 8] ^= 1 << k % 8
        (tmp_path / CHECKPOINT).write_bytes(damaged)
        try:
            state = Log(tmp_path).restore()
        except InputError:
            continue
        assert state["n"] == 1
        np.testing.assert_array_equal(state["x"], np.arange(4.0))


def test_a_checkpoint_says_whose_it_is_and_what_it_lacks(tmp_path):
    assert owner_of(tmp_path) is None
    saved(tmp_path)
    assert owner_of(tmp_path) == {"command": "entgame", "seed": 3}
    state = Log(tmp_path).restore()
    assert "nothing" not in state
    with pytest.raises(InputError, match=r"state\.npz must hold nothing, got a checkpoint without"):
        state["nothing"]
