"""Physical parameters in the code of gymnasium's environments: how each is read and written.

The tables are by the class of the unwrapped environment, or of its parents, for environments
(`BASES`) and for the models of MuJoCo ones (`MODELS`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import numpy as np

from rlentropy.types import Array

SPRING_REFERENCE = 2.0  # rad, where Hopper's springs pull to (robust §5.2)


class Domain(NamedTuple):
    """Which values a parameter may have."""

    text: str
    holds: Callable[[float], bool]


ANY = Domain("finite", math.isfinite)
POSITIVE = Domain("> 0", lambda value: 0.0 < value < math.inf)
NONNEGATIVE = Domain(">= 0", lambda value: 0.0 <= value < math.inf)
PROBABILITY = Domain("in [0, 1]", lambda value: 0.0 <= value <= 1.0)
WHOLE = Domain("a whole number", lambda value: float(value).is_integer())


class Parameter(NamedTuple):
    """A parameter in the code of an environment, or of a MuJoCo model."""

    text: str
    unit: str
    domain: Domain
    read: Callable[[Any], Any]  # its present values, one or several
    write: Callable[[Any, Array], None]  # as many new ones


# ---------------------------------------------------------------- classic control, LunarLander


def attribute(text: str, unit: str, domain: Domain, name: str) -> Parameter:
    def write(base: Any, values: Array) -> None:
        setattr(base, name, float(values[0]))

    return Parameter(text, unit, domain, lambda base: getattr(base, name), write)


def cart_pole(text: str, unit: str, name: str) -> Parameter:
    """An attribute from which CartPole derives others at construction."""

    def write(base: Any, values: Array) -> None:
        setattr(base, name, float(values[0]))
        base.total_mass = base.masspole + base.masscart
        base.polemass_length = base.masspole * base.length

    return Parameter(text, unit, POSITIVE, lambda base: getattr(base, name), write)


def link_length(k: int) -> Parameter:
    """Of Acrobot, with its centre of mass where it was in proportion."""
    length, centre = f"LINK_LENGTH_{k}", f"LINK_COM_POS_{k}"

    def write(base: Any, values: Array) -> None:
        new = float(values[0])
        setattr(base, centre, getattr(base, centre) * new / getattr(base, length))
        setattr(base, length, new)

    text = f"length (and centre of mass) of link {k}"
    return Parameter(text, "m", POSITIVE, lambda base: getattr(base, length), write)


def wind(text: str, name: str) -> Parameter:
    """One part of LunarLander's wind; where there was no wind, the other part is 0."""

    def read(base: Any) -> float:
        return float(getattr(base, name)) if base.enable_wind else 0.0

    def write(base: Any, values: Array) -> None:
        if not base.enable_wind:
            base.enable_wind, base.wind_power, base.turbulence_power = True, 0.0, 0.0
        setattr(base, name, float(values[0]))

    return Parameter(text, "", NONNEGATIVE, read, write)


def engine(text: str, *constants: str) -> Parameter:
    """Constants of LunarLander's module, for one environment.

    Its `step` reads them as globals: this environment gets the same code with globals of its own.
    """

    def read(base: Any) -> list[float]:
        return [base.step.__func__.__globals__[name] for name in constants]

    def write(base: Any, values: Array) -> None:
        f, new = base.step.__func__, dict(zip(constants, values.tolist(), strict=True))
        step = FunctionType(
            f.__code__, {**f.__globals__, **new}, f.__name__, f.__defaults__, f.__closure__
        )
        base.step = MethodType(step, base)

    return Parameter(text, "", ANY, read, write)


