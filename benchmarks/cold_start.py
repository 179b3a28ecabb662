"""What a first run pays for its compiler, and what importing the package costs.

python benchmarks/cold_start.py [CHECKOUT ...] [--only COMMAND ...] [--second] [--csv PATH]

CPU seconds, user and system, of whole processes with all that they start. Cold is a run with an
empty NUMBA_CACHE_DIR, warm the median of 3 more with the cache that it left. Checkouts take turns,
so that a busy machine slows all of them; the ratio is of cold - warm to the first checkout's.

The dataset of rfzi is collected beforehand, in a run that isn't counted. With --second another
command follows in entgame's cache: what the second algorithm still has to compile.
The last rows are of importing numpy, gymnasium and rlentropy against numpy and gymnasium alone,
medians of 7 processes; what the package adds is the difference.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

WARM, IMPORTS = 3, 7  # processes

DATA = "collect --env-id rlentropy/Ring-v0 --horizon 20 --steps 20000 --data data.npz"
CHAIN = "--env-id rlentropy/DoubleChain-v0 --horizon 20"
COMMANDS = {
    "entgame": f"entgame {CHAIN} --episodes 5000 --objective VE --seed 0",
    "robust-planning": "robust-planning --env-id rlentropy/GridWorld-v0 --risk kl-ball:.1",
    "rfzi": "rfzi --data data.npz --risk entropic:0.1 --gamma 0.95 --env-id rlentropy/Ring-v0",
}
SECOND = f"ucbvi-ent {CHAIN} --episodes 200"

Row = tuple[str, str, float, float, float, float]  # what, checkout, cold, warm, difference, ratio


@dataclass(frozen=True)
class Checkout:
    """The package, and a folder in which it runs."""

    path: Path
    folder: Path

    @property
    def name(self) -> str:
        return self.path.name

    def run(self, line: str, cache: str) -> float:
        """CPU seconds of a command line with a cache of that name."""
        words = [*shlex.split(line), "--quiet"]
        if not line.startswith("collect"):
            words += ["--out", "run", "--overwrite"]
        return self.python([str(self.path / "train.py"), *words], cache)

    def python(self, arguments: Sequence[str], cache: str = "none") -> float:
        """CPU seconds of a process and of all that it waited for; it must succeed."""
        argv = [sys.executable, *arguments]
        env = os.environ | {"PYTHONPATH": str(self.path), "OMP_NUM_THREADS": "1"}
        env["NUMBA_CACHE_DIR"] = str(self.folder / cache)
        with tempfile.TemporaryFile() as words:
            process = subprocess.Popen(argv, cwd=self.folder, env=env, stdout=words, stderr=words)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                words.seek(0)
                text = words.read().decode(errors="replace").strip()
                sys.exit(f"{shlex.join(argv)} ended with {process.returncode}: {text}")
        return usage.ru_utime + usage.ru_stime


def compared(
    what: str, checkouts: Sequence[Checkout], pairs: Sequence[Sequence[float]]
) -> list[Row]:
    """Rows of (cold, warm) pairs, printed too."""
    first = pairs[0][0] - pairs[0][1]
    first = first if first > 0.1 else math.nan  # a share of nothing says nothing
    rows = [
        (what, checkout.name, cold, warm, cold - warm, (cold - warm) / first)
        for checkout, (cold, warm) in zip(checkouts, pairs, strict=True)
    ]
    for row in rows:
        print("{:18}{:>14}{:9.2f}{:9.2f}{:13.2f}{:8.2f}".format(*row), flush=True)
    return rows


def measure(what: str, line: str, cache: str, checkouts: Sequence[Checkout]) -> list[Row]:
    """Cold and warm runs of a command by turns, with the cache of that name."""
    rounds = [[c.run(line, cache) for c in checkouts] for _ in range(1 + WARM)]
    pairs = [(cold, median(warm)) for cold, *warm in zip(*rounds, strict=True)]
    return compared(what, checkouts, pairs)


def measure_imports(checkouts: Sequence[Checkout]) -> list[Row]:
    """The package and what it needs, beside what it needs."""
    scripts = ("import numpy, gymnasium, rlentropy", "import numpy, gymnasium")
    rounds = [
        [[checkout.python(["-c", script]) for script in scripts] for checkout in checkouts]
        for _ in range(IMPORTS)
    ]
    pairs = [
        [median(spent) for spent in zip(*own, strict=True)] for own in zip(*rounds, strict=True)
    ]
    return compared("import, or without", checkouts, pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("checkouts", nargs="*", type=Path, default=[here])
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--second", action="store_true", help="also ucbvi-ent in entgame's cache")
    parser.add_argument("--csv", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    if options.second and "entgame" not in options.only:
        parser.error("--second must come with entgame among --only")
    with tempfile.TemporaryDirectory() as room:
        checkouts = []
        for k, path in enumerate(options.checkouts):
            (folder := Path(room, str(k))).mkdir()
            checkouts.append(checkout := Checkout(path.resolve(), folder))
            sources = [str(checkout.path / name) for name in ("rlentropy", "envs")]
            checkout.python(
                ["-m", "compileall", "-q", *sources]
            )  # Python's own compiler is no cost
            checkout.run(DATA, "data")
        heads = ("CPU seconds", "checkout", "cold", "warm", "cold - warm", "ratio")
        print("{:18}{:>14}{:>9}{:>9}{:>13}{:>8}".format(*heads))
        rows = []
        for name in options.only:
            rows += measure(name, COMMANDS[name], name, checkouts)
            if name == "entgame" and options.second:
                rows += measure("ucbvi-ent, then", SECOND, name, checkouts)
        rows += measure_imports(checkouts)
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("what", "checkout", "cold", "warm", "difference", "ratio"))
            writer.writerows((*row[:2], *(f"{x:.3f}" for x in row[2:])) for row in rows)


if __name__ == "__main__":
    main()
