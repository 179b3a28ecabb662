"""Environments with another parameter: one name, one number (robust spec §5.1-5.2).

A name is relative or absolute, which `allowed` says of each. The number of a relative one is p, for
(1 + p) times the nominal value, so 0 is nominal; nominal is what the environment given holds. That
of an absolute one is the new value itself. Spaces stay the nominal ones, so that a bound on actions
only acts below its nominal value.

Not offered, since they are bare numbers in the code of the environment: the gravity of Acrobot and
that of MountainCarContinuous.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs

from rlentropy.cli import near
from rlentropy.errors import InputError
from rlentropy.policies import uniform_actions

Env = gymnasium.Env[Any, Any]
Change = Callable[[Any, float], Any]  # of an unwrapped environment, or of a MuJoCo model

SPRING_REFERENCE = 2.0  # rad, where Hopper's springs pull to (§5.2)


@dataclass(frozen=True)
class Scale:
    """How the number of a perturbation is read."""

    text: str
    holds: Callable[[float], bool]


RELATIVE = Scale("relative: p for (1 + p) times nominal", math.isfinite)
POSITIVE = Scale("relative: p > -1 for (1 + p) times nominal", lambda p: -1.0 < p < math.inf)
ABSOLUTE = Scale("absolute", math.isfinite)
NONNEGATIVE = Scale("absolute, >= 0", lambda value: 0.0 <= value < math.inf)
PROBABILITY = Scale("absolute, in [0, 1]", lambda value: 0.0 <= value <= 1.0)


@dataclass(frozen=True)
class Perturbation:
    """What a name means in one environment."""

    text: str
    scale: Scale
    apply: Callable[[Env, float], Env]

    @property
    def description(self) -> str:
        return f"{self.text} ({self.scale.text})"


def allowed(env: Env) -> dict[str, str]:
    """The names that an environment allows, and what the number of each means."""
    return {name: p.description for name, p in perturbations(env).items()}


def perturbed(env: Env, name: str, value: float) -> Env:
    """The environment with a parameter changed; the one given may be changed itself, or closed.

    Raises:
        InputError: the environment has no such name, or not with this value.
    """
    choices = perturbations(env)
    if name not in choices:
        raise InputError(
            f"perturb must name one of {', '.join(choices)} in {env.spec.id if env.spec else env}, "
            f"got {name!r}{near(name, choices)}"
        )
    if not choices[name].scale.holds(value):
        raise InputError(f"perturb {name} must be {choices[name].scale.text}, got {value}")
    return choices[name].apply(env, value)


def perturbations(env: Env) -> dict[str, Perturbation]:
    base: Any = env.unwrapped
    kinds = [kind.__name__ for kind in type(base).__mro__]  # so that nothing need be imported
    found: dict[str, Perturbation] = {}
    for kind in kinds:
        for name, (text, scale, change) in BASES.get(kind, {}).items():
            found.setdefault(name, Perturbation(text, scale, in_place(change)))
        if "MujocoEnv" in kinds:
            for name, (text, scale, change) in MODELS.get(kind, {}).items():
                found.setdefault(name, Perturbation(text, scale, in_model(change)))
    if env.spec is not None:
        for name, others in keywords(base, kinds).items():
            text = "keyword of the environment"
            found[name] = Perturbation(text, ABSOLUTE, rebuilt(name, others))
    found["random_action"] = Perturbation(
        "probability that an action is replaced by a uniform one", PROBABILITY, RandomAction
    )
    if isinstance(env.observation_space, Box) and env.observation_space.dtype.kind == "f":
        found["observation_noise"] = Perturbation(
            "standard deviation of noise on each observation", NONNEGATIVE, ObservationNoise
        )
    return found


# ---------------------------------------------------------------- any environment


class RandomAction(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Replaces an action by a uniform one with some probability.

    Draws from a generator of its own, seeded by `reset`, and at every step: which steps are hit
    grows with the probability, and all else is as without.
    """

    def __init__(self, env: Env, probability: float) -> None:
        RecordConstructorArgs.__init__(self, probability=probability)
        super().__init__(env)
        self.probability, self.rng = probability, np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self.rng = np.random.default_rng([seed, 0])
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        other = uniform_actions(self.action_space, 1, self.rng)[0]
        return self.env.step(other if self.rng.random() < self.probability else action)


