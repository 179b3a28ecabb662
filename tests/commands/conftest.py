"""Fixtures of commands."""

import shutil
from pathlib import Path

import pytest

from rlentropy.commands import compare


@pytest.fixture
def worlds(tmp_path, monkeypatch):
    """A folder with the module sweep_worlds, which is the present one."""
    shutil.copy(Path(__file__).parents[1] / "examples" / "sweep_worlds.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def undrawn(monkeypatch):
    """`compare` without its pictures, which take most of its time."""
    for name in ("task_pictures", "across_pictures"):
        monkeypatch.setattr(compare, name, lambda *args: iter(()))
