"""Perturbed environments against physics written anew here, from the changed parameter."""

import math

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st

import rlentropy  # noqa: F401  (registers rlentropy/*)
from rlentropy.perturbations import allowed, perturbations, perturbed

FACTORS = st.floats(0.1, 5.0)
COORDINATES = st.lists(st.floats(-0.15, 0.15), min_size=4, max_size=4)


def make(name, value, env_id, relative=False, **kwargs):
    return perturbed(gymnasium.make(env_id, **kwargs), name, value, relative)


# ---------------------------------------------------------------- classic control


@given(factor=FACTORS, state=COORDINATES, action=st.integers(0, 1))
@pytest.mark.parametrize("name", ["force_mag", "gravity", "length", "masscart", "masspole"])
def test_cart_pole_obeys_its_equations_of_motion(name, factor, state, action):
    """Barto, Sutton and Anderson (1983), solved here as a linear system for the accelerations."""
    nominal = {"force_mag": 10.0, "gravity": 9.8, "length": 0.5, "masscart": 1.0, "masspole": 0.1}
    c = nominal | {name: factor * nominal[name]}
    env = make(name, c[name], "CartPole-v1")
    env.reset(seed=0)
    env.unwrapped.state = np.array(state)
    found = env.step(action)[0]

    m, l, total = c["masspole"], c["length"], c["masspole"] + c["masscart"]
    x, v, theta, omega = state
    force = c["force_mag"] if action else -c["force_mag"]
    # cart: total x'' + m l cos(theta) theta'' = F + m l omega^2 sin(theta)
    # pole: cos(theta) x'' + 4/3 l theta''     = g sin(theta)
    left = [[total, m * l * math.cos(theta)], [math.cos(theta), 4.0 / 3.0 * l]]
    right = [force + m * l * omega**2 * math.sin(theta), c["gravity"] * math.sin(theta)]
    x_acc, theta_acc = np.linalg.solve(left, right)
    after = [x + 0.02 * v, v + 0.02 * x_acc, theta + 0.02 * omega, omega + 0.02 * theta_acc]
    np.testing.assert_allclose(found, after, rtol=2e-6, atol=1e-6)


@given(factor=FACTORS, angle=st.floats(-3, 3), omega=st.floats(-2, 2), torque=st.floats(-2, 2))
@pytest.mark.parametrize("name", ["g", "m", "l", "max_torque", "dt"])
def test_pendulum_obeys_its_equations_of_motion(name, factor, angle, omega, torque):
    env = make(name, factor, "Pendulum-v1", relative=True)
    env.reset(seed=0)
    env.unwrapped.state = np.array([angle, omega])
    (cosine, sine, found), reward = env.step(np.array([torque]))[:2]
    nominal = {"g": 10.0, "m": 1.0, "l": 1.0, "max_torque": 2.0, "dt": 0.05}
    c = nominal | {name: factor * nominal[name]}
    u = max(-c["max_torque"], min(torque, c["max_torque"]))
    inertia = c["m"] * c["l"] ** 2 / 3.0  # a rod about its end; its centre is at l / 2
    acceleration = (c["m"] * c["g"] * c["l"] / 2.0 * math.sin(angle) + u) / inertia
    after = max(-8.0, min(omega + c["dt"] * acceleration, 8.0))
    turned = angle + c["dt"] * after
    np.testing.assert_allclose(
        [cosine, sine, found], [math.cos(turned), math.sin(turned), after], rtol=1e-5, atol=1e-5
    )
    assert reward == pytest.approx(-(angle**2 + 0.1 * omega**2 + 0.001 * u**2))


def energy(state, length_1, mass_1, length_2, mass_2):
    """Of a double pendulum hanging down, its links' centres half way, moments of inertia 1."""
    a, b, da, db = state
    l1, c1, c2 = length_1, length_1 / 2.0, length_2 / 2.0
    v1 = c1 * da * np.array([math.cos(a), math.sin(a)])
    v2 = l1 * da * np.array([math.cos(a), math.sin(a)])
    v2 = v2 + c2 * (da + db) * np.array([math.cos(a + b), math.sin(a + b)])
    moving = mass_1 * v1 @ v1 + mass_2 * v2 @ v2 + da**2 + (da + db) ** 2
    height_1, height_2 = -c1 * math.cos(a), -l1 * math.cos(a) - c2 * math.cos(a + b)
    return moving / 2.0 + 9.8 * (mass_1 * height_1 + mass_2 * height_2)


