"""Environments in other processes, against the same ones in this process."""

import os
import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import TransformObservation

pytest.importorskip("torch")

from examples.command_line import ROOT, check_refusal

from rlentropy.errors import InputError
from rlentropy.exploration import neural_random
from rlentropy.log import Log
from rlentropy.neural import copies
from rlentropy.neural.copies import Workers
from rlentropy.neural.episodes import Player
from rlentropy.neural.rollouts import VectorEnv
from rlentropy.neural.spaces import Encoder, make_head
from rlentropy.policies import random
from rlentropy.robust import actor_critic

LINE = (
    *("robust-actor-critic", "--env-id", "CartPole-v1", "--num-envs", "3", "--rollout-steps"),
    *("32", "--hidden", "8", "--evaluation-episodes", "2", "--final-episodes", "3"),
)


@pytest.fixture(scope="module")
def cart():
    return gymnasium.make("CartPole-v1")


def children():
    """Processes that live below this one."""
    found = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True)
    parents = {}
    for line in found.stdout.splitlines():
        pid, parent = map(int, line.split())
        parents.setdefault(parent, []).append(pid)
    below, left = [], [os.getpid()]
    while left:
        more = parents.get(left.pop(), [])
        below, left = below + more, left + more
    return set(below)


def rolled_out(env, workers):
    """Two batches of a policy of noise, the second one after a restart."""
    head, encode = make_head(env.action_space), Encoder.of(env.observation_space)
    rng = np.random.default_rng(1)

    def vector():
        made = copies.copies(env, 5, 0.2, 17, workers)
        return VectorEnv(made, encode, np.random.default_rng(0))

    def choose(rows, t):
        return head.choose(
            np.zeros((len(rows), head.num_outputs), np.float32), head.noise(rng, (5,))
        )

    one, two = vector(), vector()
    parts = [one.roll_out(20, head, choose)]
    two.load_state_dict(one.state_dict())
    one.close()
    parts.append(two.roll_out(20, head, choose))
    two.close()
    return parts


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", None])
def test_processes_play_the_same(env_id):
    env = gymnasium.make(env_id) if env_id else CartPoleEnv()  # one without a spec
    for one, other in zip(rolled_out(env, 0), rolled_out(env, 2), strict=True):
        for name, values in vars(one).items():
            if name == "truncated":
                assert [x[:2] for x in values] == [x[:2] for x in other.truncated]
                np.testing.assert_array_equal(*([x[2] for x in p.truncated] for p in (one, other)))
            else:
                np.testing.assert_array_equal(values, getattr(other, name), err_msg=name)


def test_players_play_the_same(cart):
    found = []
    for workers in (0, 2, 9):
        player = Player(cart, 4, 30, workers)
        found.append(player.play(random(cart), range(6), np.random.default_rng(2)))
        player.close()
    for other in found[1:]:
        for one, another in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (actor_critic, {"steps": 400, "num_envs": 3, "rollout_steps": 40, "final_episodes": 3}),
        (neural_random, {"steps": 200, "horizon": 50, "final_episodes": 3, "episodes": 2}),
    ],
)
def test_runs_find_the_same(cart, module, options):
    options = options | {"evaluation_episodes": 2}
    found = []
    for workers in (0, 2):
        config = module.Config(**options, env_workers=workers)
        found.append(module.run(cart, config, np.random.default_rng(0), Log(None)))
    assert found[0].summary == found[1].summary
    assert bytes(found[0].network["flat"].numpy()) == bytes(found[1].network["flat"].numpy())


def test_nothing_is_left_when_they_are_closed(cart):
    workers = Workers(cart, 3, 0.0, None, 2)
    assert len(workers) == 3
    assert [p.is_alive() for p in workers.processes] == [True, True]
    workers.reset([0, 2], [0, 1])
    workers.close()
    workers.close()
    assert [p.exitcode for p in workers.processes] == [0, 0]


