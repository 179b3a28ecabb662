"""Files of ours: one writer, whole or refused, and names that stay where they are."""

import csv
import errno
import io
import json
import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlentropy import files
from rlentropy.errors import InputError
from rlentropy.files import (
    csv_table,
    file_names,
    locked,
    pack,
    plain,
    read_arrays,
    read_json,
    read_tensors,
)

# ---------------------------------------------------------------- one process a place


HOLD = """
import sys, time
from pathlib import Path
from rlentropy.files import locked
with locked(Path(sys.argv[1]), "out", Path("place")):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(file):
    command = [sys.executable, "-c", HOLD, str(file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_refused_and_named_until_it_dies(tmp_path):
    file = tmp_path / "new" / "lock"
    other = holder(file)
    message = rf"out must not be in use, got place, where process {other.pid} writes"
    for _ in range(2):
        with pytest.raises(InputError, match=message), locked(file, "out", "place"):
            pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert file.exists()
    with locked(file, "out", "place"):
        assert file.read_text() == str(os.getpid())
    assert not file.exists()


def test_an_orderly_end_leaves_nothing(tmp_path):
    other = holder(tmp_path / "new" / "lock")
    other.communicate("")
    assert not list(tmp_path.iterdir())


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """Its holder ended between our opening and our locking it."""
    file, real, calls = tmp_path / "lock", files._lock, []

    def late(descriptor):
        if not calls:
            file.unlink()
        calls.append(1)
        real(descriptor)

    monkeypatch.setattr(files, "_lock", late)
    with locked(file, "out", tmp_path):
        assert file.exists()
        assert len(calls) == 2
        with pytest.raises(InputError, match="in use"), locked(file, "out", tmp_path):
            pass


def test_a_disk_without_locks_runs_with_a_note(tmp_path, monkeypatch, capsys):
    def none(descriptor):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "_lock", none)
    with locked(tmp_path / "lock", "out", tmp_path):
        pass
    assert "can't be locked (No locks available)" in capsys.readouterr().err


def test_folders_of_a_lock_go_with_it_unless_something_is_there(tmp_path):
    (tmp_path / "old").mkdir()
    with locked(tmp_path / "old" / "a" / "b" / "lock", "out", tmp_path):
        assert (tmp_path / "old" / "a" / "b").is_dir()
    assert list(tmp_path.rglob("*")) == [tmp_path / "old"]
    with locked(tmp_path / "old" / "a" / "b" / "lock", "out", tmp_path):
        (tmp_path / "old" / "a" / "kept").write_text("")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "kept", "old"]


@pytest.mark.parametrize("name", ["file/below/lock", "x" * 300 + "/lock", "/proc/none/lock"])
def test_where_nothing_can_be_written_nothing_is_locked(tmp_path, name):
    (tmp_path / "file").write_text("")
    with locked(tmp_path / name, "out", tmp_path):
        pass


# ---------------------------------------------------------------- damage


def flips(content, number):
    rng = np.random.default_rng(5)
    for k in rng.choice(8 * len(content), number, replace=False).tolist():
        damaged = bytearray(content)
        damaged[k // 8] ^= 1 << k % 8
        yield bytes(damaged)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_flipped_bit_is_refused_or_does_no_harm(tmp_path, rng, compressed):
    arrays = {"x": rng.random((3, 2)), "n": np.arange(5), "text": np.array("{}"), "no": np.ones(0)}
    content, path = pack(arrays, compressed), tmp_path / "x.npz"
    refused = 0
    for damaged in (content, *flips(content, 400)):
        path.write_bytes(damaged)
        try:
            found = read_arrays(path)
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
            continue
        if set(found) == set(arrays):  # else a name was hit, which whoever asks for it will miss
            assert all(np.array_equal(found[k], arrays[k]) for k in arrays)
    assert 100 < refused


def test_a_flipped_bit_changes_no_weight(tmp_path):
    torch = pytest.importorskip("torch")
    saved = {"w": torch.arange(12.0).reshape(3, 4), "sizes": [3, 4], "name": "tanh", "on": True}
    path = tmp_path / "policy.pt"
    torch.save(saved, path)
    refused = 0
    for damaged in (path.read_bytes(), *flips(path.read_bytes(), 200)):
        path.write_bytes(damaged)
        try:
            found = read_tensors(path)
        except InputError:
            refused += 1
            continue
        assert torch.equal(found["w"], saved["w"])
        assert (found["sizes"], found["name"], found["on"]) == ([3, 4], "tanh", True)
    assert 50 < refused < 201


@pytest.mark.parametrize("bad", ["nan", "inf", "long", "object", "list", "number", "code", "none"])
def test_what_is_no_policy_of_tensors(tmp_path, bad):
    torch = pytest.importorskip("torch")
    content = {
        "nan": {"w": torch.tensor([1.0, np.nan])},
        "inf": {"w": [torch.tensor([np.inf])]},
        "long": {"w": torch.zeros(1).expand(10**13)},
        "object": {"w": {"deep": 1}},
        "list": [torch.zeros(2)],
        "number": {1: torch.zeros(2)},
        "code": {"w": read_json},
        "none": None,
    }[bad]
    torch.save(content, tmp_path / "policy.pt")
    with pytest.raises(InputError, match=r"run must hold a readable policy\.pt, got "):
        read_tensors(tmp_path / "policy.pt")


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name + ".npy", content)


def test_sizes_are_looked_at_before_anything_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    zipped(path, pi=bytes(2**20))
    assert path.stat().st_size < 5000
    monkeypatch.setattr(files, "LARGEST", 2**19)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(InputError, match=r"unpacks to 0\.000977 GiB, more than"):
        read_arrays(path)


def header(shape, dtype="<f8"):
    text = io.BytesIO()
    described = {"shape": shape, "fortran_order": False, "descr": dtype}
    np.lib.format.write_array_header_1_0(text, described)
    return text.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        header((2**60,)),  # as long as no memory
        header((2**32, 2**32)),  # whose product overflows
        header((-1,)),
        header((2,)) + bytes(17),
        header((2,)) + bytes(15),
        header((1,), "|O") + bytes(8),
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 60000,
        b"no array",
        b"",
    ],
)
def test_arrays_that_lie_about_themselves(tmp_path, content):
    zipped(tmp_path / "x.npz", x=content)
    with pytest.raises(InputError, match=r"run must hold a readable x\.npz, got .*x\.npz: "):
        read_arrays(tmp_path / "x.npz")


def test_members_that_come_twice_or_are_missing(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("pi.npy", header((0,)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("pi.npy", header((0,)))
    with pytest.raises(InputError, match="comes twice"):
        read_arrays(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", a=np.zeros(2))
    with pytest.raises(InputError, match="it has no pi"):
        read_arrays(tmp_path / "y.npz", ("pi",))
    with pytest.raises(InputError, match="it has no pi"):
        read_arrays(tmp_path / "y.npz", ("pi", "b"), ("b",))
    assert list(read_arrays(tmp_path / "y.npz", ("a", "b"), ("b",))) == ["a"]


def test_fortran_order_and_strings_are_read_as_numpy_does(tmp_path, rng):
    arrays = {
        "f": np.asfortranarray(rng.random((3, 4))),
        "s": np.array(["a", "bc"]),
        "e": np.ones(0),
    }
    np.savez(tmp_path / "x.npz", **arrays)
    found = read_arrays(tmp_path / "x.npz")
    assert all(np.array_equal(found[k], v) and found[k].dtype == v.dtype for k, v in arrays.items())
    found["f"][0, 0] = 1.0  # writable


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"[]", b"{", b"\xff", b"{'a': 1}", b"1" * 5000]
)
def test_json_that_is_no_object(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=r"run must hold a readable x\.json, got .*x\.json: "):
        read_json(tmp_path / "x.json")


def test_json_that_is_no_file(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none")


# ---------------------------------------------------------------- names and cells


@given(st.lists(st.text(), unique=True, max_size=6))
@example(["x y", "x-y", "x/y", "X-Y", "", "..", "../..", "/", "a" * 500, "a" * 501, ".", "\0"])
@example(["a", "a-2", "A", "a-3"])
def test_file_names_are_different_and_lead_nowhere(names):
    found = file_names(names)
    assert list(found) == names
    assert len({file.casefold() for file in found.values()}) == len(names)
    for file in found.values():
        assert file not in ("", ".", "..")
        assert not set(file) & set('/\\:*?"<>|\0\n')
        assert not file.startswith((".", "-"))
        assert len(file.encode()) < 255


@given(st.text(), st.integers(5, 50))
@example("\x1b[2J\x9b\u202e\ud800\n\t", 20)
def test_plain_text_is_short_and_printable(text, most):
    found = plain(text, most)
    assert found.isprintable()
    assert len(found) == min(len(text), most)
    found.encode()


def test_cells_are_no_formulas():
    texts = ["=cmd|'/c calc'!A0", "+1", "-1", "@x", "\tx", "fine", "a=b", "two\nlines", 'quo"te']
    rows = [{"label": text, "value": -1.5, "n": np.int64(-2)} for text in texts]
    found = list(csv.DictReader(io.StringIO(csv_table(rows).decode())))
    assert [row["label"] for row in found][:6] == [f"'{t}" for t in texts[:5]] + ["fine"]
    assert [row["label"] for row in found][6:] == texts[6:]
    assert {(row["value"], row["n"]) for row in found} == {("-1.5", "-2")}
    json.dumps(found)
