"""The one error that means: the input is wrong, not the program; and the checks of arguments."""

import difflib
import os
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

ROUNDING = 1e-8  # how far a distribution may sum from 1
UNIT = 2.0**-53  # of rounding: half the distance of 1 to the next float64

# What a user can do, where several commands refuse the same.
NO_LIMIT = "horizon must be >= 1 (--horizon), as the environment has no limit of its own, got none"
LISTED = "rlentropy envs lists what there is"


class InputError(ValueError):
    """Names the argument, what it must be, what came; the command line prints it and exits 2."""


class InputWarning(UserWarning):
    """What is taken, and likely not meant; the command line prints it once, as a line."""


class OutputError(InputError):
    """The run folder can't be written: no space, no permission. What was there is intact."""


def as_numbers(given: Any, name: str, what: str) -> Any:
    """Real numbers as a float64 array; never the caller's own.

    Args:
        what: the shape that is wanted, for the message.

    Raises:
        InputError: text, complex or missing numbers, a ragged list, or no array at all.
    """
    kind = type(given).__name__
    if isinstance(given, dict | str | bytes | set) or given is None:
        raise InputError(f"{name} must be numbers {what}, got {kind}")
    if hasattr(given, "tocoo"):
        raise InputError(f"{name} must be numbers {what}, got {kind} {given.shape}")
    try:
        array = np.ma.asanyarray(given) if np.ma.isMaskedArray(given) else np.asarray(given)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} must be numbers {what}, got a ragged or other {kind}") from None
    if np.ma.is_masked(array):
        raise InputError(f"{name} must be numbers {what}, got masked entries")
    if array.dtype.kind == "O" and all(isinstance(x, Real) for x in array.flat):
        try:
            return np.array(array, np.float64)
        except OverflowError as error:
            raise InputError(f"{name} must be numbers {what}, got an {error}") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be real numbers {what}, got a {kind} of {array.dtype}")
    return np.array(array, np.float64)


def floats(name: str, given: Any) -> Any:
    """Real numbers as a float64 array, not copied where they are one.

    Raises:
        InputError: they are none.
    """
    try:
        if hasattr(given, "tocoo"):
            raise TypeError
        return np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} must be an array of real numbers, got {shown(given)}") from None


def as_path(name: str, given: Any, what: str = "a path") -> Path:
    """A path, of text too.

    Raises:
        InputError: it is neither.
    """
    if isinstance(given, str | Path) or (
        isinstance(given, os.PathLike) and isinstance(os.fspath(given), str)
    ):
        return Path(given)
    raise InputError(f"{name} must be {what}, got {shown(given)}")


def shown(value: Any) -> str:
    """What came, in a line of some words."""
    shape = getattr(value, "shape", ())
    if isinstance(shape, tuple) and shape:
        return f"{type(value).__name__} of shape {shape}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def rounding_of(given: Any) -> float:
    """How far a distribution of this array's type may sum from 1."""
    dtype = getattr(given, "dtype", None)
    if dtype is not None and not isinstance(dtype, np.dtype):  # of torch, of pandas
        dtype = np.asarray(given).dtype
    if dtype is None or dtype.kind != "f":
        return ROUNDING
    return max(ROUNDING, 32.0 * float(np.finfo(dtype).eps))


def whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Refuse an argument that is no whole number, or not in least..most.

    Raises:
        InputError: names the argument and what it must be.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{name} must be a whole number >= {least}, got {shown(value)}")
    if value < least:
        raise InputError(f"{name} must be >= {least}, got {value}")
    if most is not None and value > most:
        raise InputError(f"{name} must be <= {most}, got {value}")


def in_range(name: str, value: Any, interval: str) -> None:
    """Refuse an argument that is no number, or not in an interval.

    Args:
        interval: as one writes it: "[0, 1)" holds 0 but not 1, "(0, inf)" what is positive and
            finite, "(0, inf]" infinity too.

    Raises:
        InputError: names the argument and what it must be.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputError(f"{name} must be a number, got {shown(value)}")
    low, high = interval[1:-1].split(", ")
    above = value >= float(low) if interval[0] == "[" else value > float(low)
    below = value <= float(high) if interval[-1] == "]" else value < float(high)
    if not (above and below):
        must = f"in {interval}"
        if interval == "(-inf, inf)":
            must = "finite"
        elif high == "inf":
            relation = ">=" if interval[0] == "[" else ">"
            must = f"{relation} {low}{' and finite' if interval[-1] == ')' else ''}"
        raise InputError(f"{name} must be {must}, got {value}")


def one_of(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse an argument that is none of the choices; names those that are close to it.

    Raises:
        InputError: lists the choices.
    """
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        near = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}{near}")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """What to add to the refusal of an unknown name: what it begins, and the names close to it."""
    names = sorted(choices)
    begun = [c for c in names if len(name) > 1 and c.lower().startswith(name.lower())]
    close = list(dict.fromkeys([*begun, *difflib.get_close_matches(name, names, n=3)]))[:3]
    return f"; did you mean {' or '.join(close)}?" if close else ""
