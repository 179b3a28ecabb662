"""Fixtures of commands."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def worlds(tmp_path, monkeypatch):
    """A folder with the module sweep_worlds, which is the present one."""
    shutil.copy(Path(__file__).parents[1] / "examples" / "sweep_worlds.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