@pytest.mark.parametrize("value", [0.5, 1.7])
@pytest.mark.parametrize("name", ["link_length_1", "link_length_2", "link_mass_1", "link_mass_2"])
def test_acrobot_conserves_the_energy_of_the_changed_links(name, value):
    env = make(name, value, "Acrobot-v1")
    base = env.unwrapped
    base.dt = 1e-3
    env.reset(seed=0)
    base.state = np.array([0.9, -0.7, 0.8, -1.3])
    links = {"link_length_1": 1.0, "link_mass_1": 1.0, "link_length_2": 1.0, "link_mass_2": 1.0}
    changed = links | {name: value}
    before = [energy(base.state, *parameters.values()) for parameters in (links, changed)]
    for _ in range(200):
        env.step(1)  # no torque
    after = [energy(base.state, *parameters.values()) for parameters in (links, changed)]
    assert after[1] == pytest.approx(before[1], abs=1e-8)
    assert abs(after[0] - before[0]) > 1e-3


def test_acrobot_torque_noise():
    """With torque noise w, angular velocities after the same step spread as uniform noise does."""
    env = make("torque_noise", 0.5, "Acrobot-v1")
    env.reset(seed=0)
    base, speeds = env.unwrapped, []
    for torque in (-0.5, 0.5, *[None] * 400):
        exact = gymnasium.make("Acrobot-v1").unwrapped if torque is not None else base
        exact.reset()
        exact.state = np.array([0.1, 0.2, 0.3, 0.4])
        if torque is not None:
            exact.AVAIL_TORQUE = [torque] * 3
        speeds.append(exact.step(1)[0][5])
    low, high = sorted(speeds[:2])
    noisy = np.array(speeds[2:])
    assert low <= noisy.min()
    assert noisy.max() <= high
    assert noisy.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.15)


@given(factor=FACTORS, x=st.floats(-1, 0.4), v=st.floats(-0.03, 0.03), action=st.integers(0, 2))
@pytest.mark.parametrize("name", ["force", "gravity"])
def test_mountain_car_obeys_its_equation_of_motion(name, factor, x, v, action):
    c = {"force": 0.001, "gravity": 0.0025}
    c[name] *= factor
    env = make(name, c[name], "MountainCar-v0")
    env.reset(seed=0)
    env.unwrapped.state = (x, v)
    speed = v + (action - 1) * c["force"] - c["gravity"] * math.cos(3 * x)
    speed = max(-0.07, min(speed, 0.07))
    np.testing.assert_allclose(env.step(action)[0], [x + speed, speed], rtol=1e-5, atol=1e-7)


@given(factor=FACTORS, x=st.floats(-1, 0.4), u=st.floats(-1, 1))
def test_continuous_mountain_car_obeys_its_equation_of_motion(factor, x, u):
    env = make("power", 0.0015 * factor, "MountainCarContinuous-v0")
    env.reset(seed=0)
    env.unwrapped.state = np.array([x, 0.01])
    speed = 0.01 + u * 0.0015 * factor - 0.0025 * math.cos(3 * x)
    np.testing.assert_allclose(env.step(np.array([u]))[0], [x + speed, speed], rtol=1e-5, atol=1e-7)


# ---------------------------------------------------------------- LunarLander


def lander_kick(env, action, seed=4):
    """Change of the velocity by one step, beyond that by a step without action."""
    velocities = []
    for a in (0, action):
        env.reset(seed=seed)
        env.step(a)
        body = env.unwrapped.lander
        velocities.append(np.array([*body.linearVelocity, body.angularVelocity]))
    return velocities[1] - velocities[0]


@pytest.mark.parametrize(
    ("name", "actions"),
    [("main_engine_power", {2}), ("side_engine_power", {1, 3}), ("engine_power", {1, 2, 3})],
)
def test_lunar_lander_engines(name, actions):
    """An impulse, and so the change of velocity, is proportional to the engine's power."""
    pytest.importorskip("Box2D")
    nominal = gymnasium.make("LunarLander-v3")
    for factor in (0.1, 1.5):
        env = make(name, factor, "LunarLander-v3", relative=True)
        for action in (1, 2, 3):
            kick = (factor if action in actions else 1.0) * lander_kick(nominal, action)
            assert np.abs(kick[:2]).max() > 1e-3
            np.testing.assert_allclose(lander_kick(env, action), kick, rtol=1e-3, atol=1e-5)


def velocity(base):
    """Of the lander and its legs together, which hang on it by joints."""
    bodies = (base.lander, *base.legs)
    momentum = sum(b.mass * np.array(b.linearVelocity) for b in bodies)
    return momentum / sum(b.mass for b in bodies)


