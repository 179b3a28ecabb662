"""Compiled code where its cache can't be written, is damaged, or is shared by two processes."""

import math
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import rlentropy.envs

PACKAGE, ENVS = Path(rlentropy.__file__).parent, Path(rlentropy.envs.__file__).parent
SCRIPT = """
import numba
from rlentropy.kernels.arithmetic import _exp
value = _exp(1.0)
print(numba.config.CACHE_DIR or "usual", value, sum(_exp.stats.cache_hits.values()))
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
    assert float(value) == pytest.approx(math.e, rel=1e-12)
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
    assert {told(process)[0] for process in together} == {str(tmp_path / "cache")}
    assert told(start(tmp_path, **usual))[1] == 1
    for suffix in ("nbi", "nbc"):
        for content in (b"", b"\x80\x05garbage", os.urandom(90)):
            found = list((tmp_path / "cache").rglob(f"*_exp-*.{suffix}"))
            assert found
            for file in found:
                file.write_bytes(content)
        assert told(start(tmp_path, **usual))[1] == 0
        assert told(start(tmp_path, **usual))[1] == 1


def test_a_cache_that_is_gone_while_the_process_runs(tmp_path, monkeypatch):
    from rlentropy.kernels.cache import compiled

    (tmp_path / "module.py").write_text("def twice(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    from module import twice

    function = compiled(twice)
    shutil.rmtree(tmp_path / "__pycache__")
    (tmp_path / "__pycache__").touch()
    assert function(3) == 6
    assert function(1.5) == 3.0
