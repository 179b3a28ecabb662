"""Which models are believed: behind which wrappers, and only while they agree with `step`."""

import copy
import functools
import json
import random
import time

import gymnasium
import numpy as np
import pytest
import scipy.sparse as sp
from gymnasium import wrappers
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv, generate_random_map
from gymnasium.envs.toy_text.taxi import TaxiEnv
from gymnasium.spaces import Discrete

from rlentropy import FiniteMDP
from rlentropy.cli import main
from rlentropy.envs.ring import RingEnv
from rlentropy.envs.tabular import TabularEnv
from rlentropy.errors import InputError
from rlentropy.exploration.setting import steps_by_its_model
from rlentropy.mdp import known, known_model, model_or_reason


def lake(**options):
    return gymnasium.make("FrozenLake-v1", is_slippery=False, **options)


# ---------------------------------------------------------------- wrappers


class Plain(gymnasium.Wrapper):
    """Overrides nothing."""


class Limit(wrappers.TimeLimit):
    """A passive wrapper's subclass that overrides nothing that matters."""

    def render(self):
        return None


class Fee(gymnasium.Wrapper):
    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        return observation, reward - 0.04, *rest


class LateLimit(wrappers.TimeLimit):
    def step(self, action):
        return super().step(0)


class Renamed(gymnasium.Wrapper):
    def __init__(self, env):
        super().__init__(env)
        self.action_space = Discrete(4, start=1)


def replaced(env):
    """A wrapper whose `step` is replaced on the instance."""
    wrapper = Plain(env)
    wrapper.step = lambda action: env.step(0)
    return wrapper


@pytest.mark.parametrize(
    "wrap",
    [
        Plain,
        lambda env: Limit(env, 5),
        wrappers.RecordEpisodeStatistics,
        wrappers.OrderEnforcing,
        wrappers.PassiveEnvChecker,
        lambda env: wrappers.TimeLimit(wrappers.RecordEpisodeStatistics(env), 7),
    ],
)
def test_passive_wrappers_leave_a_model_known(wrap) -> None:
    assert known_model(wrap(lake())).num_states == 16
    ring = gymnasium.make("rlentropy/Ring-v0")
    assert known_model(wrap(ring)) is ring.unwrapped.mdp


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("TransformReward", lambda env: wrappers.TransformReward(env, lambda r: r - 0.04)),
        ("ClipReward", lambda env: wrappers.ClipReward(env, 0.0, 0.5)),
        ("NormalizeReward", wrappers.NormalizeReward),
        ("StickyAction", lambda env: wrappers.StickyAction(env, 0.5)),
        ("RepeatAction", lambda env: wrappers.RepeatAction(env, 2)),
        ("TransformAction", lambda env: wrappers.TransformAction(env, lambda a: 0, None)),
        ("TransformObservation", lambda env: wrappers.TransformObservation(env, abs, None)),
        ("TimeAwareObservation", wrappers.TimeAwareObservation),
        ("Autoreset", wrappers.Autoreset),
        ("Fee", Fee),
        ("LateLimit", lambda env: LateLimit(env, 5)),
        ("Renamed", Renamed),
        ("Plain", replaced),
        ("Fee", lambda env: wrappers.TimeLimit(Plain(Fee(env)), 5)),
    ],
)
@pytest.mark.parametrize("make", [lake, lambda: gymnasium.make("rlentropy/Ring-v0")])
def test_any_other_wrapper_is_named(name, wrap, make) -> None:
    env = wrap(make())
    with pytest.raises(InputError, match=f"passive wrappers alone, got {name},"):
        FiniteMDP.from_env(env)
    model, why = model_or_reason(env)
    assert model is None
    assert name in why
    assert not steps_by_its_model(env)


def test_vectorised_environments_are_refused() -> None:
    with pytest.raises(InputError, match="not vectorised, got a SyncVectorEnv"):
        FiniteMDP.from_env(gymnasium.vector.SyncVectorEnv([lake]))


def test_a_compiled_simulator_leaves_no_recording_out() -> None:
    ring = gymnasium.make("rlentropy/Ring-v0")
    assert steps_by_its_model(Plain(ring))
    assert not steps_by_its_model(wrappers.RecordEpisodeStatistics(ring))


