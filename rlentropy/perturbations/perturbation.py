"""What a perturbation is: a name, its nominal value, and a way to change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlentropy.errors import InputError, shown
from rlentropy.perturbations.parameters import Domain
from rlentropy.types import Array, Env

NUMBER = int | float | np.integer | np.floating
IN_PLACE = "_rlentropy_perturbed"  # set on an environment that was changed itself


@dataclass(frozen=True)
class Perturbation:
    """What a name means in one environment."""

    name: str
    text: str
    unit: str  # empty for a number without one
    domain: Domain
    nominals: Array  # (n,)
    apply: Callable[[Env, Array], Env]
    anew: bool = False  # the environment is made anew, with its model

    @property
    def nominal(self) -> float | None:
        """The nominal value; None where the parameter is several different numbers."""
        first = float(self.nominals[0])
        return first if (self.nominals == first).all() else None

    @property
    def description(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.nominal is None:
            return f"{self.text}: in multiples of the nominal {self.listed}{unit}"
        return f"{self.text}{unit and ','}{unit}: {self.domain.text}, nominal {self.nominal:g}"

    @property
    def in_short(self) -> str:
        if self.nominal is None:
            return f"{self.name} (multiples of nominal)"
        return f"{self.name} (nominal {self.nominal:g}{self.unit and ' '}{self.unit})"

    @property
    def listed(self) -> str:
        values = sorted(set(self.nominals.tolist()), reverse=True)
        if len(values) > 6:
            return f"{values[0]:g} to {values[-1]:g}"
        return ", ".join(f"{value:g}" for value in values)

    def numbers(self, value: float, relative: bool) -> Array:
        """The new values, (n,).

        Raises:
            InputError: naming what the number must be instead.
        """
        must = f"perturb {self.name} must be"
        if isinstance(value, bool) or not isinstance(value, NUMBER):
            raise InputError(f"{must} a number, got {shown(value)}")
        if relative and not self.nominals.any():
            raise InputError(
                f"{must} a value, since it is nominally 0, got {value:g} times nominal"
            )
        if not relative and self.nominal is None:
            raise InputError(
                f"{must} in multiples of nominal ({self.name}=xLO:HI:STEP), since it is several "
                f"numbers ({self.listed}), got {value:g}"
            )
        numbers = value * self.nominals if relative else np.full(self.nominals.shape, value)
        if not all(map(self.domain.holds, numbers.tolist())):
            times = " times nominal" if relative else ""
            unit = f" ({self.unit})" if self.unit else ""
            raise InputError(f"{must} {self.domain.text}{unit}, got {value:.12g}{times}")
        return numbers


def called(env: Env) -> str:
    """What messages call an environment."""
    return env.spec.id if env.spec else type(env.unwrapped).__name__