def test_lunar_lander_gravity_survives_reset():
    pytest.importorskip("Box2D")
    env = make("gravity", -6.0, "LunarLander-v3")
    for seed in range(2):
        env.reset(seed=seed)
        before = velocity(env.unwrapped)
        env.step(0)
        np.testing.assert_allclose(velocity(env.unwrapped) - before, [0.0, -6.0 / 50.0], atol=1e-5)


def test_lunar_lander_wind():
    pytest.importorskip("Box2D")
    env = make("wind_power", 12.0, "LunarLander-v3")
    base = env.unwrapped
    assert (base.enable_wind, base.turbulence_power) == (True, 0.0)
    env.reset(seed=3)
    before, k, mass = velocity(base), base.wind_idx, sum(b.mass for b in (base.lander, *base.legs))
    env.step(0)
    wind = 12.0 * math.tanh(math.sin(0.02 * k) + math.sin(math.pi * 0.01 * k))
    gained = [wind / mass / 50.0, -10.0 / 50.0]
    np.testing.assert_allclose(velocity(base) - before, gained, atol=1e-5)
    both = perturbed(env, "turbulence_power", 1.5).unwrapped
    assert (both.wind_power, both.turbulence_power) == (12.0, 1.5)
    breezy = make("turbulence_power", 0.5, "LunarLander-v3", enable_wind=True).unwrapped
    assert (breezy.wind_power, breezy.turbulence_power) == (15.0, 0.5)


# ---------------------------------------------------------------- MuJoCo