# ---------------------------------------------------------------- tables and steps


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("Taxi-v4", {}),
        ("Taxi-v4", {"is_rainy": True, "rainy_probability": 0.6}),
        ("FrozenLake-v1", {}),
        ("FrozenLake8x8-v1", {"success_rate": 0.9}),
        ("FrozenLake-v1", {"success_rate": 1.0, "reward_schedule": (5.0, -2.0, -0.1)}),
        ("FrozenLake-v1", {"desc": ["SFG", "HGF"], "is_slippery": False}),
        ("CliffWalking-v1", {}),
        ("CliffWalkingSlippery-v1", {}),
        ("Taxi-v4", {"render_mode": "rgb_array"}),
    ],
)
def test_toy_text_stays_known(env_id, options) -> None:
    model, why = model_or_reason(gymnasium.make(env_id, **options))
    assert model is not None, why


def changed(kind, step=None, start=None, **options):
    """An environment of a class that changes what `step` or `reset` return."""

    class Changed(kind):
        def reset(self, **seed):
            answer = super().reset(**seed)
            return start(self, answer) if start else answer

        def step(self, action):
            if step is None:
                return super().step(action)
            return step(self, action, super().step)

    return Changed(**options)


def paid(amount):
    def step(env, action, inner):
        observation, reward, *rest = inner(action)
        return observation, reward + amount * (reward > 0), *rest

    return step


def random_action(share):
    def step(env, action, inner):
        random_one = env.np_random.random() < share
        return inner(int(env.np_random.integers(env.action_space.n)) if random_one else action)

    return step


def endless(env, action, inner):
    observation, reward, _, *rest = inner(action)
    return observation, reward, False, *rest


def four_values(env, action, inner):
    return inner(action)[:4]


def broken(env, action, inner):
    raise KeyError("price")


def moved(env, answer):
    env.s = 3
    return 3, answer[1]


def fickle(env, action, inner):
    """Taxi's own passenger, without the flag that tells."""
    env.fickle_passenger = True
    answer = inner(action)
    env.fickle_passenger = False
    return answer


def fickle_start(env, answer):
    env.fickle_step = True
    return answer


RANDOM_MAP = ["SFFFFFFF", "FFFHFFFF", "FFFFFHFF", "FFFFFHFF", "FFFHFFFF", "FHHFFFHF", "FHFFHFHF",
              "FFFHFFFG"]  # fmt: skip


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (changed(FrozenLakeEnv, paid(1.0), desc=RANDOM_MAP), "with reward 2, where .* has 1"),
        (changed(FrozenLakeEnv, paid(1.0), desc=RANDOM_MAP, is_slippery=False), "with reward 2"),
        (changed(FrozenLakeEnv, endless), "without termination"),
        (changed(FrozenLakeEnv, random_action(0.3)), "no probability"),
        (changed(FrozenLakeEnv, start=moved), "reset starting in state 3, .* no probability"),
        (changed(FrozenLakeEnv, four_values), "step raising ValueError"),
        (changed(FrozenLakeEnv, broken), "step raising KeyError"),
        (changed(CliffWalkingEnv, random_action(0.05)), "no probability"),
        (changed(TaxiEnv, fickle, fickle_start), "no probability"),
        (changed(RingEnv, random_action(0.1), p=0.15), "no probability"),
        (changed(RingEnv, paid(1.0)), "with reward"),
        (TaxiEnv(fickle_passenger=True), "Taxi with a fickle passenger"),
        (TaxiEnv(fickle_passenger=True, is_rainy=True), "Taxi with a fickle passenger"),
    ],
)
def test_a_model_that_is_not_what_step_does(env, message) -> None:
    with pytest.raises(InputError, match=message):
        FiniteMDP.from_env(env)
    assert known_model(env) is None


def noisier(env, action, inner):
    """Draws from a ring of more noise; the model's successors stay possible."""
    env.mdp = NOISY
    answer = inner(action)
    env.mdp = CALM
    return answer


NOISY, CALM = RingEnv(p=0.4).mdp, RingEnv(p=0.1).mdp


def test_frequencies_that_differ_are_found_and_true_ones_never() -> None:
    with pytest.raises(InputError, match="frequencies that it makes as good as impossible"):
        FiniteMDP.from_env(changed(RingEnv, noisier, p=0.1))
    for p in np.linspace(0.0, 0.5, 11):
        assert known_model(changed(RingEnv, p=float(p))) is not None


