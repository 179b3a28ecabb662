"""A sweep on a Ray cluster of two machines, both on this one, that is broken twice on the way.

40 runs begin on the cluster. One of its workers is killed, then the sweep itself, by SIGKILL; the
same command goes on. Every run must have finished once, and hold what the local engine's holds, bit
for bit: policies, metrics (but for time/*) and summaries (but for seconds).

    python benchmarks/engines.py [--out DIR]      # a few minutes; needs the extra ray
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

PORT = 6399
CLOCKED = ("wall_seconds", "compile_seconds")
SWEEP = (
    *("sweep", "--seeds", "20", "--quiet"),
    *("--commands", "reg-entgame", "random-policy", "--env-ids", "rlentropy/GridWorld-v0"),
    *("--set", "episodes=3000", "--set", "horizon=15"),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=None)
    out = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="engines-"))
    command = [sys.executable, "-c", "import sys; from rlentropy.cli import main; sys.exit(main())"]
    command += SWEEP
    began = time.monotonic()
    subprocess.run([*command, "--out", str(out / "local")], check=True)
    print(f"local engine: {time.monotonic() - began:.0f} s", flush=True)
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
    environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    ray = Path(sys.executable).with_name("ray")
    nodes = []
    try:
        head = [ray, "start", "--head", f"--port={PORT}", "--num-cpus=1", "--block"]
        head += ["--include-dashboard=false", "--node-ip-address=127.0.0.1"]
        nodes.append(start(head, environment, out / "head.log"))
        time.sleep(8)
        other = [ray, "start", f"--address=127.0.0.1:{PORT}", "--num-cpus=1", "--block"]
        other += ["--node-ip-address=127.0.0.1"]
        nodes.append(start(other, environment, out / "other.log"))
        time.sleep(5)
        broken(command, environment, out, f"127.0.0.1:{PORT}")
    finally:
        for node in nodes:
            os.killpg(node.pid, signal.SIGKILL)  # else they wait half a minute for nobody
            node.wait()
    compare(out / "local", out / "ray")


def start(command: list[object], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A process in a group of its own."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        return subprocess.Popen(
            list(map(str, command)),
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finished(folder: Path) -> dict[Path, int]:
    """When each run that is finished was."""
    return {path.parent: path.stat().st_mtime_ns for path in folder.glob("**/summary.json")}


def broken(command: list[str], environment: dict[str, str], out: Path, address: str) -> None:
    """The sweep on the cluster, whose worker is killed after 8 runs, and itself after 16."""
    command = [*command, "--engine", "ray", "--ray-address", address, "--out", str(out / "ray")]
    command.remove("--quiet")
    began = time.monotonic()
    sweep = start(command, environment, out / "sweep.log")
    wait_for(lambda: len(finished(out / "ray")) >= 8, sweep)
    (held, *_) = (int(p.read_text()) for p in (out / "ray").glob("**/.tmp-lock") if p.read_text())
    os.kill(held, signal.SIGKILL)
    print(f"killed worker {held} with {len(finished(out / 'ray'))} of 40 runs finished")
    wait_for(lambda: len(finished(out / "ray")) >= 16, sweep)
    sweep.kill()
    sweep.wait()
    before = finished(out / "ray")
    print(f"killed the sweep with {len(before)} of 40 runs finished")
    print(
        "\n".join(line for line in (out / "sweep.log").read_text().splitlines() if "taken" in line)
    )
    with (out / "again.log").open("wb") as log:
        subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
    after = finished(out / "ray")
    again = [folder for folder, when in before.items() if after[folder] != when]
    print(f"ray: {time.monotonic() - began:.0f} s; {len(after)} runs finished, {len(again)} twice")
    print((out / "again.log").read_text().splitlines()[-1])
    assert len(after) == 40
    assert not again


def wait_for(condition, process: subprocess.Popen[bytes]) -> None:  # type: ignore[no-untyped-def]
    while not condition():
        assert process.poll() is None, "the sweep ended by itself"
        time.sleep(0.02)


def content(folder: Path) -> dict[str, object]:
    """What a run found, without what the clock says."""
    summary = json.loads((folder / "summary.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found: dict[str, object] = {
        "summary": {name: value for name, value in summary.items() if name not in CLOCKED},
        "metrics": [line for line in lines if not line["tag"].startswith("time/")],
    }
    for path in folder.glob("*.npz"):
        with np.load(path) as arrays:
            found |= {f"{path.name} {name}": arrays[name].tobytes() for name in arrays}
    return found


def compare(left: Path, right: Path) -> None:
    folders = sorted(path.relative_to(left) for path in finished(left))
    assert folders == sorted(path.relative_to(right) for path in finished(right))
    same: Counter[str] = Counter()
    for folder in folders:
        a, b = content(left / folder), content(right / folder)
        assert a.keys() == b.keys()
        for name in a:
            assert a[name] == b[name], (folder, name)
            same[name.split()[0]] += 1
    print("the same as the local engine's: " + ", ".join(f"{n} {name}" for name, n in same.items()))


if __name__ == "__main__":
    main()