@pytest.fixture
def mujoco(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where MuJoCo leaves its log
    return pytest.importorskip("mujoco")


def at_rest(env, height, mujoco, velocity=0.0):
    """The simulation in mid-air, straight, actuated joints turning at a velocity; no controls."""
    env.reset(seed=0)
    base = env.unwrapped
    qpos, qvel = np.zeros(base.model.nq), np.zeros(base.model.nv)
    qpos[1], qvel[3:] = height, velocity
    base.data.ctrl[:] = 0.0
    base.set_state(qpos, qvel)
    mujoco.mj_forward(base.model, base.data)
    return base


@pytest.mark.parametrize("env_id", ["Hopper-v5", "HalfCheetah-v5"])
def test_mujoco_gravity(mujoco, env_id):
    env = make("gravity", 9.81 / 2.0, env_id)
    base = at_rest(env, 10.0, mujoco)
    falling = base.data.subtree_com[0, 2]
    time = 0.0
    while time < 0.1:
        mujoco.mj_step(base.model, base.data)
        time += base.model.opt.timestep
    mujoco.mj_forward(base.model, base.data)
    assert base.data.subtree_com[0, 2] - falling == pytest.approx(
        -0.5 * 0.5 * 9.81 * time**2, rel=0.15
    )


def test_hopper_springs_and_damping(mujoco):
    for k, part in enumerate(("thigh", "leg", "foot")):
        base = at_rest(make(f"{part}_stiffness", 5.0, "Hopper-v5"), 5.0, mujoco)
        torque = np.zeros(6)
        torque[3 + k] = 5.0 * (2.0 - 0.0)
        np.testing.assert_allclose(base.data.qfrc_passive, torque, atol=1e-9)
    base = at_rest(make("damping", 1.6, "Hopper-v5"), 5.0, mujoco, velocity=0.3)
    np.testing.assert_allclose(base.data.qfrc_passive, [0, 0, 0, *[-1.6 * 0.3] * 3], atol=1e-9)


def test_half_cheetah_springs_and_damping(mujoco):
    nominal = {"back": [240, 180, 120], "front": [180, 120, 60]}
    for side, other in (("back", "front"), ("front", "back")):
        base = at_rest(make(f"{side}_stiffness", 1.35, "HalfCheetah-v5", True), 5.0, mujoco)
        expected = {side: 1.35 * np.array(nominal[side]), other: nominal[other]}
        found = base.model.jnt_stiffness[3:]
        np.testing.assert_allclose(found, [*expected["back"], *expected["front"]])
    base = at_rest(make("damping", 0.5, "HalfCheetah-v5", True), 5.0, mujoco, velocity=1.0)
    np.testing.assert_allclose(
        base.data.qfrc_passive[3:], -0.5 * np.array([6, 4.5, 3, 4.5, 3, 1.5])
    )


def test_mujoco_friction_loss_holds_a_joint(mujoco):
    """Dry friction of f holds a joint against any torque below f; 1.0 N m is less than 4."""
    moved = []
    for friction in (0.0, 4.0):
        base = at_rest(make("friction_loss", friction, "HalfCheetah-v5"), 5.0, mujoco)
        base.model.opt.gravity[:] = 0.0
        base.model.jnt_stiffness[:] = 0.0
        base.data.qfrc_applied[5] = 1.0
        base.data.qfrc_applied[3] = 1.0
        for _ in range(20):
            mujoco.mj_step(base.model, base.data)
        moved.append(np.abs(base.data.qvel[3:6]).max())
    assert moved[1] < 0.05 * moved[0]


@pytest.mark.parametrize(
    ("env_id", "name", "bounds"),
    [
        ("Hopper-v5", "actuator_range", [0.4] * 3),
        ("HalfCheetah-v5", "back_actuator_range", [0.4] * 3 + [1.0] * 3),
        ("HalfCheetah-v5", "front_actuator_range", [1.0] * 3 + [0.4] * 3),
    ],
)
def test_mujoco_actuator_range(mujoco, env_id, name, bounds):
    env = make(name, 0.4, env_id)
    env.reset(seed=0)
    env.step(np.ones(len(bounds), np.float32))
    np.testing.assert_allclose(env.unwrapped.data.actuator_force, bounds)
    assert (env.action_space.high == 1.0).all()  # policies act as they learnt to


# ---------------------------------------------------------------- any environment


def trajectory(env, steps=60, seeds=3):
    """Observations, rewards and lengths of a few episodes of the environment's random actions."""
    env.action_space.seed(0)
    seen = []
    for seed in range(seeds):
        seen.append(np.atleast_1d(env.reset(seed=seed)[0]))
        for _ in range(steps):
            observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            seen.append(np.append(observation, reward))
            if terminated or truncated:
                break
    return np.concatenate(seen)


@pytest.mark.parametrize(
    ("env_id", "needs"),
    [
        *((name, "gymnasium") for name in ("CartPole-v1", "Pendulum-v1", "Acrobot-v1")),
        *((name, "gymnasium") for name in ("MountainCar-v0", "MountainCarContinuous-v0")),
        *((f"rlentropy/{name}-v0", "gymnasium") for name in ("Ring", "GridWorld", "DoubleChain")),
        ("FrozenLake-v1", "gymnasium"),
        ("LunarLander-v3", "Box2D"),
        ("Hopper-v5", "mujoco"),
        ("HalfCheetah-v5", "mujoco"),
    ],
)
def test_every_name_acts_and_its_nominal_value_does_not(env_id, needs, monkeypatch, tmp_path):
    pytest.importorskip(needs)
    monkeypatch.chdir(tmp_path)
    nominal = trajectory(gymnasium.make(env_id))
    for name, p in perturbations(gymnasium.make(env_id)).items():
        if p.text.startswith("keyword") and not name.startswith(("p", "success_")):
            continue  # sizes, and rewards that are never reached
        relative = bool(p.nominals.any()) and not p.text.startswith("keyword")
        found = trajectory(make(name, 0.6 if relative else 0.4, env_id, relative))
        assert not np.array_equal(found, nominal), name
        if relative:
            np.testing.assert_array_equal(trajectory(make(name, 1.0, env_id, True)), nominal)
        if p.nominal is not None and not name.endswith(
            ("_stiffness", "wind_power", "turbulence_power")
        ):
            # springs and winds of nothing are there, and draw
            np.testing.assert_array_equal(trajectory(make(name, p.nominal, env_id)), nominal)


def test_perturbations_combine():
    env = make("length", 1.0, "CartPole-v1")
    env = perturbed(perturbed(env, "masspole", 0.3), "length", 0.5, relative=True)
    base = env.unwrapped
    assert (base.length, base.masspole) == pytest.approx((0.5, 0.3))
    assert (base.total_mass, base.polemass_length) == pytest.approx((1.3, 0.15))
    ring = perturbed(make("random_action", 0.25, "rlentropy/Ring-v0"), "p", 0.1)
    assert ring.probability == 0.25
    assert ring.unwrapped.mdp.P.toarray()[0, [13, 12, 0]] == pytest.approx([0.8, 0.1, 0.1])


class Echo(gymnasium.Env):
    """Observes the last action."""

    observation_space = action_space = Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.asarray(action, np.float32), 0.0, False, False, {}


def echoes(env, n):
    env.reset(seed=5)
    return np.array([env.step(np.full(1, 0.5, np.float32))[0][0] for _ in range(n)])


def test_random_actions_come_as_often_as_asked_and_the_more_the_oftener():
    n, replaced = 4000, {}
    for p in (0.0, 0.2, 0.7, 1.0):
        x = echoes(perturbed(Echo(), "random_action", p), n)
        replaced[p] = x != 0.5
        assert abs(replaced[p].mean() - p) <= 4 * math.sqrt(p * (1 - p) / n)
    assert (replaced[0.2] <= replaced[0.7]).all()
    assert abs(x.mean()) < 4 / math.sqrt(3 * n)
    assert x.std() == pytest.approx(1 / math.sqrt(3), rel=0.05)


def test_observation_noise_has_its_deviation_and_scales():
    small, large = (echoes(perturbed(Echo(), "observation_noise", s), 4000) for s in (0.1, 0.3))
    assert (small - 0.5).std() == pytest.approx(0.1, rel=0.05)
    np.testing.assert_allclose(large - 0.5, 3.0 * (small - 0.5), atol=1e-6)
    assert large.dtype == np.float32


def test_finite_environments_are_rebuilt_with_all_else_kept():
    env = gymnasium.make("rlentropy/GridWorld-v0", size=5, max_episode_steps=7)
    new = perturbed(env, "success_probability", 0.5)
    assert new.unwrapped.mdp.num_states == 25
    assert new.spec.max_episode_steps == 7
    expected = gymnasium.make("rlentropy/GridWorld-v0", size=5, success_probability=0.5)
    assert (new.unwrapped.mdp.P != expected.unwrapped.mdp.P).nnz == 0
    unlimited = gymnasium.make("rlentropy/Ring-v0", max_episode_steps=-1)
    assert perturbed(unlimited, "p", 0.2).spec.max_episode_steps is None


def test_frozen_lake_and_taxi():
    lake = make("success_rate", 0.6, "FrozenLake-v1", is_slippery=False).unwrapped
    assert sorted(p for p, *_ in lake.P[0][1]) == pytest.approx([0.2, 0.2, 0.6])
    taxi = make("rainy_probability", 0.6, "Taxi-v4").unwrapped
    assert max(p for p, *_ in taxi.P[240][0]) == pytest.approx(0.6)


# ---------------------------------------------------------------- what the number is


def test_numbers_are_physical_unless_relative():
    env = make("force_mag", 5, "CartPole-v1")
    assert env.unwrapped.force_mag == 5.0
    assert make("force_mag", 0.5, "CartPole-v1", True).unwrapped.force_mag == 5.0
    assert perturbed(env, "force_mag", 3.0, relative=True).unwrapped.force_mag == 15.0
    pytest.importorskip("Box2D")
    lander = make("gravity", 1.2, "LunarLander-v3", True)
    assert lander.unwrapped.gravity == pytest.approx(-12.0)


def test_allowed_says_unit_range_and_nominal_value():
    found = allowed(gymnasium.make("CartPole-v1", render_mode="rgb_array"))
    assert found["force_mag"] == "force on the cart, N: finite, nominal 10"
    assert found["length"] == "half the pole's length, m: > 0, nominal 0.5"
    longer = allowed(make("length", 2.0, "CartPole-v1"))
    assert longer["length"] == "half the pole's length, m: > 0, nominal 2"
    lake = {
        slips: allowed(gymnasium.make("FrozenLake-v1", is_slippery=slips))["success_rate"]
        for slips in (True, False)
    }
    assert lake[True].endswith("nominal 0.333333")
    assert lake[False].endswith("nominal 1")


def test_what_is_several_numbers_has_multiples_alone():
    pytest.importorskip("Box2D")
    with pytest.raises(
        ValueError,
        match=r"engine_power must be in multiples of nominal \(engine_power=xLO:HI:STEP\), since "
        r"it is several numbers \(13, 0\.6\), got 5",
    ):
        make("engine_power", 5.0, "LunarLander-v3")
    described = allowed(gymnasium.make("LunarLander-v3"))["engine_power"]
    assert described == "main and side engines: in multiples of the nominal 13, 0.6"


def test_what_is_nominally_nothing_has_no_multiples():
    for env_id, name in (("CartPole-v1", "random_action"), ("Acrobot-v1", "torque_noise")):
        with pytest.raises(ValueError, match=f"{name} must be a value, since it is nominally 0"):
            make(name, 2.0, env_id, relative=True)


# ---------------------------------------------------------------- environments of one's own


class Slope(gymnasium.Env):
    """An environment with keywords of its own."""

    def __init__(self, slip: float = 0, cells=4, name="a", steep=True, grades=0.5, wet: int = 2):
        if not 0.0 <= slip <= 1.0:
            raise ValueError(f"slip is a probability, not {slip}")
        self.observation_space, self.action_space = Discrete(cells), Discrete(2)
        self.numbers = (slip, grades, wet)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}