def test_frequencies_count_over_all_rows_together(monkeypatch) -> None:
    """In a large lake hardly any (s, a) is met twice, but for the start's."""
    monkeypatch.setattr(known, "STARTS", 1)
    desc = generate_random_map(30, p=0.95, seed=4)
    other = FrozenLakeEnv(desc=desc, success_rate=0.8).P

    class Surer(FrozenLakeEnv):
        def step(self, action):
            self.P, mine = other, self.P
            answer = super().step(action)
            self.P = mine
            return answer

    with pytest.raises(InputError, match=r"frequencies .* likely against unlikely"):
        FiniteMDP.from_env(Surer(desc=desc))
    assert known_model(FrozenLakeEnv(desc=desc)) is not None


def test_start_frequencies() -> None:
    def mostly_zero(env, answer):
        env.state = 0 if env.np_random.random() < 0.5 else env.state
        return env.state, answer[1]

    with pytest.raises(InputError, match="frequencies"):
        FiniteMDP.from_env(changed(RingEnv, start=mostly_zero))


def test_bets_win_a_fortune_as_rarely_as_they_say(monkeypatch) -> None:
    """Ville's inequality at a false alarm rate that can be measured: at most 5 % of 2000."""
    monkeypatch.setattr(known, "FALSE_ALARM", 0.05)
    rng, alarms = np.random.default_rng(0), 0
    p = np.array([0.7, 0.2, 0.06, 0.04])
    for _ in range(2000):
        bets = known._Bets(2)
        try:
            for x in rng.choice(4, 100, p=p):
                bets.place(0, int(x), float(p[x]), "it")
        except InputError:
            alarms += 1
    assert 0 < alarms <= 100


def test_large_models_are_checked_in_bounded_time() -> None:
    n, A = 30_000, 4
    s = np.arange(n)[:, None]
    P = sp.csr_array(
        (np.ones(n * A), ((s + np.arange(1, A + 1)) % n).ravel(), np.arange(n * A + 1)),
        shape=(n * A, n),
    )
    mdp = FiniteMDP(P, np.ones((n, A)), np.eye(1, n)[0])
    assert known_model(changed(TabularEnv, mdp=mdp)) is mdp  # `changed` takes the mark away
    began = time.process_time()
    with pytest.raises(InputError, match="no probability"):
        FiniteMDP.from_env(changed(TabularEnv, random_action(0.2), mdp=mdp))
    assert time.process_time() - began < 2.0


def test_the_given_environment_and_the_generators_are_left_alone() -> None:
    class Global(FrozenLakeEnv):
        """Draws from the global generators too."""

        def step(self, action):
            np.random.random()  # noqa: NPY002
            random.random()
            return super().step(action)

    env = Global()
    env.reset(seed=5)
    env.step(1)
    before, others = copy.deepcopy(vars(env)), (np.random.get_state(), random.getstate())  # noqa: NPY002
    generator = env.np_random.bit_generator.state
    assert known_model(env) is not None
    assert env.np_random.bit_generator.state == generator
    assert random.getstate() == others[1]
    np.testing.assert_equal(np.random.get_state(), others[0])  # noqa: NPY002
    assert {k: v for k, v in vars(env).items() if k in ("s", "lastaction", "P")} == {
        k: before[k] for k in ("s", "lastaction", "P")
    }


def test_an_environment_that_cannot_be_copied_is_made_again() -> None:
    class Locked(FrozenLakeEnv):
        def __deepcopy__(self, memo):
            raise TypeError("cannot pickle a lock")

    gymnasium.register("Known/Locked-v0", entry_point=Locked)
    assert known_model(gymnasium.make("Known/Locked-v0")) is not None
    with pytest.raises(InputError, match=r"must be copied to compare .* cannot pickle a lock"):
        FiniteMDP.from_env(Locked())


def test_a_model_that_is_exchanged_is_the_one_that_is_drawn_from() -> None:
    env = RingEnv(num_states=6, layout="zone")
    P = np.roll(np.eye(6), 1, axis=1)[:, None].repeat(3, 1)
    env.mdp = FiniteMDP(P, np.zeros((6, 3)), np.eye(6)[4])
    assert known_model(env) is env.mdp
    assert [env.reset(seed=seed)[0] for seed in range(5)] == [4] * 5
    assert env.step(0)[0] == 5


