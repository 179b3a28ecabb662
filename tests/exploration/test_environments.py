"""Explorers in environments of others: what these show, and chance elsewhere, change nothing."""

import json
import random
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from examples.command_line import CHAIN, SMALL, load, read_json

from rlentropy.envs.double_chain import DoubleChainEnv
from rlentropy.errors import InputError
from rlentropy.exploration import entgame, random_policy
from rlentropy.log import Log

# ---------------------------------------------------------------- environments of others


def test_what_the_environment_shows_changes_nothing_that_is_learned(command_line):
    """With its model, a table, a false model or none: the same policy, bit for bit."""
    found = {}
    for name in ("Known", "Table", "Liar", "Hidden"):
        code, _, err = command_line(
            *("entgame", "--env-id", f"qa_outside:QA/{name}-v0", "--horizon", "12"),
            *("--episodes", "150", "--seed", "8", "--out", name),
        )
        assert (code, err) == (0, "")
        found[name] = load(name)["pi"]
    for name, pi in found.items():
        np.testing.assert_array_equal(pi, found["Hidden"], err_msg=name)
    known, table, hidden = (read_json(f"{n}/summary.json") for n in ("Known", "Table", "Hidden"))
    assert known["value_is_exact"] is table["value_is_exact"] is True
    assert hidden["value_is_exact"] is False
    assert "optimum" not in hidden or hidden["optimum"] is None
    for name in ("value", "mixture_value", "optimum"):
        assert known[name] == pytest.approx(table[name], abs=1e-9)
    assert known["env_steps"] == hidden["env_steps"] < 150 * 12


@pytest.mark.parametrize("shows", ["foreign-mdp", "array"])
def test_attributes_that_are_no_model_of_ours_hinder_nobody(command_line, shows):
    """Only a FiniteMDP or a toy-text table is a known model."""
    code, _, err = command_line(
        *("entgame", "--env-id", "qa_outside:QA/Hidden-v0", "--episodes", "20", "--out", "run"),
        *("--env-kwargs", json.dumps({"shows": shows})),
    )
    assert (code, err) == (0, "")
    assert read_json("run/summary.json")["value_is_exact"] is False


@pytest.mark.parametrize("shows", ["mdp", "nothing"])
def test_spaces_that_start_elsewhere(command_line, shows):
    results = []
    for first_state, first_action in ((0, 0), (10, -1), (-3, 5)):
        kwargs = {"shows": shows, "first_state": first_state, "first_action": first_action}
        code, _, err = command_line(
            *("entgame", "--env-id", "qa_outside:QA/Hidden-v0", "--env-kwargs", json.dumps(kwargs)),
            *("--episodes", "40", "--out", f"run{first_state}"),
        )
        assert (code, err) == (0, "")
        results.append(load(f"run{first_state}")["pi"])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("module", [entgame, random_policy])
def test_early_termination_rests_in_the_last_state(command_line, outside, module):
    gymnasium.make("qa_outside:QA/Hidden-v0")
    world = sys.modules["qa_outside"]
    world.STEPS[0] = 0
    env = gymnasium.make("QA/Hidden-v0")
    found = module.run(
        env, module.Config(horizon=12, episodes=70), np.random.default_rng(0), Log(None)
    )
    np.testing.assert_array_equal(found.visits.sum((1, 2)), np.full(12, 70))
    assert found.summary["env_steps"] == world.STEPS[0]
    assert found.visits[:, :-1].sum() == world.STEPS[0]  # real steps leave live states
    resting = found.visits[:, -1].sum(-1)
    assert (np.diff(resting) >= 0).all()
    assert resting[-1] > 0


class LeftStart(DoubleChainEnv):
    """Inherits a step that samples the model, but starts elsewhere."""

    def reset(self, **kwargs):
        _, info = super().reset(**kwargs)
        self.state = 0
        return np.int64(0), info


class Frozen(DoubleChainEnv):
    """Overrides step, and so must lose the promise that step samples the model."""

    def step(self, action):
        return np.int64(self.state), 0.0, False, False, {}