@pytest.fixture
def slope(monkeypatch):
    spec = gymnasium.envs.registration.EnvSpec
    slopes = {"Slope-v0": spec("Slope-v0", Slope, kwargs={"grades": 0.25}, max_episode_steps=3)}
    slopes["Made-v0"] = spec("Made-v0", lambda **k: Slope(**k), kwargs={"slip": 0.5})
    for name, entry in slopes.items():
        monkeypatch.setitem(gymnasium.registry, name, entry)


def test_any_number_among_the_keywords_can_be_changed(slope):
    found = perturbations(gymnasium.make("Slope-v0", wet=3))
    nominal = {name: p.nominal for name, p in found.items()}
    assert nominal == {"slip": 0, "cells": 4, "grades": 0.25, "wet": 3, "random_action": 0}
    env = make("slip", 0.3, "Slope-v0", wet=3)
    assert env.unwrapped.numbers == (0.3, 0.25, 3)
    assert env.spec.max_episode_steps == 3
    assert make("grades", 2.0, "Slope-v0", relative=True).unwrapped.numbers[1] == 0.5
    wet = make("wet", 5.0, "Slope-v0").unwrapped.numbers[2]
    assert (type(wet), wet) == (int, 5)
    assert make("slip", 1.0, "Made-v0").unwrapped.numbers[0] == 1.0  # only what it is made with


