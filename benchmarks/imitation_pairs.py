# ruff: noqa: E402
"""Labelled pairs of ours, taken by imitation 1.0.1: its dataset, its reward network, its trainer.

python benchmarks/imitation_pairs.py [--imitation PYTHON] [--labels N] [--env-id ID] [--out CSV]

A campaign buys labels by return, `campaign --export pairs.npz` writes them, and the Python that has
imitation (an environment of its own, `pip install imitation==1.0.1 "setuptools<81"`, made in a
temporary folder where none is named: its release needs an older gymnasium than ours does) makes
fragments of them, pushes them into its `PreferenceDataset` and fits its `BasicRewardNet` with
`BasicRewardTrainer` and the cross-entropy of its preference model. Printed is one JSON object: the
accuracy of the fitted reward on a held-out fifth of the labels, and on those it saw, without ties.
Imitation compares fragments of equal length only; pairs of others are counted and left out.

The part behind PEER runs in that Python and imports nothing of ours.
"""

import os

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # read when numpy and torch are imported

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

PEER = "imitation-of"  # first argument of the other Python
PACKAGES = ("imitation==1.0.1", "setuptools<81")
EPOCHS, BATCH, HELD_OUT = 60, 32, 0.2
SEED = 0


# ---------------------------------------------------------------- with imitation


def fragments(arrays: dict[str, Any]) -> list[Any]:
    """Imitation's trajectories, a pair after the other."""
    from imitation.data.types import Trajectory

    found, at, done = [], 0, 0
    for length, terminal in zip(
        arrays["lengths"].tolist(), arrays["terminal"].tolist(), strict=True
    ):
        obs, acts = arrays["obs"][at : at + length + 1], arrays["acts"][done : done + length]
        found.append(Trajectory(obs=obs, acts=acts, infos=None, terminal=terminal))
        at, done = at + length + 1, done + length
    return found


def peer(path: Path, env_id: str, env_kwargs: str) -> dict[str, Any]:
    """Fit imitation's reward network to the pairs of a file."""
    import gymnasium
    import imitation
    import torch
    from imitation.algorithms import preference_comparisons as pc
    from imitation.rewards.reward_nets import BasicRewardNet

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    env = gymnasium.make(env_id, **json.loads(env_kwargs))
    every, y = fragments(arrays), arrays["preferences"]
    pairs = list(zip(every[::2], every[1::2], strict=True))
    equal = [len(one) == len(other) for one, other in pairs]  # its model subtracts step by step
    pairs, y = [pair for pair, fits in zip(pairs, equal, strict=True) if fits], y[equal]
    cut = int(len(pairs) * (1.0 - HELD_OUT))
    data = pc.PreferenceDataset()
    data.push(pairs[:cut], y[:cut])
    net = BasicRewardNet(env.observation_space, env.action_space)
    model = pc.PreferenceModel(net)
    trainer = pc.BasicRewardTrainer(
        model,
        pc.CrossEntropyRewardLoss(),
        rng=np.random.default_rng(SEED),
        batch_size=BATCH,
        epochs=EPOCHS,
        lr=1e-3,
    )
    before = accuracy(model, pairs[cut:], y[cut:])
    trainer.train(data)
    return {
        "pairs": len(equal),
        "of_equal_length": len(pairs),
        "steps": len(arrays["acts"]),
        "ties": float((y == 0.5).mean()),
        "accuracy_before": before,
        "accuracy_seen": accuracy(model, pairs[:cut], y[:cut]),
        "accuracy": accuracy(model, pairs[cut:], y[cut:]),
        "held_out": int((y[cut:] != 0.5).sum()),
        "imitation": imitation.__version__,
        "gymnasium": gymnasium.__version__,
    }


def accuracy(model: Any, pairs: Any, y: Any) -> float:
    """Share of the answers, ties left out, that the preference model finds likelier."""
    import torch

    with torch.no_grad():
        p = model(pairs)[0].numpy()
    decided = y != 0.5
    return float(((p > 0.5) == (y > 0.5))[decided].mean())


# ---------------------------------------------------------------- with ours


def environment(folder: Path) -> Path:
    """A virtual environment with imitation."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--imitation", type=Path, help="Python that has it; default: made anew")
    parser.add_argument("--env-id", default="Pendulum-v1")
    parser.add_argument("--labels", type=int, default=400)
    parser.add_argument("--out", type=Path, help="CSV to which the figures are added as a row")
    given = parser.parse_args()
    from rlentropy import cli

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, pairs = folder / "run", folder / "pairs.npz"
        argv = ["active-preference", "--env-id", given.env_id, "--labels", str(given.labels)]
        argv += ["--acquisition", "random", "--quiet", "--out", str(run)]
        if cli.main(argv) or cli.main(
            ["campaign", "--campaign", str(run), "--export", str(pairs), "--quiet"]
        ):
            sys.exit("the campaign or its export failed")
        python = given.imitation or environment(folder / "venv")
        command = [python, __file__, PEER, pairs, given.env_id, "{}"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = {"env_id": given.env_id, **json.loads(done.stdout.splitlines()[-1])}
    print(json.dumps(found))
    if given.out is not None:
        new = not given.out.exists()
        given.out.parent.mkdir(parents=True, exist_ok=True)
        with given.out.open("a", newline="") as file:
            writer = csv.DictWriter(file, found)
            if new:
                writer.writeheader()
            writer.writerow(found)


if __name__ == "__main__":
    if sys.argv[1:2] == [PEER]:
        print(json.dumps(peer(Path(sys.argv[2]), sys.argv[3], sys.argv[4])))
    else:
        main()
