"""Shared fixtures; hypothesis repeats itself in CI, and torch, once loaded, gets one core."""

import os
import shutil
import sys
from pathlib import Path

import gymnasium
import hypothesis
import numpy as np
import pytest

from rlentropy import cli

hypothesis.settings.register_profile("default", deadline=None, max_examples=15)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=15, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20230808)


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A folder with the module qa_outside, from which the command line is used."""
    folder = tmp_path_factory.mktemp("outside")
    shutil.copy(Path(__file__).with_name("examples") / "qa_outside.py", folder)
    yield folder
    sys.modules.pop("qa_outside", None)
    for env_id in [e for e in gymnasium.registry if e.startswith("QA/")]:
        del gymnasium.registry[env_id]


@pytest.fixture
def command_line(capfd, monkeypatch, outside, tmp_path):
    """Run the command line in this process, in a folder of its own; (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(outside)])

    def run(*arguments):
        capfd.readouterr()
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as end:
            code = end.code
        return (code, *capfd.readouterr())

    return run
