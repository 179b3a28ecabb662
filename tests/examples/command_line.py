"""The command line in a process of its own, and what it writes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
CHAIN = "rlentropy/DoubleChain-v0"
SMALL = ("--env-id", CHAIN, "--env-kwargs", '{"num_states": 7}', "--horizon", "5")


def process(*arguments, cwd, python=()):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, *python, str(ROOT / "train.py"), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def check_refusal(code, err, *said):
    assert code == 2, err
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    for pattern in said:
        assert re.search(pattern, err), (pattern, err)


def load(folder):
    with np.load(Path(folder) / "policy.npz") as file:
        return {name: file[name] for name in file.files}


def read_json(path):
    return json.loads(Path(path).read_text())
