"""Do two checkouts write the same run folders, bit for bit?

python benchmarks/same_runs.py OLD NEW [--only PATTERN ...] [--changed KEY ...]
                                         [--out CSV] [--keep DIR]

OLD and NEW are checkouts of this repository. Every case below is one or more command lines, played
in both (two processes at a time, one a checkout), each checkout in a room of its own with the same
relative paths. Then all that was written is compared, file by file:

    metrics.jsonl           line by line, in order
    events.out.tfevents.*   tags, steps, values and texts, in order; of pictures the size alone
    *.json                  every value at every depth
    *.npz, *.hdf5, *.pt     type, shape and bits of every array and tensor
    *.csv, other text       line by line
    *.png                   that it is there

Left out: the clock (wall_seconds, compile_seconds, speeds, times of events), argv and versions,
HParams, and checkpoint/, whose format may change; the cases of ``resumed`` read their own. What NEW
alone has (files, keys, tags) is listed as added; what it lacks is a difference. Keys of summaries
and metadata that were changed on purpose may be named by --changed; they are listed too. The exit
code is 1 if anything else differs, or if a command fails in either checkout.

Cases run in order; --only takes shell patterns of names (``entgame*``), and adds what they read.
About five minutes with kernels compiled, on two cores.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# Parts of files that say when and where a run was, not what came out.
CIRCUMSTANCES = re.compile(
    r"(.*[/.])?(wall_seconds|compile_seconds|\w+_per_second)( at step .*)?"
    r"|(argv|git_commit|platform|versions)(\..*)?"
)
SKIPPED = (".tmp", "checkpoint")  # files and folders whose name begins so


# ---------------------------------------------------------------- what is run

GRID = "--env-id rlentropy/GridWorld-v0 --env-kwargs '{\"size\": 5}'"
PLAYED = f"{GRID} --horizon 8 --seed 3"
RING = "--env-id rlentropy/Ring-v0 --risk entropic:0.1"
ACTOR = "--evaluation-episodes 2 --final-episodes 3 --num-envs 4 --rollout-steps 64"
NETWORK = "--approximator neural --updates 40 --hidden 16 16 --batch-size 100"
OFFLINE = {"rfzi": "entropic:0.1", "rfqi": "tv-ball:0.1", "fqi": "nominal"}

EXPLORER, DRIVER = "entgame/bonus=none", "robust-actor-critic/CartPole"  # cases that others read

RISKS = (
    *("nominal", "worst-case", "entropic:0.5", "cvar:0.3", "mean-cvar:0.5,0.2", "chi2-penalty:1"),
    *("l1-penalty:1", "burg-penalty:1", "cressie-read-penalty:1,0.5", "wasserstein-penalty:1"),
    *("contamination:0.1", "kl-ball:0.1", "burg-ball:0.1", "chi2-ball:0.1", "tv-ball:0.1"),
    *("l1-ball:0.1", "linf-ball:0.1", "l2-ball:0.1", "wasserstein-ball:0.1"),
    *("s-l1-ball:0.1", "s-l2-ball:0.1"),
)
EXPLORERS = {  # options of the variants that are other code
    "entgame": (
        *("--bonus none", "--bonus inverse-n", "--bonus code", "--bonus hoeffding-kl"),
        *("--bonus bernstein-kl", "--bonus code --clip", "--mixture-size 0"),
        *("--objective VE_S", "--objective AVE", "--objective AVE_S"),
        "--stage-dependent --bonus bernstein-kl",
    ),
    "reg-entgame": (
        *("--temperature 0.5", "--bonus inverse-n", "--reward-free-episodes 30"),
        "--reward-free-episodes 30 --bonus inverse-n",
    ),
    "maxent": (
        *("--step line-search", "--step fixed"),
        *("--objective VE_S", "--objective AVE", "--objective AVE_S"),
    ),
    "rf-ucrl": (
        *("--variant rf-ucrl", "--variant rf-ucrl --no-clip", "--variant rf-ucrl --clip"),
        *("--variant rf-express", "--variant rf-express --clip", "--objective AVE_S"),
        "--tolerance 1e9",
    ),
    "ucbvi-ent": (
        *("--variant none", "--variant code", "--variant pac", "--variant fast"),
        *("--variant none --objective TE+", "--variant code --objective TE+"),
        *("--variant fast --bonus-scale 0.01 --objective TE+", "--variant fast --tolerance 1e9"),
        "--variant fast --stage-dependent",
    ),
    "rf-explore-ent": (
        *("--sampler targets", "--sampler rf-express", "--sampler rf-ucrl"),
        *("--sampler entgame", "--sampler random", "--sampler targets --objective TE+"),
    ),
    "random-policy": (
        *("--objective VE", "--objective AVE_S", "--objective TE", "--objective TE+"),
    ),
}

Cases = dict[str, list[str]]  # name → command lines, in whose words HERE is a folder of that name


def named(options: str) -> str:
    """``--bonus code --clip`` as a part of a name: ``bonus=code,clip``."""
    return ",".join("=".join(words.split()) for words in options.split("--") if words)


def exploration() -> Cases:
    """The exact optima; each variant of each explorer; what all of them share."""
    cases = {
        f"optimal-exploration/{objective}": [
            f"optimal-exploration {GRID} --horizon 8 --objective {objective} --out HERE/run"
        ]
        for objective in ("VE", "VE_S", "AVE", "AVE_S", "TE", "TE+")
    }
    for command, variants in EXPLORERS.items():
        shared = ["--simulator compiled", "--simulator gymnasium"]
        if command != "random-policy":
            shared.append("--stage-dependent")
        for options in (*variants, *shared):
            line = f"{command} {PLAYED} --episodes 240 {options} --out HERE/run"
            cases[f"{command}/{named(options)}"] = [line]
    cases["entgame/DoubleChain"] = [
        "entgame --env-id rlentropy/DoubleChain-v0 --horizon 20 --episodes 200 --out HERE/run"
    ]
    for command in ("entgame", "ucbvi-ent"):  # a model of gymnasium's, and episodes that end early
        line = f"{command} --env-id FrozenLake-v1 --horizon 10 --episodes 60 --out HERE/run"
        cases[f"{command}/FrozenLake"] = [line]
    return cases


def robust() -> Cases:
    """Every measure and method; the exact gradients; the actor-critic."""
    cases = {
        f"robust-planning/{measure}": [
            f"robust-planning --env-id rlentropy/RiverSwim-v0 --risk {measure} --out HERE/run"
        ]
        for measure in RISKS
    }
    for options in (
        *("--method newton", "--method policy-iteration", "--method value-iteration"),
        "--risk-support full",
    ):
        line = f"robust-planning {GRID} --risk kl-ball:0.1 --gamma 0.9 {options} --out HERE/run"
        cases[f"robust-planning/{named(options)}"] = [line]
    for options in (
        *("--parametrisation direct", "--parametrisation softmax", "--parametrisation mirror"),
        *("--parametrisation direct --step theory", "--risk kl-ball:0.1"),
    ):
        line = f"robust-pg {RING} {options} --updates 60 --out HERE/run"
        cases[f"robust-pg/{named(options)}"] = [line]
    for name, options in (
        (DRIVER, "--env-id CartPole-v1 --risk entropic:0.1"),
        (f"{DRIVER},nominal", "--env-id CartPole-v1 --risk nominal --random-action 0.1"),
        ("robust-actor-critic/Pendulum", "--env-id Pendulum-v1 --risk entropic:0.05"),
        ("robust-actor-critic/Taxi", "--env-id Taxi-v4 --risk entropic:0.01 --horizon 50"),
    ):
        cases[name] = [f"robust-actor-critic {options} --steps 1024 {ACTOR} --out HERE/run"]
    return cases


def offline() -> Cases:
    """Datasets of every origin and format; tables and networks that learn from them."""
    start = f"collect --policy {EXPLORER}/run --steps 2000"
    cases = {
        "collect/random": [f"collect {GRID} --horizon 8 --steps 4000 --data HERE/data.npz"],
        "collect/gymnasium": [
            f"collect {GRID} --horizon 8 --steps 900 --simulator gymnasium --data HERE/data.npz"
        ],
        "collect/run": [f"{start} --epsilon 0.1 --data HERE/data.npz"],
        "collect/mixture": [f"{start} --mixture --data HERE/data.npz"],
        "collect/hdf5": [f"{start} --data HERE/data.hdf5"],
        "collect/network": [
            f"collect --policy {DRIVER}/run --epsilon 0.3 --steps 3000 --num-envs 2 "
            "--data HERE/data.npz"
        ],
        "collect/append": [
            f"collect {GRID} --horizon 8 --steps 1000 --data HERE/data.npz",
            f"collect {GRID} --horizon 8 --steps 1000 --data HERE/data.npz --seed 1 --append",
        ],
    }
    for command, measure in OFFLINE.items():
        start = f"{command} --risk {measure} --out HERE/run --data"
        table = f"{start} collect/mixture/data.npz"
        cases |= {
            f"{command}/table": [f"{table} {GRID}"],
            f"{command}/unvisited": [f"{table} --unvisited zero --gamma 0.9"],
            f"{command}/network": [f"{table} {GRID} {NETWORK} --seeds 2"],
            f"{command}/CartPole": [
                f"{start} collect/network/data.npz --env-id CartPole-v1 --episodes 2 {NETWORK} "
                "--support 0.2 --holdout 0.1"
            ],
        }
    start = "rfzi --risk entropic:0.1 --out HERE/run --data"
    return cases | {
        "rfzi/hdf5": [f"{start} collect/hdf5/data.hdf5"],
        "rfzi/published": [
            f"{start} collect/mixture/data.npz {NETWORK} --recipe published --embedding fourier"
        ],
    }


def resumed() -> Cases:
    """Half the budget, short of any early end, then all of it from the checkpoint."""
    halves = {
        "entgame": (f"entgame {PLAYED} --episodes", 40),
        "reg-entgame": (f"reg-entgame {PLAYED} --episodes", 40),
        "maxent": (f"maxent {PLAYED} --episodes", 40),
        "rf-ucrl": (f"rf-ucrl {PLAYED} --episodes", 40),
        "ucbvi-ent": (f"ucbvi-ent {PLAYED} --variant fast --episodes", 40),
        "rf-explore-ent": (f"rf-explore-ent {PLAYED} --sampler rf-express --episodes", 40),
        "random-policy": (f"random-policy {PLAYED} --episodes", 40),
        "robust-pg": (f"robust-pg {RING} --step-size 0.1 --updates", 20),
        "robust-actor-critic": (f"robust-actor-critic --env-id CartPole-v1 {ACTOR} --steps", 512),
    }
    for command, measure in OFFLINE.items():
        start = f"{command} --risk {measure} --data collect/mixture/data.npz"
        halves[f"{command},table"] = (f"{start} --updates", 8)
        halves[f"{command},network"] = (f"{start} {NETWORK} --updates", 40)
    return {
        f"resumed/{name}": [
            f"{line} {half} --out HERE/run",
            f"{line} {2 * half} --out HERE/run --resume",
        ]
        for name, (line, half) in halves.items()
    }


def tools() -> Cases:
    """What reads finished runs, and what starts many."""
    grids = "--perturb kl-ball=0:0.2:0.1 --perturb p=0:0.4:0.2"
    physical = "--perturb force_mag=5:15:5 --perturb random_action=0:0.2:0.1"
    ring = "robust-pg/parametrisation=direct/run"
    return {
        "evaluate/table": [f"evaluate --run {EXPLORER}/run --episodes 30 --out HERE/out"],
        "evaluate/mixture": ["evaluate --run entgame/DoubleChain/run --mixture --out HERE/out"],
        "evaluate/perturbed": [f"evaluate --run {ring} {grids} --horizon 20 --out HERE/out"],
        "evaluate/CartPole": [
            f"evaluate --run {DRIVER}/run {physical} --episodes 3 --out HERE/out"
        ],
        "evaluate/offline": ["evaluate --run rfzi/network/run --horizon 8 --out HERE/out"],
        "sweep": [
            "sweep --commands entgame random-policy --env-ids rlentropy/DoubleChain-v0 --seeds 0:2 "
            "--set episodes=60 --set horizon=12 --workers 1 --out HERE/runs"
        ],
        "compare/mean": ["compare sweep/runs --out HERE/out"],
        "compare/iqm": ["compare sweep/runs --statistic iqm --gaps 1 5 --out HERE/out"],
    }


def chosen(patterns: list[str]) -> Cases:
    """The cases that a pattern matches, and those whose folders these read; none: all of them."""
    cases = exploration() | robust() | offline() | resumed() | tools()
    names = {name for name in cases if any(fnmatch.fnmatch(name, p) for p in patterns or ["*"])}
    for name in reversed(cases):  # a case reads only earlier ones
        if name in names:
            words = " ".join(cases[name]).split()
            names |= {other for other in cases for word in words if word.startswith(f"{other}/")}
    return {name: lines for name, lines in cases.items() if name in names}


def play(checkout: Path, room: Path, name: str, lines: list[str]) -> str:
    """Run the command lines of a case in a room; what the first that fails said, else nothing."""
    (room / name).mkdir(parents=True)
    env = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    for line in lines:
        arguments = shlex.split(line.replace("HERE", name))
        argv = [sys.executable, str(checkout / "train.py"), *arguments]
        ended = subprocess.run(argv, cwd=room, env=env, capture_output=True, text=True)
        if ended.returncode:
            last = (ended.stderr.strip() or "nothing said").splitlines()[-1]
            return f"exit code {ended.returncode} of {shlex.join(arguments)}: {last}"
    return ""


# ---------------------------------------------------------------- what is compared

Content = dict[str, Any]  # name of a part → array, or text


def content(path: Path) -> Content:
    """The parts of a file that must agree."""
    if path.name == "metrics.jsonl":
        return metrics(path)
    if "tfevents" in path.name:
        return events(path)
    if path.suffix == ".json":
        return dict(leaves(json.loads(path.read_text())))
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return with_metadata(dict(arrays))
    if path.suffix == ".hdf5":
        return hdf5(path)
    if path.suffix == ".pt":
        import torch

        return dict(leaves(torch.load(path, weights_only=True)))
    if path.suffix == ".png":
        return {}
    return {f"line {k}": line for k, line in enumerate(path.read_text().splitlines(), 1)}


def with_metadata(parts: Content) -> Content:
    """The parts of a dataset, with what its metadata say one by one."""
    if "metadata" in parts:
        parts.pop("metadata@crc32", None)
        parts |= dict(leaves(json.loads(str(parts.pop("metadata"))), "metadata"))
    return parts


def metrics(path: Path) -> Content:
    lines = path.read_text().splitlines()
    return numbered(
        (f"{entry['tag']} at step {entry['step']}", line)
        for line, entry in zip(lines, map(json.loads, lines), strict=True)
    )


def events(path: Path) -> Content:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    def parts() -> Iterator[tuple[str, Any]]:
        for record in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(record)
            for value in event.summary.value:
                name = f"{value.tag} at step {event.step}"
                if value.metadata.plugin_data.plugin_name == "hparams" or value.tag == "config":
                    continue  # all options, as in config.json
                if value.HasField("image"):
                    yield name, f"picture of {value.image.width} x {value.image.height}"
                elif value.HasField("simple_value"):
                    yield name, np.float32(value.simple_value)
                else:
                    yield name, value.SerializeToString(deterministic=True).hex()

    return numbered(parts())


def numbered(parts: Iterator[tuple[str, Any]]) -> Content:
    """A part that comes again gets a number, so that none is lost."""
    seen: Counter[str] = Counter()
    found: Content = {}
    for name, value in parts:
        seen[name] += 1
        found[name if seen[name] == 1 else f"{name} ({seen[name]})"] = value
    return found


def hdf5(path: Path) -> Content:
    import h5py

    found: Content = {}

    def visit(name: str, node: Any) -> None:
        found.update({f"{name}@{key}": str(value) for key, value in node.attrs.items()})
        if isinstance(node, h5py.Dataset):
            found[name] = np.asarray(node[()])

    with h5py.File(path) as file:
        visit("", file)
        file.visititems(visit)
    if isinstance(text := found.get("metadata"), np.ndarray):
        found["metadata"] = (
            text.item().decode() if text.dtype.hasobject else text.tobytes().decode()
        )
    return with_metadata(found)


def leaves(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What nested dictionaries and lists hold, tensors as arrays."""
    if isinstance(node, dict | list | tuple) and node:
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(child, f"{name}.{key}" if name else str(key))
    else:
        yield name, node.numpy() if hasattr(node, "numpy") else repr(node)