def test_keywords_that_do_not_suit_are_refused(slope):
    with pytest.raises(ValueError, match="perturb slip must suit Slope-v0: slip is a probability"):
        make("slip", 1.5, "Slope-v0")
    with pytest.raises(ValueError, match=r"perturb wet must be a whole number, got 2\.5"):
        make("wet", 2.5, "Slope-v0")
    with pytest.raises(ValueError, match=r"perturb cells must leave the observation_space .* got"):
        make("cells", 5.0, "Slope-v0")
    with pytest.raises(ValueError, match=r"one of slip \(nominal 0\), .* got 'steep'"):
        make("steep", 1.0, "Slope-v0")


def test_keywords_come_before_what_is_changed_in_place():
    """Making an environment anew would undo what was changed in it."""
    env = make("force", 0.002, "MountainCar-v0")
    with pytest.raises(ValueError, match="goal_velocity must come before parameters that are"):
        perturbed(env, "goal_velocity", 0.01)
    env = perturbed(make("goal_velocity", 0.01, "MountainCar-v0"), "force", 0.002)
    assert (env.unwrapped.goal_velocity, env.unwrapped.force) == (0.01, 0.002)


# ---------------------------------------------------------------- refused


def test_unknown_names_list_the_near_misses_and_what_is_allowed():
    with pytest.raises(
        ValueError,
        match=r"name one of force_mag \(nominal 10 N\), gravity \(nom.* in CartPole-v1, got "
        r"'forcemag'; did you mean force_mag",
    ):
        make("forcemag", 0.0, "CartPole-v1")
    assert "observation_noise" not in allowed(gymnasium.make("rlentropy/Ring-v0"))
    river = gymnasium.make("rlentropy/RiverSwim-v0")
    assert list(allowed(river)) == ["num_states", "random_action"]


@pytest.mark.parametrize(
    ("env_id", "name", "value", "message"),
    [
        ("CartPole-v1", "length", 0.0, r"perturb length must be > 0 \(m\), got 0$"),
        ("CartPole-v1", "gravity", math.inf, r"perturb gravity must be finite \(m/s.2\), got inf"),
        ("CartPole-v1", "gravity", "x2", "perturb gravity must be a number, got 'x2'"),
        ("CartPole-v1", "random_action", 1.1, r"must be in \[0, 1\], got 1\.1"),
        ("CartPole-v1", "observation_noise", -0.1, r"must be >= 0, got -0\.1"),
        ("rlentropy/Ring-v0", "p", 0.6, r"perturb p must suit rlentropy/Ring-v0: p must be a prob"),
    ],
)
def test_values_out_of_range(env_id, name, value, message):
    with pytest.raises(ValueError, match=message):
        make(name, value, env_id)