def test_the_mark_of_a_step_is_not_passed_on() -> None:
    class Wrapped(RingEnv):
        @functools.wraps(RingEnv.step)
        def step(self, action):
            observation, reward, *rest = super().step(action)
            return observation, reward + 1.0, *rest

    class Renumbered(RingEnv):
        def __init__(self):
            super().__init__()
            self.observation_space = Discrete(14, start=1)

    for env in (Wrapped(), Renumbered()):
        assert known_model(env) is None
        assert not steps_by_its_model(env)


@pytest.mark.parametrize("kind", [int, np.int64, np.array])
def test_spaces_may_start_anywhere_and_answers_be_of_any_number_type(kind) -> None:
    class Two(gymnasium.Env):
        observation_space, action_space = Discrete(2, start=1), Discrete(1, start=3)
        P = ({0: [(1.0, 1, 0.5, False)]}, {0: [(1.0, 0, 0.0, False)]})

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.s = 0
            return kind(1), {}

        def step(self, action):
            assert action == 3
            self.s = 1 - self.s
            return kind(self.s + 1), np.float32(0.5 * self.s), np.bool_(False), True, {}

    assert known_model(Two()).mu.tolist() == [1.0, 0.0]


def test_a_stand_in_that_forwards_attributes_is_judged_by_its_own_steps() -> None:
    class Proxy(gymnasium.Env):
        """Not a gymnasium.Wrapper: what it forwards looks like its own."""

        def __init__(self, env, fee):
            self.env, self.fee = env, fee
            self.observation_space, self.action_space = env.observation_space, env.action_space

        def __getattr__(self, name):
            if name == "env":
                raise AttributeError(name)
            return getattr(self.env.unwrapped, name)

        def reset(self, **options):
            return self.env.reset(**options)

        def step(self, action):
            observation, reward, *rest = self.env.step(action)
            return observation, reward - self.fee, *rest

    for inner in (lake(), gymnasium.make("rlentropy/Ring-v0")):
        assert known_model(Proxy(inner, 0.0)) is not None
        assert known_model(Proxy(inner, 0.04)) is None


# ---------------------------------------------------------------- attributes of any kind


class Walk(gymnasium.Env):
    """Four states, no model."""

    observation_space, action_space = Discrete(4), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = 0
        return 0, {}

    def step(self, action):
        self.x = (self.x + 1 + action) % 4
        return self.x, 0.0, False, False, {}


class Raises:
    @property
    def P(self):
        raise RuntimeError("no market today")

    mdp = P


NEXT = {s: {a: [(1.0, (s + 1 + a) % 4, 0.0, False)] for a in range(2)} for s in range(4)}
ODD = {
    "prices": {"price": 1.0, "demand": 2.0},
    "numbers": [1.0, 2.0],
    "empty": {},
    "triples": {s: {a: [(1.0, 0, 0.0)] for a in range(2)} for s in range(4)},
    "no entries": {s: {a: [] for a in range(2)} for s in range(4)},
    "empty rows": [[], [], [], []],
    "text": "abcd",
    "array": np.full((4, 2, 4), 0.25),
    "function": len,
    "words": {s: {a: [("one", "two", "three", "four")] for a in range(2)} for s in range(4)},
    "complex": {s: {a: [(1j, 0, 0.0, False)] for a in range(2)} for s in range(4)},
    "halves": {s: {a: [(1.0, 0.5, 0.0, False)] for a in range(2)} for s in range(4)},
    "larger": {s: {a: [(1.0, 0, 0.0, False)] for a in range(2)} for s in range(5)},
    "nested": [[[[1.0]]]],
    "number": 3,
}


@pytest.mark.parametrize("P", ODD.values(), ids=list(ODD))
@pytest.mark.parametrize("name", ["P", "mdp"])
def test_an_attribute_of_that_name_may_hold_anything(name, P) -> None:
    env = type("Odd", (Walk,), {name: P})()
    model, why = model_or_reason(env)
    assert model is None
    assert why
    with pytest.raises(InputError):
        FiniteMDP.from_env(env)


def test_a_flag_of_another_meaning_is_no_passenger() -> None:
    for flag in (False, 0, None, "yes", np.ones(2)):
        assert known_model(type("Good", (Walk,), {"P": NEXT, "fickle_passenger": flag})())


def test_a_good_table_is_known_and_a_raising_property_unknown() -> None:
    assert known_model(type("Good", (Walk,), {"P": NEXT})()) is not None
    assert known_model(type("Raising", (Raises, Walk), {})()) is None


# ---------------------------------------------------------------- commands