def equal(old: Any, new: Any) -> bool:
    if isinstance(old, str) or isinstance(new, str):
        return type(old) is type(new) and bool(old == new)
    a, b = np.asarray(old), np.asarray(new)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return bool((a == b).all()) if a.dtype.hasobject else a.tobytes() == b.tobytes()


def told(old: Any, new: Any) -> str:
    """How two parts differ, in a few words."""
    if isinstance(old, str) or isinstance(new, str):
        return f"{str(old)[:60]} -> {str(new)[:60]}"
    a, b = np.asarray(old), np.asarray(new)
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{a.dtype}{a.shape} -> {b.dtype}{b.shape}"
    other = np.flatnonzero((a != b) & ((a == a) | (b == b)))  # two that are NaN don't differ
    if not other.size:
        return "the same numbers in other bits"
    first = f"{a.flat[other[0]].item()!r} -> {b.flat[other[0]].item()!r}"
    return f"{other.size} of {a.size} entries, first {first}" if a.ndim else first


@dataclass
class Verdict:
    """What comparing two folders found."""

    files: int = 0
    differs: list[str] = field(default_factory=list)
    added: set[str] = field(default_factory=set)
    changed: re.Pattern[str] = re.compile("$.")  # keys that may differ

    @property
    def word(self) -> str:
        if not self.differs:
            return "equal"
        first, *more = self.differs
        return f"DIFFERS {first}" + (f" (and {len(more)} more)" if more else "")

    def compare(self, old: Path, new: Path) -> None:
        before, after = written(old), written(new)
        self.added |= after.keys() - before.keys()
        self.differs += [f"{name} is lost" for name in before.keys() - after.keys()]
        both = before.keys() & after.keys()
        for name in sorted(both, key=lambda name: (name.endswith("events"), name)):  # these last
            self.files += 1
            self.compare_file(name, content(before[name]), content(after[name]))

    def compare_file(self, name: str, old: Content, new: Content) -> None:
        old, new = (
            {k: v for k, v in c.items() if not CIRCUMSTANCES.fullmatch(k)} for c in (old, new)
        )
        for part in new.keys() - old.keys():
            self.added.add(f"{Path(name).name}: {re.sub(' at step .*', '', part)}")
        for part, value in old.items():
            if part not in new:
                self.differs.append(f"{name} has no {part}")
            elif not equal(value, new[part]):
                if self.changed.fullmatch(part):
                    self.added.add(f"{Path(name).name}: {part} changed on purpose")
                    continue
                self.differs.append(f"{name}: {part}: {told(value, new[part])}")
        log = name.endswith(("metrics.jsonl", "events"))
        if log and [part for part in old if part in new] != [part for part in new if part in old]:
            self.differs.append(f"{name} has its lines in another order")


