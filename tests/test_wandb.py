"""The recipe of docs/python.md for Weights & Biases, where that is installed; nothing is sent."""

import re
from pathlib import Path

import pytest

from rlentropy import cli

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def test_the_recipe_runs_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (recipe,) = re.findall(r"^```python\n(# to_wandb.*?)^```", PAGE.read_text(), re.DOTALL | re.M)
    names = {}
    exec(recipe, names)
    run = ["random-policy", "--env-id", "FrozenLake-v1", "--horizon", "5", "--episodes", "20"]
    assert cli.main([*run, "--quiet", "--out", "runs/other"]) == 0
    names["upload"]("runs/other")
    kept = [path.read_bytes() for path in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))]
    assert len(kept) == 2
    assert all(b"eval/" in content for content in kept)