gymnasium.register("Known/Fee-v0", entry_point=lambda: Fee(lake()), max_episode_steps=20)
gymnasium.register(
    "Known/Prices-v0", entry_point=type("Odd", (Walk,), {"P": ODD["prices"]}), max_episode_steps=5
)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "reason"),
    [
        ("Known/Fee-v0", "{}", "got Fee, which may change"),
        ("Taxi-v4", '{"fickle_passenger": true}', "fickle passenger"),
        ("Known/Prices-v0", "{}", "must be a toy-text table"),
    ],
)
def test_commands_say_why_a_model_is_unknown(tmp_path, capsys, env_id, kwargs, reason) -> None:
    where = ["--env-id", env_id, "--env-kwargs", kwargs, "--quiet", "--out"]
    played = tmp_path / "played"
    assert main(["random-policy", *where, str(played), "--horizon", "4", "--episodes", "3"]) == 0
    summary = json.loads((played / "summary.json").read_text())
    assert summary["value_is_exact"] is False
    assert "optimum" not in summary
    assert reason in summary["model_unknown"]
    data = str(tmp_path / "d.npz")
    collect = ["--steps", "60", "--horizon", "10", "--data", data, "--quiet"]
    assert main(["collect", *where[:4], *collect]) == 0
    learnt = tmp_path / "learnt"
    fit = ["--data", data, "--updates", "5", "--episodes", "2"]
    assert main(["fqi", *where, str(learnt), *fit]) == 0
    summary = json.loads((learnt / "summary.json").read_text())
    assert "optimum" not in summary
    assert reason in summary["model_unknown"]
    for command in (["robust-planning"], ["robust-pg"], ["optimal-exploration", "--horizon", "4"]):
        assert main([*command, *where, str(tmp_path / "planned")]) == 2
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1


class Both(gymnasium.Env):
    """State 1 is entered with termination by (0, 0) and without by (0, 1)."""

    observation_space, action_space = Discrete(3), Discrete(2)
    P = (
        {0: [(0.5, 1, 5.0, True), (0.5, 0, 1.0, False)], 1: [(1.0, 1, 2.0, False)]},
        {0: [(1.0, 0, 3.0, False)], 1: [(1.0, 2, 7.0, True)]},
        {0: [(1.0, 2, 0.0, True)], 1: [(1.0, 2, 0.0, True)]},
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = 0
        return 0, {}

    def step(self, action):
        entries = self.P[self.s][int(action)]
        k = self.np_random.choice(len(entries), p=[p for p, *_ in entries])
        _, self.s, reward, terminated = entries[k]
        return self.s, reward, terminated, False, {}


gymnasium.register("Known/Both-v0", entry_point=Both, max_episode_steps=20)


def test_ends_that_depend_on_the_transition_are_planned_exactly(tmp_path, capsys) -> None:
    where = ["--env-id", "Known/Both-v0", "--quiet", "--out", str(tmp_path / "pg")]
    options = ["--risk", "nominal", "--gamma", "0.5", "--tolerance", "1e-6"]
    assert main(["robust-pg", *where, *options, "--updates", "500"]) == 0
    summary = json.loads((tmp_path / "pg" / "summary.json").read_text())
    # 1 ends with 7; 0 goes to 1: 2 + 7 / 2, better than 2.5 + (1 + V0 / 2) / 2
    assert summary["optimum"] == pytest.approx(5.5)
    assert summary["value"] == pytest.approx(5.5, abs=1e-5)
    pi = np.load(tmp_path / "pg" / "policy.npz")["pi"]
    assert pi.shape == (3, 2)  # the environment's own states
    assert pi[:2].argmax(1).tolist() == [1, 1]
    where = ["--run", str(tmp_path / "pg"), "--env-id", "Known/Both-v0", "--out"]
    assert main(["evaluate", *where, str(tmp_path / "e"), "--episodes", "3", "--quiet"]) == 0
    where = ["--env-id", "Known/Both-v0", "--quiet", "--out", str(tmp_path / "x")]
    assert main(["random-policy", *where, "--horizon", "4", "--episodes", "3"]) == 0
    summary = json.loads((tmp_path / "x" / "summary.json").read_text())
    assert "entered both with and without termination" in summary["model_unknown"]
    assert main(["optimal-exploration", *where[:-1], str(tmp_path / "y"), "--horizon", "4"]) == 2
    assert "entered both with and without termination" in capsys.readouterr().err
