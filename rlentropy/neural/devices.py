"""Which device networks are made on, and how numbers come to it.

The device is ours rather than torch's default one: a default device passes every call of torch
through Python, which makes the steps of small networks slower by a third. What acts is never on it:
policies compute in numpy or on the CPU, and what a run saves is of the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch

from rlentropy.errors import InputError

CPU = torch.device("cpu")
KINDS = ("cpu", "cuda", "mps", "xpu")  # that networks have been written for

_chosen: ContextVar[torch.device | None] = ContextVar("device", default=None)


def current() -> torch.device:
    """Where networks are made now: as `on` says, else torch's default device."""
    return _chosen.get() or torch.get_default_device()


def found(name: str) -> torch.device:
    """A device of this machine.

    Raises:
        InputError: there is none of this name.
    """
    try:
        device = torch.device(name)
        if device.type not in KINDS:
            raise RuntimeError(f"networks are for {', '.join(KINDS)}")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device must be a torch device that is here, got {name!r}: {reason}"
        ) from None
    return device


@contextmanager
def on(device: torch.device) -> Iterator[None]:
    """Make networks on a device.

    Raises:
        InputError: its memory is too small for them.
    """
    before = _chosen.set(device)
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(". ")[0]
        raise InputError(
            f"device must have room for networks and batches, got {device}: {reason}"
        ) from None
    finally:
        _chosen.reset(before)


def put(values: Any, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Numbers as a tensor there; double precision becomes single where there is none (mps)."""
    values = np.asarray(values)
    if dtype is None and values.dtype == np.float64:
        dtype = precise(device)
    return torch.as_tensor(values, dtype=dtype, device=device)


def precise(device: torch.device) -> torch.dtype:
    """The most precise floating-point numbers that a device computes with."""
    return torch.float32 if device.type == "mps" else torch.float64
