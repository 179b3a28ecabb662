"""The policies of finished runs."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from rlentropy.errors import InputError, as_path
from rlentropy.files import read_arrays, read_tensors
from rlentropy.policies import Mixture, Policy, Tabular
from rlentropy.runs.summaries import read_summary
from rlentropy.runs.table import COMMANDS
from rlentropy.types import Array


def load(run: str | Path, env: gymnasium.Env[Any, Any], mixture: bool = False) -> Policy:
    """The policy of a finished run: policy.npz, or policy.pt through its command's `load_policy`.

    Args:
        run: run folder.
        env: where it shall act.
        mixture: the mixture of policies that the run played instead of one policy for it: what
            mixture.npz holds, or policy.pt where its command's `load_policy` takes `mixture`.

    Raises:
        InputError: the folder holds no finished run or no such policy, the file is damaged, or the
            environment's spaces are not those of the policy.
    """
    run = as_path("run", run, "the folder of a run")
    command = read_summary(run)["command"]
    name = "mixture.npz" if mixture else "policy.npz"
    if (run / name).is_file():
        pi = read_table(run / name, 4 if mixture else 3)
        S, A = pi.shape[-2:]
        starts = (
            check_discrete(env.observation_space, S, "observations", run),
            check_discrete(env.action_space, A, "actions", run),
        )
        return Mixture(pi, *starts) if mixture else Tabular(pi, *starts)
    if not (run / "policy.pt").is_file():
        wanted = name if mixture else "policy.npz or policy.pt"
        raise InputError(f"run must hold {wanted}, got {run}")
    module = import_module(COMMANDS[command].module)
    if (reader := getattr(module, "load_policy", None)) is None:
        raise InputError(f"run must hold policy.npz of {command}, got {run} with a policy.pt")
    if mixture and "mixture" not in signature(reader).parameters:
        raise InputError(f"run must hold a mixture, got {run} of {command}, which plays one policy")
    saved = read_tensors(run / "policy.pt")
    try:
        policy: Policy = reader(saved, env, mixture=True) if mixture else reader(saved, env)
    except InputError as error:
        raise InputError(f"{error} ({run / 'policy.pt'})") from None
    return policy


def read_table(path: Path, axes: int) -> Array:
    """The array `pi` of a policy file, with the axis of stages put in where it is stationary.

    Raises:
        InputError: the file is damaged, or its rows are no probabilities.
    """
    pi = read_arrays(path, ("pi",))["pi"]
    if pi.ndim == axes - 1:
        pi = np.expand_dims(pi, -3)
    if pi.ndim != axes or not pi.size:
        raise InputError(f"run must hold probabilities (..., S, A) in {path}, got {pi.shape}")
    if pi.dtype.kind not in "fiub":
        raise InputError(f"run must hold probabilities in {path}, got numbers of {pi.dtype}")
    rounded, pi = pi.dtype.itemsize < 8, pi.astype(np.float64)
    sums = pi.sum(axis=-1)
    if not (np.isfinite(pi).all() and pi.min() >= 0.0 and np.abs(sums - 1.0).max() <= 1e-6):
        raise InputError(
            f"run must hold probabilities in {path}, got numbers from {pi.min():.6g} to "
            f"{pi.max():.6g} in rows that sum to {sums.min():.6g} to {sums.max():.6g}"
        )
    return pi / sums[..., None] if rounded else pi


def check_discrete(space: gymnasium.Space[Any], n: int, name: str, run: Path) -> int:
    """The first element of a Discrete space of size n."""
    if not (isinstance(space, Discrete) and space.n == n):
        raise InputError(f"env must have Discrete({n}) {name} as in {run}, got {space}")
    return int(space.start)
