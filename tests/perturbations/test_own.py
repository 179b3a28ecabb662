"""Parameters of environments of one's own: keywords of every form, attributes, declared ones."""

import functools
import math
import sys
import types

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rlentropy import FiniteMDP
from rlentropy.perturbations import acts, allowed, perturbation, perturbations, perturbed


class Sled(gymnasium.Env):
    """Moves by force / mass a step; slips, in which case it stays."""

    def __init__(self, mass: float = 2.0, slip: float | None = None, force: int = 3, **others):
        self.observation_space, self.action_space = Box(-9, 9, (1,), np.float32), Discrete(2)
        self.mass, self.force, self._slip = mass, force, 0.25 if slip is None else slip
        self.body = types.SimpleNamespace(drag=np.array([0.5, 0.0]), options={"lift": 1.5})
        self.x, self.name, self.others = 0.0, "sled", others

    @property
    def weight(self):
        return 9.8 * self.mass

    @property
    def doubled(self):
        return 2.0 * self.mass

    @doubled.setter
    def doubled(self, value):
        if value > 100:
            raise ValueError("too heavy")
        self.mass = value / 2.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = 0.0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        moved = self.np_random.random() >= self._slip
        self.x += moved * action * self.force / self.mass - self.body.drag[0]
        return np.array([self.x], np.float32), self.x, False, False, {}


class Sleigh(Sled):
    def __init__(self, bells=1.0, **others):
        super().__init__(**others)


class Deep(Sleigh):
    def __init__(self, **others):
        super().__init__(**{"mass": 4.0} | others)


class Loud(Sled):
    """Declares what can be changed."""

    perturbations = {  # noqa: RUF012  (as users write it)
        "mass": {"text": "mass of the sled", "unit": "kg", "range": "(0, inf)"},
        "drag": {"text": "drag", "range": "[0, 1]", "attribute": "body.drag.0"},
        "doubled": "twice the mass",
    }


def declaring(entry):
    return type("Sled", (Sled,), {"perturbations": {"mass": entry}})


class Handing(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
    def __init__(self, env, scale=1.0):
        gymnasium.utils.RecordConstructorArgs.__init__(self, scale=scale)
        super().__init__(env)


@pytest.fixture
def make(monkeypatch):
    """Registers an entry point for the time of a test, and makes it."""

    def register_and_make(entry_point, env_id="own/Sled-v0", kwargs=None, **options):
        spec = gymnasium.envs.registration.EnvSpec(
            env_id, entry_point, kwargs=kwargs or {}, max_episode_steps=5, **options
        )
        monkeypatch.setitem(gymnasium.registry, env_id, spec)
        return gymnasium.make(env_id)

    module = types.ModuleType("sleds")
    module.Sled, module.build = Sled, lambda **k: Sled(**k)
    module.Handing = Handing
    monkeypatch.setitem(sys.modules, "sleds", module)
    return register_and_make


# ---------------------------------------------------------------- keywords


ENTRY_POINTS = [
    Sled,
    "sleds:Sled",
    "sleds:build",
    lambda **k: Sled(**k),
    functools.partial(Sled, force=3),
    lambda mass=2.0, **k: Sled(mass, **k),
    Sleigh,
]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_entry_points_of_every_form(make, entry_point):
    env = make(entry_point)
    found = perturbations(env)
    assert {"mass", "force"} <= set(found)
    assert (found["mass"].nominal, found["force"].nominal) == (2.0, 3.0)
    changed = perturbed(env, "mass", 1.5).unwrapped
    assert (changed.mass, changed.force) == (1.5, 3)
    twice = perturbed(make(entry_point), "force", 2, relative=True).unwrapped
    assert (twice.force, type(twice.force)) == (6, int)


@pytest.mark.parametrize("module_given", [False, True])
def test_ids_with_namespaces_and_modules(make, module_given):
    make("sleds:Sled")
    env = gymnasium.make(("sleds:" if module_given else "") + "own/Sled-v0", mass=3.0)
    assert perturbation(env, "mass").nominal == 3.0
    assert perturbed(env, "mass", 0.5, relative=True).unwrapped.mass == 1.5


def test_a_parent_that_was_given_another_default_is_read_from_the_environment(make):
    """The parent's signature says 2, the class gives it 4, and keeps that as an attribute."""
    env = make(Deep)
    assert perturbation(env, "mass").nominal == 4.0
    assert perturbed(env, "mass", 0.5, relative=True).unwrapped.mass == 2.0
    assert "bells" not in perturbations(make(Deep))  # nobody says what it is


def test_a_keyword_that_defaults_to_none_has_the_value_that_the_environment_keeps(make):
    p = perturbation(make(Sled), "slip")
    assert (p.nominal, p.anew) == (0.25, True)
    assert perturbed(make(Sled), "slip", 0.5).unwrapped._slip == 0.5


def test_a_keyword_without_a_value_can_be_given_one(make):
    quiet = type("Quiet", (Sled,), {"__init__": lambda self, slope=None: Sled.__init__(self)})
    with pytest.raises(
        ValueError,
        match=r"perturb slope must be a number in own/Sled-v0, got a keyword without a nominal "
        r"value; .* --env-kwargs '\{\"slope\": 0\.1\}'",
    ):
        perturbation(make(quiet), "slope")
    assert perturbation(make(quiet, kwargs={"slope": 0.1}), "slope").nominal == 0.1


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, int, float])
def test_numbers_of_every_kind(make, kind):
    env = make(Sled, kwargs={"mass": kind(2)})
    new = perturbed(env, "mass", 1.5).unwrapped.mass
    assert (new, type(new)) == (1.5, float)
    assert perturbation(make(Sled, kwargs={"mass": True}), "force").nominal == 3.0
    assert "mass" not in perturbations(make(Sled, kwargs={"mass": True}))


