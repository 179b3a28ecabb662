"""Compiled code where its cache can't be written, is damaged, or is shared by two processes."""

import math
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import rlentropy.envs

PACKAGE, ENVS = Path(rlentropy.__file__).parent, Path(rlentropy.envs.__file__).parent
SCRIPT = """
import numba
import numpy as np
from rlentropy.kernels import arithmetic
from rlentropy.kernels.cache import called_from_python, compilation
log_all = called_from_python(arithmetic.log_all)
values = np.array([3.0])
with compilation() as spent:
    log_all(values)
hits = sum(log_all.stats.cache_hits.values())
assert (spent.seconds == 0.0) == bool(hits)
print(numba.config.CACHE_DIR or "usual", values[0], hits)
"""


def start(folder, **variables):
    """Use a small kernel in a process of its own, with nothing of this one's surroundings."""
    usual = {"PYTHONPATH": str(folder), "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"}
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env=kept | usual | variables, cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def told(process):
    """Where the cache is, and how often it was hit."""
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    place, value, hits = out.split()
    assert float(value) == pytest.approx(math.log(3.0), rel=1e-12)
    return place, int(hits)


@pytest.fixture
def blocked(tmp_path):
    """A copy of the package in which no __pycache__ can be made."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "rlentropy", ignore=ignore)
    shutil.copytree(ENVS, tmp_path / "rlentropy" / "envs", ignore=ignore, dirs_exist_ok=True)
    for folder in [p for p in (tmp_path / "rlentropy").rglob("*") if p.is_dir()]:
        (folder / "__pycache__").touch()
    (tmp_path / "rlentropy" / "__pycache__").touch()
    return tmp_path


@pytest.mark.skipif(os.name != "posix", reason="needs owners of files")
def test_without_a_place_for_a_cache(blocked):
    (blocked / "tmp").mkdir()
    private = blocked / "tmp" / f"rlentropy-{os.getuid()}"
    assert told(start(blocked, TMPDIR=str(blocked / "tmp"))) == (str(private), 0)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert told(start(blocked, TMPDIR=str(blocked / "tmp"))) == (str(private), 1)
    private.chmod(0o777)  # others may have put code there
    assert told(start(blocked, TMPDIR=str(blocked / "tmp"))) == ("usual", 0)


@pytest.mark.skipif(os.name != "posix", reason="needs owners of files")
def test_a_link_for_a_folder_is_not_followed(blocked):
    (blocked / "tmp").mkdir()
    (blocked / "elsewhere").mkdir(mode=0o700)
    (blocked / "tmp" / f"rlentropy-{os.getuid()}").symlink_to(blocked / "elsewhere")
    assert told(start(blocked, TMPDIR=str(blocked / "tmp"))) == ("usual", 0)
    assert not list((blocked / "elsewhere").iterdir())


def test_a_damaged_cache_is_made_anew_and_two_processes_share_one(tmp_path):
    path = [str(PACKAGE.parent), str(ENVS.parent)]
    usual = {"PYTHONPATH": os.pathsep.join(path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    together = [start(tmp_path, **usual) for _ in range(2)]
    ends = [told(process) for process in together]
    assert {place for place, _ in ends} == {str(tmp_path / "cache")}
    assert sorted(hits for _, hits in ends) == [0, 1]  # one compiled, the other waited
    assert told(start(tmp_path, **usual))[1] == 1
    for suffix in ("nbi", "nbc"):
        for content in (b"", b"\x80\x05garbage", os.urandom(90)):
            found = list((tmp_path / "cache").rglob(f"*log_all-*.{suffix}"))
            assert found
            for file in found:
                file.write_bytes(content)
        assert told(start(tmp_path, **usual))[1] == 0
        assert told(start(tmp_path, **usual))[1] == 1


def test_a_cache_that_is_gone_while_the_process_runs(tmp_path, monkeypatch):
    from rlentropy.kernels.cache import compiled

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")  # else it lies not beside the source
    (tmp_path / "module.py").write_text("def twice(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    from module import twice

    function = compiled(twice)
    shutil.rmtree(tmp_path / "__pycache__")
    (tmp_path / "__pycache__").touch()
    assert function(3) == 6
    assert function(1.5) == 3.0


LOOPS = """
from functools import cache
from rlentropy.kernels.cache import compiled, inner

@cache
def loop_of(step):
    @compiled
    def loop(n):
        total = 0.0
        for _ in range(n):
            total = step(total)
        return total

    return loop

@inner
def by_one(x):
    return x + 1.0

@inner
def by_two(x):
    return x + 2.0

one, two = loop_of(by_one), loop_of(by_two)
print(one(3), two(3), sum(one.stats.cache_hits.values()), sum(two.stats.cache_hits.values()))
"""


def outcome(folder, **variables):
    """What loops.py prints in a process of its own."""
    usual = {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), str(ENVS.parent)])}
    done = subprocess.run(
        [sys.executable, "loops.py"], env=os.environ | usual | variables, cwd=folder, text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_loops_are_cached_by_what_they_call_and_by_its_source(tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    (tmp_path / "loops.py").write_text(LOOPS)
    assert outcome(tmp_path, **cache) == ["3.0", "6.0", "0", "0"]
    assert outcome(tmp_path, **cache) == ["3.0", "6.0", "1", "1"]
    (tmp_path / "loops.py").write_text(LOOPS.replace("x + 2.0", "x + 5.0"))
    assert outcome(tmp_path, **cache) == ["3.0", "15.0", "0", "0"]


def test_an_edited_callee_in_another_file_is_noticed(blocked):
    """numba alone goes on with the old code: the file of the caller hasn't changed."""
    room = blocked / "rlentropy" / "kernels" / "arithmetic.py"
    cache = {"NUMBA_CACHE_DIR": str(blocked / "cache"), "PYTHONPATH": str(blocked)}
    script = "import numpy as np\nfrom rlentropy.kernels.rows import state_values\n"
    script += "from rlentropy.kernels.cache import called_from_python\nV = np.zeros(1)\n"
    script += "called_from_python(state_values)(np.ones((1, 1)), 1.0, 9.0, V, np.empty((1, 2)))\n"
    (blocked / "loops.py").write_text(script + "print(V[0])\n")
    assert outcome(blocked, **cache) == ["1.0"]
    text = room.read_text()
    assert "tail = 2.0 * t * u * y\n" in text
    room.write_text(text.replace("tail = 2.0 * t * u * y\n", "tail = 2.0 * t * u * y + 1.0\n"))
    assert outcome(blocked, **cache) == ["2.0"]