def written(folder: Path) -> dict[str, Path]:
    """Relative name → file; events files are named for the second and the machine."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(SKIPPED) for part in parts):
            name = "events" if path.name.startswith("events.out.tfevents") else path.name
            found["/".join((*parts[:-1], name))] = path
    return found


# ---------------------------------------------------------------- the table

Row = tuple[str, int, str, str]  # case, files compared, verdict, what NEW adds


def compared(
    cases: Cases, checkouts: Sequence[Path], rooms: Sequence[Path], changed: re.Pattern[str]
) -> Iterator[Row]:
    """Play all cases, a process a checkout, and compare each as soon as both are done."""
    pools = [ThreadPoolExecutor(1) for _ in checkouts]
    try:
        ends = [
            [pool.submit(play, checkout, room, *case) for case in cases.items()]
            for pool, checkout, room in zip(pools, checkouts, rooms, strict=True)
        ]
        for name, old, new in zip(cases, *ends, strict=True):
            verdict = Verdict(changed=changed)
            for side, end in (("old", old), ("new", new)):
                if failure := end.result():
                    verdict.differs.append(f"{side} failed, {failure}")
            if not verdict.differs:
                verdict.compare(*(room / name for room in rooms))
            yield name, verdict.files, verdict.word, ", ".join(sorted(verdict.added))
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("old", type=Path, help="checkout that sets the numbers")
    parser.add_argument("new", type=Path, help="checkout that must repeat them")
    parser.add_argument("--only", nargs="+", default=[], help="shell patterns of cases")
    parser.add_argument("--changed", nargs="+", default=[], help="keys changed on purpose")
    parser.add_argument("--out", type=Path, help="also write the table to this CSV file")
    parser.add_argument("--keep", type=Path, help="new folder for what the cases write; it stays")
    options = parser.parse_args()
    checkouts = [options.old.resolve(), options.new.resolve()]
    for checkout in checkouts:
        if not (checkout / "train.py").is_file():
            parser.error(f"old and new must be checkouts with train.py, got {checkout}")
    if not (cases := chosen(options.only)):
        parser.error(f"only must match one of {', '.join(chosen([]))}; got {options.only}")

    began, rows = time.monotonic(), []
    print(f"{'case':44} files  verdict")
    with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as place:
        rooms = [Path(place).resolve() / side for side in ("old", "new")]
        changed = re.compile(rf"(.*\.)?({'|'.join(options.changed) or '$.'})(\.\d+)?")
        for row in compared(cases, checkouts, rooms, changed):
            name, files, word, added = row
            print(f"{name:44} {files:5}  {word}{added and f'; added {added}'}", flush=True)
            rows.append(row)
    bad = sum(word != "equal" for _, _, word, _ in rows)
    files, seconds = sum(row[1] for row in rows), time.monotonic() - began
    print(f"{len(rows)} cases, {files} files: {bad or 'none'} differ ({seconds:.0f} s)")
    if options.out:
        with options.out.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("case", "files", "verdict", "added"))
            writer.writerows(rows)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