def test_wrappers_of_the_spec_are_put_around_the_new_one(make):
    wrapper = gymnasium.envs.registration.WrapperSpec("Handing", "sleds:Handing", {"scale": 2.0})
    env = make(Sled, additional_wrappers=(wrapper,))
    new = perturbed(env, "mass", 1.5)
    assert type(new) is Handing
    assert (new.unwrapped.mass, new.spec.max_episode_steps) == (1.5, 5)
    by_hand = perturbed(Handing(make(Sled)), "mass", 1.5)
    assert (type(by_hand), by_hand.unwrapped.mass) == (Handing, 1.5)


# ---------------------------------------------------------------- attributes


@pytest.mark.parametrize(
    ("path", "nominal"),
    [
        *(("mass", 2.0), ("force", 3.0), ("_slip", 0.25), ("doubled", 4.0)),
        *(("body.drag.0", 0.5), ("body.options.lift", 1.5)),
    ],
)
def test_any_number_among_the_attributes(path, nominal):
    name = f"attr.{path}"
    p = perturbation(Sled(), name)
    assert (p.nominal, p.anew) == (nominal, False)
    assert perturbation(perturbed(Sled(), name, 0.75), name).nominal == 0.75
    assert perturbation(perturbed(Sled(), name, 2, relative=True), name).nominal == 2 * nominal


def test_an_attribute_acts_as_the_code_reads_it():
    env = perturbed(Sled(), "attr.mass", 6.0)
    env = perturbed(perturbed(env, "attr._slip", 0.0), "attr.body.drag.0", 0.0)
    env.reset(seed=0)
    assert env.step(1)[1] == pytest.approx(3.0 / 6.0)
    assert perturbed(Sled(), "attr.force", 6).unwrapped.force == 6
    assert type(perturbed(Sled(), "attr.force", 6).unwrapped.force) is int
    assert perturbed(Sled(), "attr.force", 0.5).unwrapped.force == 0.5
    light = Sled(mass=np.float32(2.0))
    assert type(perturbed(light, "attr.mass", 0.1).mass) is np.float32


def test_attributes_are_those_behind_wrappers():
    env = perturbed(gymnasium.wrappers.TimeLimit(Sled(), 3), "attr.mass", 6.0)
    assert env.unwrapped.mass == 6.0


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("name", 1.0, r"perturb attr\.name must be a number in Sled, got a str"),
        ("body", 1.0, r"attr\.body must be a number in Sled, got a SimpleNamespace"),
        ("body.drag", 1.0, r"attr\.body\.drag must be a number in Sled, got a ndarray"),
        ("body.drag.2", 1.0, r"attr\.body\.drag\.2 must name an attribute of Sled, got '2': Index"),
        ("body.drag.x", 1.0, r"must name an attribute of Sled, got 'x': ValueError"),
        ("mas", 1.0, r"attr\.mas must name an attribute of Sled, got 'mas'.*did you mean mass"),
        ("body.lift", 1.0, r"must name an attribute of Sled, got 'lift'"),
        ("body.options.lif", 1.0, r"must name an attribute of Sled, got 'lif'.*did you mean lift"),
        ("", 1.0, r"attr\. must name an attribute of Sled, got ''"),
        ("weight", 1.0, r"attr\.weight must be possible to set in Sled, got AttributeError: "),
        ("doubled", 101, r"must be possible to set in Sled, got ValueError: too heavy"),
        ("x", 1.0, r"perturb attr\.x must keep its value in Sled, got 0 after reset, not 1$"),
        ("mass", math.inf, r"perturb attr\.mass must be finite, got inf"),
        ("mass", True, r"perturb attr\.mass must be a number, got True"),
        ("render_mode", 1.0, r"attr\.render_mode must be a number in Sled, got a NoneType"),
    ],
)
def test_what_is_no_parameter_is_refused(path, value, message):
    with pytest.raises(ValueError, match=message):
        perturbed(Sled(), f"attr.{path}", value)


