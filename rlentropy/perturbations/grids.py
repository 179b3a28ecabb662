"""Grids of values of one parameter: how they are written, read, and marked on axes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlentropy.errors import InputError
from rlentropy.types import Array

MOST_POINTS = 1000  # of a grid


@dataclass(frozen=True)
class Grid:
    """Values of a perturbation, (K,); the nominal environment has one value, and no name.

    They are in the parameter's own unit, or where it has no one nominal value, multiples of it.
    """

    name: str = ""
    values: Array = field(default_factory=lambda: np.zeros(1))
    relative: bool = False  # values are multiples of the nominal value
    nominal: float = math.nan  # where there is one
    unit: str = ""

    @classmethod
    def parse(cls, text: str) -> Grid:
        """From NAME=LO:HI:STEP, or NAME=xLO:HI:STEP for multiples of nominal.

        HI is included where a whole number of steps leads there.

        Raises:
            InputError: the text is no such thing, or has more than MOST_POINTS points.
        """
        name, _, numbers = text.partition("=")
        relative = numbers.startswith("x")
        try:
            low, high, step = (float(number) for number in numbers.removeprefix("x").split(":"))
        except ValueError:
            low = high = step = math.nan
        if not (name and math.isfinite(low) and math.isfinite(high) and math.isfinite(step)):
            raise InputError(f"perturb must be NAME=LO:HI:STEP or NAME=xLO:HI:STEP, got {text!r}")
        if low > high or step <= 0.0:
            raise InputError(f"perturb must have LO <= HI and STEP > 0, got {text!r}")
        if not (steps := (high - low) / step + 1e-9) < MOST_POINTS:
            raise InputError(
                f"perturb must have at most {MOST_POINTS} points, got {steps + 1:.6g} in {text!r}"
            )
        values = rounded(low + step * np.arange(math.floor(steps) + 1))
        if np.unique(values).size < values.size:
            raise InputError(f"perturb must have a STEP that tells points apart, got {text!r}")
        return cls(name, values, relative)

    def __str__(self) -> str:
        low, high = f"{self.values[0]:.12g}", f"{self.values[-1]:.12g}"
        ends = low if self.values.size == 1 else f"{low} to {high}"
        if not self.name or math.isnan(self.nominal):
            return f"{self.name} {ends}" if self.name else "nominal"
        if self.relative:
            return f"{self.name} {ends} {self.unit}"
        return f"{self.name} {ends}{self.unit and ' '}{self.unit} (nominal {self.nominal:.12g})"

    @property
    def axis(self) -> str:
        """What an axis of its values is called."""
        name = f"{self.name}, {self.unit}" if self.unit else self.name
        named = self.relative or math.isnan(self.nominal)
        return name if named else f"{name} (nominal {self.nominal:.12g})"

    @property
    def scale(self) -> dict[str, Any]:
        """What the values are to be read against, as columns of a table."""
        return {"unit": self.unit, "nominal": self.nominal}


def rounded(values: Any) -> Array:
    """Without the last digits of the largest, where 0.1 + 0.2 isn't 0.3; and no -0."""
    largest = float(np.abs(values).max())
    digits = 12 - math.ceil(math.log10(largest)) if largest > 0.0 else 12
    return np.asarray((np.round(values, digits) if digits <= 300 else values) + 0.0)