def test_a_process_that_does_not_end_is_ended(cart, monkeypatch):
    monkeypatch.setattr(copies, "SECONDS", 0.1)
    workers = Workers(cart, 1, 0.0, None, 1)
    os.kill(workers.processes[0].pid, signal.SIGSTOP)
    workers.close()
    assert workers.processes[0].exitcode == -signal.SIGKILL


def test_a_killed_process_is_one_line(cart):
    workers = Workers(cart, 2, 0.0, None, 2)
    workers.reset([0, 1], [0, 0])
    workers.processes[1].kill()
    workers.processes[1].join()
    match = "env_workers must live until the run ends, got one that ended by SIGKILL: --resume"
    with pytest.raises(InputError, match=match):
        workers.step([0, 1], [0, 0])
    workers.close()


def test_errors_come_as_they_are(cart):
    broken = TransformObservation(CartPoleEnv(), lambda x: x * np.float32(np.nan), None)
    workers = Workers(broken, 2, 0.0, None, 2)
    with pytest.raises(InputError, match=r"must be finite, got nan .* at reset in Cart"):
        workers.reset([0, 1], [0, 1])
    workers.close()
    workers = Workers(cart, 2, 0.0, None, 1)
    workers.reset([0, 1], [0, 1])
    with pytest.raises(AssertionError, match="invalid") as caught:
        workers.step([0, 1], [0, 7])
    assert "in step" in caught.value.__notes__[0]  # of the environment's own code
    assert workers.step([0], [1])[0][1] == 1.0  # whoever catches it can go on
    workers.close()


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def test_errors_that_can_not_be_sent_are_told():
    found = copies.sendable(Odd(1, 2))
    assert (type(found), str(found)) == (RuntimeError, "Odd: 1 and 2")


def test_a_process_of_a_sweep_has_no_processes(cart, monkeypatch):
    monkeypatch.setattr(copies, "current_process", lambda: type("Daemon", (), {"daemon": True}))
    with pytest.raises(InputError, match=r"env_workers must be 0 in a run of a sweep, .* 2"):
        Workers(cart, 2, 0.0, None, 2)


def test_an_environment_that_can_not_be_sent(monkeypatch):
    env = CartPoleEnv()
    env.file = sys.stdout
    with pytest.raises(InputError, match="env must be one that can be sent to a process"):
        Workers(env, 2, 0.0, None, 2)


def test_env_workers_is_a_number(command_line):
    line = ("--env-workers", "-1", "--out", "run")
    code, _, err = command_line(*LINE, *line)
    check_refusal(code, err, "env_workers must be >= 0")


def test_a_run_resumes_with_processes_and_to_the_same_bits(command_line, tmp_path):
    for out, sizes in (("one", (0,)), ("two", (0, 2))):
        for k, workers in enumerate(sizes):
            steps = "192" if len(sizes) - k == 1 else "96"
            more = ("--steps", steps, "--env-workers", str(workers), "--out", out, "--quiet")
            assert command_line(*LINE, *more, "--resume") == (0, "", "")
    files = [(tmp_path / out / "policy.pt").read_bytes() for out in ("one", "two")]
    assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind(tmp_path, number):
    """By Ctrl-C, which all processes get, or when the run is killed."""
    before = children()
    line = [*LINE, "--steps", "10000000", "--env-workers", "2", "--out", "run", "--quiet"]
    line += ["--checkpoint-every", "96"]
    run = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *line],
        cwd=tmp_path,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "run/checkpoint/state.npz").exists():
        assert run.poll() is None
        time.sleep(0.1)
    group = [pid for pid in children() - before if pid != run.pid]
    assert len(group) >= 2
    if number == signal.SIGINT:
        os.killpg(run.pid, number)
    else:
        run.kill()
    told = run.communicate(timeout=100)[1]
    if number == signal.SIGINT:
        assert (run.returncode, told) == (
            130,
            "interrupted; --resume goes on from the last checkpoint\n",
        )
    until = time.monotonic() + 20
    while (left := [pid for pid in group if alive(pid)]) and time.monotonic() < until:
        time.sleep(0.1)
    assert left == []


def alive(pid):
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")