class ObservationNoise(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds normal noise to observations, from a generator of its own, seeded by `reset`."""

    def __init__(self, env: Env, deviation: float) -> None:
        RecordConstructorArgs.__init__(self, deviation=deviation)
        super().__init__(env)
        self.deviation, self.rng = deviation, np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self.rng = np.random.default_rng([seed, 1])
        observation, info = self.env.reset(seed=seed, options=options)
        return self.noisy(observation), info

    def step(self, action: Any) -> Any:
        observation, *rest = self.env.step(action)
        return self.noisy(observation), *rest

    def noisy(self, observation: Any) -> Any:
        noise = self.deviation * self.rng.standard_normal(observation.shape)
        return (observation + noise).astype(observation.dtype)


def keywords(base: Any, kinds: list[str]) -> dict[str, dict[str, Any]]:
    """Numbers that a finite environment is built from, and the keywords that each needs beside."""
    if "TabularEnv" in kinds:
        parameters = inspect.signature(type(base)).parameters.values()
        return {p.name: {} for p in parameters if isinstance(p.default, float)}
    if "FrozenLakeEnv" in kinds:
        return {"success_rate": {"is_slippery": True}}
    return {"rainy_probability": {"is_rainy": True}} if "TaxiEnv" in kinds else {}


def rebuilt(name: str, others: dict[str, Any]) -> Callable[[Env, float], Env]:
    def apply(env: Env, value: float) -> Env:
        assert env.spec is not None
        try:
            new = gymnasium.make(env.spec, **{**others, name: value})
        except (ValueError, AssertionError) as error:
            raise InputError(f"perturb {name} must suit {env.spec.id}: {error}") from None
        env.close()
        return new

    return apply


def in_place(change: Change) -> Callable[[Env, float], Env]:
    """A perturbation that changes the unwrapped environment."""

    def apply(env: Env, value: float) -> Env:
        change(env.unwrapped, value)
        return env

    return apply


def in_model(change: Change) -> Callable[[Env, float], Env]:
    """A perturbation that changes the MuJoCo model, which `reset` leaves alone."""

    def apply(env: Env, value: float) -> Env:
        base: Any = env.unwrapped
        change(base.model, value)
        return env

    return apply


# ---------------------------------------------------------------- classic control, LunarLander


def scaled(*attributes: str) -> Change:
    def change(base: Any, p: float) -> None:
        for name in attributes:
            setattr(base, name, (1.0 + p) * getattr(base, name))

    return change


def cart_pole(attribute: str) -> Change:
    """Scales an attribute, and computes those that CartPole derives from it at construction."""

    def change(base: Any, p: float) -> None:
        scaled(attribute)(base, p)
        base.total_mass = base.masspole + base.masscart
        base.polemass_length = base.masspole * base.length

    return change


def torque_noise(base: Any, value: float) -> None:
    base.torque_noise_max = value


def wind(attribute: str) -> Change:
    """Sets one part of the wind; where there was no wind, the other part is 0."""

    def change(base: Any, value: float) -> None:
        if not base.enable_wind:
            base.enable_wind, base.wind_power, base.turbulence_power = True, 0.0, 0.0
        setattr(base, attribute, value)

    return change


def engine(*constants: str) -> Change:
    """Scales constants of LunarLander's module for one environment.

    Its `step` reads them as globals: this environment gets the same code with globals of its own.
    """

    def change(base: Any, p: float) -> None:
        f = base.step.__func__
        new = {name: (1.0 + p) * f.__globals__[name] for name in constants}
        step = FunctionType(
            f.__code__, {**f.__globals__, **new}, f.__name__, f.__defaults__, f.__closure__
        )
        base.step = MethodType(step, base)

    return change


BASES: dict[str, dict[str, tuple[str, Scale, Change]]] = {
    "CartPoleEnv": {
        "force_mag": ("force on the cart", RELATIVE, scaled("force_mag")),
        "gravity": ("gravity", RELATIVE, scaled("gravity")),
        "length": ("half the pole's length", POSITIVE, cart_pole("length")),
        "masscart": ("mass of the cart", POSITIVE, cart_pole("masscart")),
        "masspole": ("mass of the pole", POSITIVE, cart_pole("masspole")),
    },
    "PendulumEnv": {
        "g": ("gravity", RELATIVE, scaled("g")),
        "m": ("mass", POSITIVE, scaled("m")),
        "l": ("length", POSITIVE, scaled("l")),
        "max_torque": ("bound that torques are clipped to", POSITIVE, scaled("max_torque")),
        "dt": ("time step", POSITIVE, scaled("dt")),
    },
    "AcrobotEnv": {
        f"{name}_{k}": (f"{text} of link {k}", POSITIVE, scaled(*(f"{a}_{k}" for a in attributes)))
        for k in (1, 2)
        for name, text, attributes in (
            ("link_length", "length (and centre of mass)", ("LINK_LENGTH", "LINK_COM_POS")),
            ("link_mass", "mass", ("LINK_MASS",)),
        )
    }
    | {"torque_noise": ("half width of the uniform noise on torques", NONNEGATIVE, torque_noise)},
    "MountainCarEnv": {
        "force": ("force of the engine", RELATIVE, scaled("force")),
        "gravity": ("gravity", RELATIVE, scaled("gravity")),
    },
    "Continuous_MountainCarEnv": {
        "power": ("power of the engine", RELATIVE, scaled("power")),
    },
    "LunarLander": {
        "gravity": ("gravity", RELATIVE, scaled("gravity")),
        "wind_power": ("greatest force of the wind", NONNEGATIVE, wind("wind_power")),
        "turbulence_power": (
            "greatest torque of the wind",
            NONNEGATIVE,
            wind("turbulence_power"),
        ),
        "main_engine_power": ("main engine", RELATIVE, engine("MAIN_ENGINE_POWER")),
        "side_engine_power": ("side engines", RELATIVE, engine("SIDE_ENGINE_POWER")),
        "engine_power": (
            "all engines",
            RELATIVE,
            engine("MAIN_ENGINE_POWER", "SIDE_ENGINE_POWER"),
        ),
    },
}


# ---------------------------------------------------------------- MuJoCo


def actuated(model: Any) -> Any:
    """Indices of the actuated joints; the others carry the body through the world."""
    return np.unique(model.actuator_trnid[:, 0])


def mujoco_gravity(model: Any, p: float) -> None:
    model.opt.gravity[:] *= 1.0 + p


def damping(model: Any, p: float) -> None:
    model.dof_damping[model.jnt_dofadr[actuated(model)]] *= 1.0 + p


def friction_loss(model: Any, value: float) -> None:
    model.dof_frictionloss[model.jnt_dofadr[actuated(model)]] = value


def actuator_range(part: slice) -> Change:
    """Clips the controls of some actuators to [-value, value]."""

    def change(model: Any, value: float) -> None:
        model.actuator_ctrlrange[part] = (-value, value)

    return change


def spring(joint: str) -> Change:
    """Sets the stiffness of a joint that has none, N m / rad, towards `SPRING_REFERENCE`."""

    def change(model: Any, value: float) -> None:
        j = model.joint(joint).id
        model.jnt_stiffness[j] = value
        model.qpos_spring[model.jnt_qposadr[j]] = SPRING_REFERENCE

    return change


def stiffness(*joints: str) -> Change:
    def change(model: Any, p: float) -> None:
        for joint in joints:
            model.jnt_stiffness[model.joint(joint).id] *= 1.0 + p

    return change


MODELS: dict[str, dict[str, tuple[str, Scale, Change]]] = {
    "MujocoEnv": {
        "gravity": ("gravity", RELATIVE, mujoco_gravity),
        "damping": ("damping of the actuated joints", POSITIVE, damping),
        "friction_loss": (
            "dry friction in the actuated joints, N m",
            NONNEGATIVE,
            friction_loss,
        ),
        "actuator_range": (
            "bound that controls are clipped to",
            NONNEGATIVE,
            actuator_range(slice(None)),
        ),
    },
    "HopperEnv": {
        f"{part}_stiffness": (
            f"spring in the {part} joint towards {SPRING_REFERENCE:g} rad, N m / rad",
            NONNEGATIVE,
            spring(f"{part}_joint"),
        )
        for part in ("thigh", "leg", "foot")
    },
    "HalfCheetahEnv": {
        f"{side}_stiffness": (
            f"springs of the {side} leg",
            POSITIVE,
            stiffness(*(f"{side[0]}{part}" for part in ("thigh", "shin", "foot"))),
        )
        for side in ("back", "front")
    }
    | {
        f"{side}_actuator_range": (
            f"bound that controls of the {side} leg are clipped to",
            NONNEGATIVE,
            actuator_range(part),
        )
        for side, part in (("back", slice(0, 3)), ("front", slice(3, 6)))
    },
}
