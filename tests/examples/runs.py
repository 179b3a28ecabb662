"""Run folders with curves of a known law, and labels that are odd."""

import json
from pathlib import Path

import numpy as np

STEPS = np.array([10, 30, 100, 300, 1000, 3000, 10000])


def write_run(folder, curves, **changes):
    """A run folder; curves: tag → values at STEPS, or (steps, values)."""
    folder.mkdir(parents=True)
    lines = []
    for tag, curve in curves.items():
        steps, values = curve if isinstance(curve, tuple) else (STEPS, curve)
        for step, value in zip(steps, values, strict=True):
            lines.append(json.dumps({"tag": tag, "step": int(step), "value": value}))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    summary = {"command": "entgame", "env_id": "Chain-v0", "seed": 0, "env_steps": 10000}
    summary |= {"episodes": 1000, "objective": "VE", "horizon": 10, "finished": True}
    (folder / "summary.json").write_text(json.dumps(summary | changes))
    return folder


def summary(folder):
    """What a run found, without what the clock said."""
    content = json.loads((Path(folder) / "summary.json").read_text())
    for clock in ("wall_seconds", "compile_seconds"):
        content.pop(clock)
    return content


def power_law(scale, exponent=-0.5):
    return (scale * STEPS**exponent).tolist()


# ---------------------------------------------------------------- odd labels and summaries


ODD = ("x y", "x-y", "X/Y", "..", "../../up", "$a$ $b", "\\frac$", "=1+1", "_hidden", "a\nb\x1b[2J")