def test_a_subclass_that_starts_elsewhere_is_believed():
    found = entgame.run(
        LeftStart(), entgame.Config(horizon=4, episodes=5), np.random.default_rng(0), Log(None)
    )
    assert found.visits[0, 0].sum() == 5


def test_a_subclass_that_steps_otherwise_is_believed():
    found = entgame.run(
        Frozen(), entgame.Config(horizon=4, episodes=5), np.random.default_rng(0), Log(None)
    )
    assert found.visits[:, 15].sum() == 20


def test_a_wrapper_that_changes_actions_is_believed():
    env = gymnasium.wrappers.TransformAction(
        gymnasium.make(CHAIN, fail_probability=0.0), lambda a: 0, gymnasium.spaces.Discrete(2)
    )
    found = random_policy.run(
        env, random_policy.Config(horizon=9, episodes=5), np.random.default_rng(0), Log(None)
    )
    assert [int(np.argmax(x)) for x in found.visits.sum(2)] == list(range(15, 6, -1))


def test_a_model_that_contradicts_the_spaces_is_unknown():
    env = DoubleChainEnv(5)
    env.observation_space = gymnasium.spaces.Discrete(6)
    config = entgame.Config(horizon=3, episodes=2)
    summary = entgame.run(env, config, np.random.default_rng(0), Log(None)).summary
    assert not summary["value_is_exact"]
    assert "must be Discrete(5) as its model has it, got Discrete(6)" in summary["model_unknown"]
    config = entgame.Config(horizon=3, episodes=2, simulator="compiled")
    with pytest.raises(InputError, match=r"without a known model, got compiled: .*Discrete\(5\)"):
        entgame.run(env, config, np.random.default_rng(0), Log(None))


# ---------------------------------------------------------------- determinism


@pytest.mark.parametrize("simulator", ["gymnasium", "compiled"])
def test_same_seed_same_bytes_whatever_happens_elsewhere(command_line, simulator):
    results = []
    for k, seed in enumerate((3, 3, 4)):
        np.random.seed(k)  # noqa: NPY002
        random.seed(k)
        code, _, _ = command_line(
            *("entgame", *SMALL, "--episodes", "30", "--simulator", simulator),
            *("--seed", seed, "--out", f"run{k}", "--mixture-size", "4"),
        )
        assert code == 0
        np.random.random(k)  # noqa: NPY002
        lines = Path(f"run{k}/metrics.jsonl").read_text().splitlines()
        results.append(
            (
                Path(f"run{k}/policy.npz").read_bytes(),
                Path(f"run{k}/mixture.npz").read_bytes(),
                [line for line in lines if '"time/' not in line],
                {
                    x: y
                    for x, y in read_json(f"run{k}/summary.json").items()
                    if not x.endswith("_seconds")
                },
            )
        )
    assert results[0] == results[1]
    assert results[0][0] != results[2][0]
    assert results[0][3]["mixture_value"] != results[2][3]["mixture_value"]


@pytest.mark.parametrize("simulator", ["gymnasium", "compiled"])
def test_global_generators_are_left_alone(simulator):
    """The algorithm neither reads nor moves them (the command line's parser, tyro, does)."""
    env = gymnasium.make(CHAIN)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    before = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    config = entgame.Config(episodes=20, simulator=simulator)
    entgame.run(env, config, np.random.default_rng(0), Log(None))
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before  # noqa: NPY002


@pytest.mark.parametrize("simulator", ["gymnasium", "compiled"])
def test_looking_changes_nothing(command_line, simulator):
    """Neither the evaluation schedule nor that of checkpoints touches what is learned."""
    files = []
    for k, schedule in enumerate(
        ([], ["--eval-every", 1], ["--eval-every", 7, "--checkpoint-every", 3])
    ):
        code, _, _ = command_line(
            *("entgame", *SMALL, "--episodes", "25", "--simulator", simulator),
            *("--out", f"run{k}", *schedule),
        )
        assert code == 0
        files.append(Path(f"run{k}/policy.npz").read_bytes())
    assert files[0] == files[1] == files[2]