BASES: dict[str, dict[str, Parameter]] = {
    "CartPoleEnv": {
        "force_mag": attribute("force on the cart", "N", ANY, "force_mag"),
        "gravity": attribute("gravity", "m/s^2", ANY, "gravity"),
        "length": cart_pole("half the pole's length", "m", "length"),
        "masscart": cart_pole("mass of the cart", "kg", "masscart"),
        "masspole": cart_pole("mass of the pole", "kg", "masspole"),
    },
    "PendulumEnv": {
        "g": attribute("gravity", "m/s^2", ANY, "g"),
        "m": attribute("mass", "kg", POSITIVE, "m"),
        "l": attribute("length", "m", POSITIVE, "l"),
        "max_torque": attribute("bound that torques are clipped to", "N m", POSITIVE, "max_torque"),
        "dt": attribute("time step", "s", POSITIVE, "dt"),
    },
    "AcrobotEnv": {f"link_length_{k}": link_length(k) for k in (1, 2)}
    | {
        f"link_mass_{k}": attribute(f"mass of link {k}", "kg", POSITIVE, f"LINK_MASS_{k}")
        for k in (1, 2)
    }
    | {
        "torque_noise": attribute(
            "half width of the uniform noise on torques", "N m", NONNEGATIVE, "torque_noise_max"
        )
    },
    "MountainCarEnv": {
        "force": attribute("force of the engine", "", ANY, "force"),
        "gravity": attribute("gravity", "", ANY, "gravity"),
    },
    "Continuous_MountainCarEnv": {
        "power": attribute("power of the engine", "", ANY, "power"),
    },
    "LunarLander": {
        "gravity": attribute("gravity, upwards", "", ANY, "gravity"),
        "wind_power": wind("greatest force of the wind", "wind_power"),
        "turbulence_power": wind("greatest torque of the wind", "turbulence_power"),
        "main_engine_power": engine("main engine", "MAIN_ENGINE_POWER"),
        "side_engine_power": engine("side engines", "SIDE_ENGINE_POWER"),
        "engine_power": engine("main and side engines", "MAIN_ENGINE_POWER", "SIDE_ENGINE_POWER"),
    },
}


# ---------------------------------------------------------------- MuJoCo


def actuated(model: Any) -> Any:
    """Indices of the degrees of freedom with an actuator; the others carry the body about."""
    return model.jnt_dofadr[np.unique(model.actuator_trnid[:, 0])]


def write_gravity(model: Any, values: Array) -> None:
    """Along the nominal direction; downwards where there was none."""
    size = np.linalg.norm(model.opt.gravity)
    model.opt.gravity[:] = values[0] * (model.opt.gravity / size if size > 0.0 else (0, 0, -1.0))


def joints(text: str, unit: str, domain: Domain, field: str) -> Parameter:
    """A number of each actuated joint."""

    def write(model: Any, values: Array) -> None:
        getattr(model, field)[actuated(model)] = values

    return Parameter(text, unit, domain, lambda m: getattr(m, field)[actuated(m)], write)


def actuator_range(text: str, part: slice) -> Parameter:
    """Clips the controls of some actuators to [-value, value]."""

    def write(model: Any, values: Array) -> None:
        model.actuator_ctrlrange[part] = np.stack([-values, values], axis=1)

    return Parameter(text, "", NONNEGATIVE, lambda m: m.actuator_ctrlrange[part, 1], write)


def spring(text: str, joint: str) -> Parameter:
    """The stiffness of a joint that has none, towards `SPRING_REFERENCE`."""

    def write(model: Any, values: Array) -> None:
        j = model.joint(joint).id
        model.jnt_stiffness[j] = values[0]
        model.qpos_spring[model.jnt_qposadr[j]] = SPRING_REFERENCE

    def read(model: Any) -> float:
        return float(model.jnt_stiffness[model.joint(joint).id])

    return Parameter(text, "N m/rad", NONNEGATIVE, read, write)


def stiffness(text: str, *names: str) -> Parameter:
    def indices(model: Any) -> list[int]:
        return [model.joint(name).id for name in names]

    def write(model: Any, values: Array) -> None:
        model.jnt_stiffness[indices(model)] = values

    return Parameter(text, "N m/rad", POSITIVE, lambda m: m.jnt_stiffness[indices(m)], write)


MODELS: dict[str, dict[str, Parameter]] = {
    "MujocoEnv": {
        "gravity": Parameter(
            "gravity", "m/s^2", ANY, lambda m: np.linalg.norm(m.opt.gravity), write_gravity
        ),
        "damping": joints("damping of the actuated joints", "N m s/rad", POSITIVE, "dof_damping"),
        "friction_loss": joints(
            "dry friction in the actuated joints", "N m", NONNEGATIVE, "dof_frictionloss"
        ),
        "actuator_range": actuator_range("bound that controls are clipped to", slice(None)),
    },
    "HopperEnv": {
        f"{part}_stiffness": spring(
            f"spring in the {part} joint towards {SPRING_REFERENCE:g} rad", f"{part}_joint"
        )
        for part in ("thigh", "leg", "foot")
    },
    "HalfCheetahEnv": {
        f"{side}_stiffness": stiffness(
            f"springs of the {side} leg",
            *(f"{side[0]}{part}" for part in ("thigh", "shin", "foot")),
        )
        for side in ("back", "front")
    }
    | {
        f"{side}_actuator_range": actuator_range(
            f"bound that controls of the {side} leg are clipped to", part
        )
        for side, part in (("back", slice(0, 3)), ("front", slice(3, 6)))
    },
}