def test_whole_numbers_in_arrays_do_not_lose_their_fraction_in_silence():
    env = Sled()
    env.body.drag = np.array([1, 2])
    with pytest.raises(
        ValueError, match=r"must keep its value in Sled, got 0 after being set, not"
    ):
        perturbed(env, "attr.body.drag.0", 0.5)


def test_names_are_text_and_environments_environments():
    with pytest.raises(ValueError, match="perturb must be a name, got 3"):
        perturbed(Sled(), 3, 1.0)
    with pytest.raises(ValueError, match=r"env must be a gymnasium\.Env, not vectorised, got str"):
        perturbed("CartPole-v1", "length", 1.0)
    with pytest.raises(ValueError, match=r"env must be a gymnasium\.Env"):
        allowed(gymnasium.make_vec("CartPole-v1"))


def test_whether_a_change_acts():
    assert acts(Sled(), perturbed(Sled(), "attr.mass", 3.0))
    assert not acts(Sled(), Sled())
    assert not acts(Sled(), perturbed(Sled(), "attr.body.options.lift", 3.0))


# ---------------------------------------------------------------- declared


def test_declared_parameters(make):
    found = allowed(make(Loud))
    assert found["mass"] == "mass of the sled, kg: in (0, inf), nominal 2"
    assert found["drag"] == "drag: in [0, 1], nominal 0.5"
    assert found["doubled"] == "twice the mass: finite, nominal 4"
    assert list(found)[:3] == ["mass", "drag", "doubled"]
    assert found["attr.x"] == "attribute, where reset leaves it as it is: finite, nominal 0"
    assert "attr.mass" not in found
    anew = perturbed(make(Loud), "mass", 3.0).unwrapped  # by its keyword
    assert perturbation(make(Loud), "mass").anew
    assert anew.mass == 3.0
    assert perturbed(make(Loud), "drag", 0.25).unwrapped.body.drag[0] == 0.25
    assert perturbed(Loud(), "mass", 3.0).mass == 3.0  # not registered: by the attribute
    with pytest.raises(ValueError, match=r"perturb drag must be in \[0, 1\], got 1\.5"):
        perturbed(make(Loud), "drag", 1.5)
    with pytest.raises(ValueError, match=r"perturb mass must be in \(0, inf\) \(kg\), got 0"):
        perturbed(make(Loud), "mass", 0.0)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3.0, r"Sled\.perturbations\['mass'\] must be a text, or a dictionary of texts, got 3\.0"),
        ({"range": 3.0}, "must be a text, or a dictionary of texts"),
        (
            {"rang": "[0, 1]"},
            "must have keys among text, unit, range, attribute, got 'rang'; did y",
        ),
        ({"range": "0 to 1"}, r"must have a range such as \[0, 1\] or \(0, inf\), got '0 to 1'"),
        ({"range": "[1, 0]"}, r"must have a range such as .* got '\[1, 0\]'"),
        ({"range": ""}, r"must have a range such as .* got ''"),
        ({"attribute": "mas"}, "perturb mass must name an attribute of Sled, got 'mas'"),
    ],
)
def test_declarations_that_are_none(entry, message):
    with pytest.raises(ValueError, match=message):
        allowed(declaring(entry)())


def test_another_thing_of_that_name_declares_nothing():
    kind = type("Sled", (Sled,), {"perturbations": lambda self: None})
    assert "mass" not in perturbations(kind())


# ---------------------------------------------------------------- models


def model(slip):
    P = np.array([[[1 - slip, slip]], [[slip, 1 - slip]]])
    return FiniteMDP(P, np.array([[0.0], [1.0]]), np.array([1.0, 0.0]))


def test_models_are_equal_when_all_that_was_given_is():
    assert model(0.1) == model(0.1)
    assert hash(model(0.1)) == hash(model(0.1))
    assert model(0.1) != model(0.2)
    assert model(0.1) != "a model"
    P, r, mu = np.full((2, 1, 2), 0.5), np.zeros((2, 1)), np.array([1.0, 0.0])
    same = FiniteMDP(P, r, mu)
    for other in (
        FiniteMDP(P, r + 1, mu),
        FiniteMDP(P, r, mu[::-1]),
        FiniteMDP(P, r, mu, state_ids=[3, 4]),
        FiniteMDP(P, P * [0.0, 1.0], mu),
        FiniteMDP([[[0.5, 0.5]], [[0, 1]]], r, mu, terminal=[False, True]),
        FiniteMDP(np.full((2, 2, 2), 0.5), np.zeros((2, 2)), mu),
    ):
        assert same != other
    moves = np.eye(2)[:, None]
    listed = FiniteMDP(moves, r, mu, support=np.ones((2, 1, 2), bool))
    assert listed != FiniteMDP(moves, r, mu)
    assert listed == FiniteMDP(moves, r, mu, support=np.ones((2, 1, 2), bool))
