"""`collect` from outside: what it draws, and that no kill, break or full disk changes that."""

import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from examples import mixtures
from gymnasium.spaces import Box, Discrete

from rlentropy import cli, data
from rlentropy.commands import collect
from rlentropy.commands.collect import Config
from rlentropy.data import Batch, load, save
from rlentropy.envs.tabular import TabularEnv
from rlentropy.errors import InputError
from rlentropy.intervals import mean_ci95
from rlentropy.mdp import FiniteMDP
from rlentropy.wrappers import make_env

CHAIN = {"env_id": "rlentropy/DoubleChain-v0", "env_kwargs": '{"num_states": 9}', "horizon": 12}
LAKE = {"env_id": "FrozenLake-v1", "horizon": 30, "num_envs": 5}
POLE = {"env_id": "CartPole-v1", "num_envs": 3}
SIMULATORS = ("compiled", "gymnasium")


@pytest.fixture(autouse=True)
def _small_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "BLOCK", 100)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def collected(name="data.npz", **options):
    assert collect.run(Config(data=str(name), quiet=True, **options)) == 0
    return load(name)


def arguments(name, *flags, **options):
    given = [f"--{k.replace('_', '-')}={v}" for k, v in (options | {"data": name}).items()]
    return ["collect", *given, "--quiet", *flags]


def same(found, wanted):
    for key, x, y in zip(Batch._fields, found.columns, wanted.columns, strict=True):
        assert x.dtype == y.dtype, key
        np.testing.assert_array_equal(x, y, err_msg=key)
    assert found.metadata == wanted.metadata


def run_folder(path, env_id, env_kwargs="{}", **arrays):
    """What a finished exploration run leaves, with these tables."""
    path.mkdir()
    settings = {"env_id": env_id, "env_kwargs": env_kwargs, "seed": 0}
    (path / "config.json").write_text(json.dumps({"command": "entgame", "settings": settings}))
    summary = {"command": "entgame", **settings, "finished": True}
    (path / "summary.json").write_text(json.dumps(summary))
    for name, pi in arrays.items():
        np.savez(path / f"{name}.npz", pi=pi)
    return str(path)


def within(found, wanted, error, factor=5.0):
    """Whether means agree within so many standard errors."""
    assert (abs(np.asarray(found) - wanted) <= factor * np.asarray(error) + 1e-12).all()


# ---------------------------------------------------------------- what is drawn


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_transitions_are_those_of_the_model(simulator):
    env = make_env(CHAIN["env_id"], CHAIN["env_kwargs"], False)
    mdp = env.unwrapped.mdp
    found = collected(**CHAIN, steps=3000, simulator=simulator)
    s, a, r, s2, terminations, truncations = found.columns
    P = mdp.P.toarray().reshape(9, 2, 9)
    assert (P[s, a, s2] > 0.0).all()
    np.testing.assert_allclose(r, mdp.r[s, a])
    np.testing.assert_array_equal(terminations, mdp.terminal[s2])
    lengths = np.diff(np.append(found.episode_starts, 3000))
    assert (lengths[:-1] == 12).all()
    assert truncations.sum() == len(lengths)
    np.testing.assert_allclose(np.bincount(s[found.episode_starts], minlength=9) > 0, mdp.mu > 0)
    n = np.zeros_like(P)
    np.add.at(n, (s, a, s2), 1)
    N = n.sum(2, keepdims=True)
    within(n, N * P, np.sqrt(N * P * (1 - P)))
    assert (found.observation_space, found.action_space) == (Discrete(9), Discrete(2))
    assert not found.guessed


def episode_statistics(found):
    """Per episode: length, return, terminated, visits of each state; (episodes, ·)."""
    starts = found.episode_starts
    lengths = np.diff(np.append(starts, len(found)))
    ends = np.append(starts[1:], len(found)) - 1
    owner = np.repeat(np.arange(len(starts)), lengths)
    visits = np.zeros((len(starts), found.observation_space.n))
    np.add.at(visits, (owner, found.observations), 1)
    columns = [lengths, found.returns(), found.terminations[ends], found.truncations[ends]]
    return np.column_stack([*columns, visits])[:-1]


def test_both_simulators_draw_from_one_law():
    """FrozenLake: holes, a goal, rewards on entering it, and a horizon that few episodes reach."""
    options = LAKE | {"steps": 12_000, "seed": 3}
    x, y = (
        episode_statistics(collected(f"{simulator}.npz", **options, simulator=simulator))
        for simulator in SIMULATORS
    )
    assert x[:, 2].any()
    assert x[:, 3].any()
    error = np.sqrt(x.var(0) / len(x) + y.var(0) / len(y))
    within(x.mean(0), y.mean(0), error)


def test_rewards_that_depend_on_the_successor():
    rng = np.random.default_rng(0)
    P, r = rng.dirichlet(np.ones(4), size=(4, 2)), rng.normal(size=(4, 2, 4))
    P[P < 0.1] = 0.0
    P /= P.sum(2, keepdims=True)
    mdp = FiniteMDP(P, r, np.full(4, 0.25))
    s, a, s2 = np.nonzero(P)
    np.testing.assert_array_equal(collect.transition_rewards(mdp, s, a, s2), r[s, a, s2])


class StartsAtItsEnd(TabularEnv):
    """Half of the episodes begin in a terminal state."""

    def __init__(self):
        P = np.zeros((3, 2, 3))
        P[0, :, 1], P[1, :, 2], P[2, :, 2] = 1.0, 1.0, 1.0
        terminal = np.array([False, False, True])
        super().__init__(FiniteMDP(P, np.zeros((3, 2)), [0.5, 0.0, 0.5], terminal=terminal))


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_an_episode_that_begins_at_its_end_has_one_step(simulator):
    if "Collect/StartsAtItsEnd-v0" not in gymnasium.registry:
        gymnasium.register("Collect/StartsAtItsEnd-v0", StartsAtItsEnd)
    found = collected(env_id="Collect/StartsAtItsEnd-v0", horizon=5, steps=90, simulator=simulator)
    first = found.observations[found.episode_starts]
    lengths = np.diff(np.append(found.episode_starts, 90))
    np.testing.assert_array_equal(lengths[:-1], np.where(first == 2, 1, 2)[:-1])
    np.testing.assert_array_equal(found.terminations, found.next_observations == 2)


def test_the_last_episode_is_cut_at_the_budget():
    for simulator in SIMULATORS:
        for steps in (1, 5, 12, 30):
            found = collected(f"{simulator}{steps}.npz", **CHAIN, steps=steps, simulator=simulator)
            assert len(found) == steps
            assert found.truncations[-1]
            assert found.truncations.sum() == -(-steps // 12)


def test_a_horizon_beyond_the_limit_of_the_environment_changes_nothing():
    short = collected("a.npz", **POLE | {"horizon": 9}, steps=200)
    assert np.diff(short.episode_starts).max() == 9
    limit = collected("b.npz", **POLE, steps=200)
    same_data = collected("c.npz", **POLE | {"horizon": 10_000}, steps=200)
    same(same_data, limit)


def test_actions_of_a_box():
    options = {"env_id": "Pendulum-v1", "num_envs": 2, "horizon": 50, "steps": 400}
    found = collected("a.npz", **options)
    assert found.action_space == Box(-2.0, 2.0, (1,))
    assert found.actions.dtype == found.observations.dtype == np.float32
    within(found.actions.mean(), 0.0, 4 / np.sqrt(12) / 20)
    within((found.actions**2).mean(), 4 / 3, (4 / 3) * np.sqrt(0.8) / 20)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_the_share_of_random_actions(tmp_path, simulator):
    """Action a in a policy that always plays 1: ε / A, and 1 - ε more for 1."""
    pi = np.zeros((9, 2))
    pi[:, 1] = 1.0
    policy = run_folder(tmp_path / "run", CHAIN["env_id"], CHAIN["env_kwargs"], policy=pi)
    for epsilon in (0.0, 0.3, 1.0):
        found = collected(
            f"{epsilon}.npz", **CHAIN, steps=4000, simulator=simulator, policy=policy,
            epsilon=epsilon,
        )  # fmt: skip
        share = 1 - epsilon / 2
        within(found.actions.mean(), share, np.sqrt(share * (1 - share) / 4000))


def test_the_share_of_random_actions_in_a_box(monkeypatch):
    class Still:
        def begin(self, index, rng):
            pass

        def act(self, observations, t, rng):
            return np.zeros((len(t), 1), np.float32)

    monkeypatch.setattr(collect.stored_policies, "load", lambda *_: Still())
    found = collected(
        env_id="Pendulum-v1", num_envs=2, steps=2000, policy="any", epsilon=0.25, horizon=40
    )
    within((found.actions != 0.0).mean(), 0.25, np.sqrt(0.25 * 0.75 / 2000))


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_policy_starts_over_beyond_its_horizon(tmp_path, simulator):
    pi = np.zeros((3, 9, 2))
    pi[0, :, 1] = pi[1:, :, 0] = 1.0
    policy = run_folder(tmp_path / "run", CHAIN["env_id"], CHAIN["env_kwargs"], policy=pi)
    found = collected(**CHAIN, steps=120, simulator=simulator, policy=policy)
    np.testing.assert_array_equal(found.actions, np.arange(120) % 12 % 3 == 0)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_mixture_visits_states_as_its_occupancy_says(tmp_path, simulator):
    """Policies are drawn for a whole episode, which no one policy with these marginals does."""
    H, S, A = 12, 9, 2
    rng = np.random.default_rng(1)
    pi = rng.dirichlet(np.full(A, 0.3), size=(3, H, S))
    pi[0, ..., 0], pi[0, ..., 1] = 1.0, 0.0
    pi[1, ..., 0], pi[1, ..., 1] = 0.0, 1.0
    policy = run_folder(
        tmp_path / "run", CHAIN["env_id"], CHAIN["env_kwargs"], policy=pi.mean(0),
        mixture=pi.astype(np.float32),
    )  # fmt: skip
    steps = H * 1500
    found = collected(
        policy=policy, mixture=True, horizon=H, steps=steps, simulator=simulator, num_envs=20
    )
    assert found.metadata["collections"][0]["settings"]["env_id"] == CHAIN["env_id"]
    mdp = make_env(CHAIN["env_id"], CHAIN["env_kwargs"], False).unwrapped.mdp
    P, d = mdp.P.toarray().reshape(S, A, S), np.zeros((H, S, A))
    for k in range(3):
        mu = mdp.mu
        for h in range(H):
            here = mu[:, None] * pi[k, h]
            d[h] += here / 3
            mu = np.einsum("sa,sat->t", here, P)
    visits = np.zeros((H, S, A))
    np.add.at(visits, (np.arange(steps) % H, found.observations, found.actions), 1)
    within(visits / 1500, d, np.sqrt(d * (1 - d) / 1500) + 1e-3)
    constant = (np.ptp(found.actions.reshape(1500, H), axis=1) == 0).mean()
    assert constant > 2 / 3 - 5 * np.sqrt(2 / 9 / 1500)  # by independent draws: about 2^-11


# ---------------------------------------------------------------- mixtures of networks

TORQUES = np.array([-2.0, 0.0, 2.0])  # the grid of three actions of Pendulum


@pytest.fixture
def swinging(tmp_path, monkeypatch):
    """A run whose mixture plays one torque an episode, and whose last iterate the third."""
    mixtures.register(monkeypatch)
    return mixtures.write_run(tmp_path / "run", "Pendulum-v1")


SWING = {"horizon": 20, "num_envs": 4}


def test_each_episode_is_of_one_network_of_the_mixture(swinging):
    found = collected(**SWING, policy=swinging, mixture=True, steps=4000)
    torques = found.actions.reshape(200, 20)
    assert (np.ptp(torques, axis=1) == 0.0).all()
    assert set(torques[:, 0]) == set(TORQUES[:2])
    within((torques[:, 0] == TORQUES[0]).mean(), 0.5, 0.5 / np.sqrt(200))
    last = collected("last.npz", **SWING, policy=swinging, steps=100)
    assert (last.actions == TORQUES[2]).all()


def test_the_actions_of_networks_are_held(tmp_path, monkeypatch):
    mixtures.register(monkeypatch)
    run = mixtures.write_run(tmp_path / "run", "Pendulum-v1", sharp=0.0)  # uniform
    found = collected(**SWING | {"horizon": 18}, policy=run, mixture=True, steps=1800)
    torques = found.actions.reshape(100, 18)
    for decision in np.split(torques, [4, 8, 12, 16], axis=1):
        assert (np.ptp(decision, axis=1) == 0.0).all()
    kept = (torques[:, 3:-1:4] == torques[:, 4::4]).mean()
    within(kept, 1 / 3, np.sqrt(2 / 9 / 400))


def test_half_and_resume_of_a_mixture_of_networks_is_the_whole(tmp_path, monkeypatch):
    mixtures.register(monkeypatch)
    run = mixtures.write_run(tmp_path / "run", "Pendulum-v1", sharp=0.5, members=(0, 1, 2))
    options = SWING | {"policy": run, "mixture": True, "epsilon": 0.1}
    wanted = collected("whole.npz", **options, steps=500)
    for n, steps in enumerate((170, 240)):
        mine = f"data{n}.npz"
        collected(mine, **options, steps=steps, checkpoint_every=90)
        same(collected(mine, **options, steps=500, resume=True), wanted)


def test_another_mixture_in_the_same_folder_is_refused(swinging, tmp_path):
    collected(**SWING, policy=swinging, mixture=True, steps=50)
    shutil.rmtree(swinging)
    mixtures.write_run(swinging, "Pendulum-v1", members=(2, 1))
    with pytest.raises(InputError, match="policy_crc32 must be"):
        collected(**SWING, policy=swinging, mixture=True, steps=90, resume=True)


def test_one_network_is_no_mixture(tmp_path, monkeypatch):
    mixtures.register(monkeypatch)
    run = mixtures.write_run(tmp_path / "run", "Pendulum-v1", members=())
    assert len(collected(**SWING, policy=run, steps=5)) == 5
    with pytest.raises(InputError, match="policy: run must hold a mixture, got one network alone"):
        collected("b.npz", **SWING, policy=run, mixture=True, steps=5)


def test_seeds_matter_and_nothing_else_does(tmp_path):
    for options in (CHAIN, LAKE):
        wanted = collected("a.npz", **options, steps=300, seed=1)
        np.random.seed(7)  # noqa: NPY002
        same(collected("b.npz", **options, steps=300, seed=1, checkpoint_every=50), wanted)
        other = collected("c.npz", **options, steps=300, seed=2)
        assert (other.observations != wanted.observations).any()
        for name in "abc":
            os.unlink(f"{name}.npz")


# ---------------------------------------------------------------- going on


WAYS = {
    "compiled": CHAIN | {"epsilon": 0.2},
    "gymnasium": LAKE | {"simulator": "gymnasium"},
    "continuous": POLE,
}


def skip_without(name):
    if not name.endswith(".npz"):
        pytest.importorskip("h5py")
    if name.endswith("-v0"):
        pytest.importorskip("minari")


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("name", ["data.npz", "data.hdf5", "lab/data-v0"])
def test_half_and_resume_is_the_whole(way, name):
    """run(2n) == run(n) + resume; 250 cuts an episode, 252 ends with one on the chain."""
    skip_without(name)
    wanted = collected(f"whole-{way}.npz", **WAYS[way], steps=500)
    for n, steps in enumerate((250, 252)):
        mine = name.replace("data", f"data{n}")
        assert len(collected(mine, **WAYS[way], steps=steps)) == steps
        same(collected(mine, **WAYS[way], steps=500, resume=True), wanted)
        same(collected(mine, **WAYS[way], steps=500, resume=True), wanted)


@pytest.mark.parametrize("name", ["data.npz", "data.hdf5", "lab/data-v0"])
def test_appended_data_come_after_the_old(name):
    skip_without(name)
    first, second = (
        collected(f"{seed}.npz", **WAYS["compiled"], steps=n, seed=seed)
        for seed, n in ((0, 130), (1, 470))
    )
    collected(name, **WAYS["compiled"], steps=130)
    collected(name, **WAYS["compiled"], steps=250, seed=1, append=True)
    found = collected(name, **WAYS["compiled"], steps=470, seed=1, resume=True)
    for key, x, old, new in zip(
        Batch._fields, found.columns, first.columns, second.columns, strict=True
    ):
        np.testing.assert_array_equal(x, np.concatenate([old, new]), err_msg=key)
    wanted = [other.metadata["collections"][0] for other in (first, second)]
    assert found.metadata["collections"] == wanted
    with pytest.raises(InputError, match="seed must be 1 as when the data were begun, got 0"):
        collected(name, **WAYS["compiled"], steps=900, resume=True)


def test_data_of_others_are_appended_to(tmp_path):
    wanted = collected("mine.npz", **CHAIN, steps=50)
    arrays = {key: np.array(x) for key, x in wanted.columns._asdict().items()}
    np.savez("theirs.npz", **arrays | {"rewards": arrays["rewards"].astype(np.float32)})
    found = collected("theirs.npz", **CHAIN, steps=60, seed=1, append=True)
    assert len(found) == 110
    assert found.rewards.dtype == np.float32
    assert found.observation_space == Discrete(9)
    whole = arrays | {"actions": arrays["actions"][:, None] * 1.0}  # ids in another guise
    np.savez("theirs3.npz", **whole)
    found = collected("theirs3.npz", **CHAIN, steps=60, seed=1, append=True)
    np.testing.assert_array_equal(found.actions[:50], arrays["actions"])
    np.savez("theirs2.npz", **arrays)
    with pytest.raises(InputError, match="data must be of collect to be resumed"):
        collected("theirs2.npz", **CHAIN, steps=60, resume=True)


def test_minari_keeps_what_others_stored():
    skip_without("a-v0")
    import minari

    collected("a-v0", **CHAIN, steps=24)
    minari.load_dataset("a-v0").storage.update_episode_metadata([{"mark": 7}], [1])
    collected("a-v0", **CHAIN, steps=24, seed=1, append=True)
    theirs = minari.load_dataset("a-v0")
    assert [m.get("mark") for m in theirs.storage.get_episode_metadata(range(4))][1] == 7
    assert (theirs.total_steps, theirs.total_episodes) == (48, 4)
    assert theirs.recover_environment().spec.id == CHAIN["env_id"]
    assert list(minari.list_local_datasets()) == ["a-v0"]


def test_data_that_are_there_are_not_touched_unasked():
    wanted = collected(**CHAIN, steps=50)
    with pytest.raises(InputError, match=r"data must be new, got data.npz: pass --resume .* --app"):
        collected(**CHAIN, steps=50)
    with pytest.raises(
        InputError, match="steps must be >= 50, which are collected already, got 40"
    ):
        collected(**CHAIN, steps=40, resume=True)
    for change, name in (
        ({"epsilon": 0.5}, "epsilon"),
        ({"horizon": 7}, "horizon"),
        ({"simulator": "gymnasium"}, "simulator"),
    ):
        with pytest.raises(InputError, match=f"{name} must be .* as when the data were begun"):
            collected(**CHAIN | change, steps=90, resume=True)
    same(load("data.npz"), wanted)
    assert os.listdir() == ["data.npz"]
    assert len(collected(**CHAIN, steps=33, overwrite=True)) == 33


def test_another_policy_in_the_same_folder_is_refused(tmp_path):
    env = (CHAIN["env_id"], CHAIN["env_kwargs"])
    policy = run_folder(tmp_path / "run", *env, policy=np.full((9, 2), 0.5))
    collected(**CHAIN, policy=policy, steps=50)
    np.savez(tmp_path / "run" / "policy.npz", pi=np.eye(2)[np.zeros(9, int)])
    with pytest.raises(InputError, match="policy_crc32 must be"):
        collected(**CHAIN, policy=policy, steps=90, resume=True)


# ---------------------------------------------------------------- kills, breaks, full disks


def crash_at(point):
    """Number every call that makes a write last or visible; die just before or after one."""
    calls, fsync = [0], os.fsync

    def watched(call):
        def wrapper(*args, **kwargs):
            calls[0] += 1
            if 2 * calls[0] - 1 == point:
                if call is fsync:  # a temporary file torn in the middle
                    path = os.readlink(f"/proc/self/fd/{args[0]}")
                    if ".tmp" in path or os.path.basename(path) == "data.npz":
                        os.truncate(path, os.path.getsize(path) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            last = 2 * calls[0] == point
            try:
                return call(*args, **kwargs)
            finally:
                if last:
                    os.kill(os.getpid(), signal.SIGKILL)

        return wrapper

    for name in ("fsync", "replace", "unlink", "mkdir", "rmdir", "rename"):
        setattr(os, name, watched(getattr(os, name)))
    return calls


def in_a_child(argv, prepare=lambda: None, stop=None):
    """Run the command line in a fork; (exit code, standard error, what prepare returned)."""
    sys.stdout.flush()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.dup2(os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            calls = prepare()
            code = cli.main(argv)
            os.write(write, str(calls[0] if calls else 0).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    if stop is not None:
        stop(pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    answer = os.read(read, 20)
    os.close(read)
    report = Path("stderr")
    err = report.read_text() if report.exists() else ""  # of one that was killed at its start
    report.unlink(missing_ok=True)
    assert "Traceback" not in err, err
    return code, err, int(answer or 0)


def kill_points(argv, prepare, every):
    """Run argv killed at every point, from the state that prepare makes; yields each."""
    prepare()
    code, err, calls = in_a_child(argv, lambda: crash_at(0))
    assert (code, err) == (0, "")
    for point in range(1, 2 * calls + 1, every):
        prepare()
        code, _, _ = in_a_child(argv, lambda point=point: crash_at(point))
        assert code == -signal.SIGKILL
        yield point


def clear():
    for name in os.listdir():
        if name != "before":
            shutil.rmtree(name) if os.path.isdir(name) else os.unlink(name)


@pytest.mark.parametrize(
    ("name", "way", "every"),
    [
        ("data.npz", "compiled", 5),
        ("data.hdf5", "compiled", 23),
        ("lab/data-v0", "compiled", 41),
        *(
            pytest.param(name, way, 1, marks=pytest.mark.slow)
            for name in ("data.npz", "data.hdf5", "lab/data-v0")
            for way in ("compiled", "gymnasium")
        ),
    ],
)
def test_a_kill_around_any_write(name, way, every):
    skip_without(name)
    options = WAYS[way] | {"steps": 420, "checkpoint_every": 150}
    wanted = collected("wanted.npz", **options)
    for point in kill_points(arguments(name, **options), clear, every):
        found = collected(name, **options, resume=True)
        same(found, wanted)
        left = [f for _, folders, files in os.walk(".") for f in folders + files]
        assert not [f for f in left if f.startswith(".")], point


@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("data.npz", 9),
        ("data/", 29),
        ("lab/data-v0", 41),
        pytest.param("data.npz", 1, marks=pytest.mark.slow),
        pytest.param("data/", 1, marks=pytest.mark.slow),
        pytest.param("lab/data-v0", 1, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("flag", ["append", "overwrite"])
def test_a_kill_around_any_write_to_data_that_are_there(name, every, flag):
    """There is always the old dataset or the new one, but for an instant where it is a folder."""
    skip_without(name)
    options = WAYS["compiled"] | {"steps": 300, "checkpoint_every": 150, "seed": 1}
    old = collected(name, **WAYS["compiled"], steps=110)
    root = "minari" if name.endswith("-v0") else name
    (shutil.copytree if os.path.isdir(root) else shutil.copy)(root, "before")

    def restore():
        clear()
        (shutil.copytree if os.path.isdir("before") else shutil.copy)("before", root)

    restore()
    new = collected(name, **options, **{flag: True})
    for point in kill_points(arguments(name, f"--{flag}", **options), restore, every):
        store = collect.Store(name)
        if (store.folder / "config.json").exists():
            found = collected(name, **options, resume=True)
        else:
            if name.endswith(".npz"):
                assert len(load(name)) in (len(old), len(new))
            with pytest.raises(InputError, match="data must be new"):  # it settles what is left
                collected(name, **options)
            if len(load(name)) == len(old):
                collected(name, **options, **{flag: True})
            found = load(name)
        same(found, new)
        assert not store.folder.exists(), point


def test_a_kill_at_any_instant():
    options = POLE | {"steps": 1500, "checkpoint_every": 200}
    began = time.monotonic()
    wanted = collected("wanted.npz", **options)
    long, rng = time.monotonic() - began, np.random.default_rng(0)
    for k, delay in enumerate(rng.uniform(0.0, 1.2 * long, 3)):

        def kill(pid, delay=delay):
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)

        name = f"data{k}.npz"
        code, _, _ = in_a_child(arguments(name, **options), stop=kill)
        if code != 0:
            same(collected(name, **options, resume=True), wanted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_exits_130_and_resumes_exactly(number):
    options = POLE | {"steps": 10**8, "checkpoint_every": 500}
    folder = collect.Store("data.npz").folder

    def stop(pid):
        while not list(folder.glob("part-*")):
            time.sleep(0.001)
        time.sleep(0.05)
        os.kill(pid, number)

    code, err, _ = in_a_child(arguments("data.npz", **options), stop=stop)
    assert code == 130
    assert err.count("\n") == 1
    assert "--resume" in err
    saved = sum(len(np.load(part)["rewards"]) for part in folder.glob("part-*"))
    assert saved > 500
    with pytest.raises(InputError, match="data must be new, got"):
        collected(**options)
    with pytest.raises(InputError, match="steps must be >= "):
        collected(**options | {"steps": saved - 1}, resume=True)
    options["steps"] = saved + 300
    same(collected(**options, resume=True), collected("wanted.npz", **options))
    assert sorted(os.listdir()) == ["data.npz", "wanted.npz"]


@pytest.mark.parametrize("name", ["data.npz", "data.hdf5", "lab/data-v0"])
def test_a_disk_that_fills_up(name):
    skip_without(name)
    options = CHAIN | {"steps": 900, "checkpoint_every": 250}
    wanted = collected("wanted.npz", **options)
    for limit in (2_000, 20_000):  # too small for a part; too small for the whole
        code, err, _ = in_a_child(
            arguments(name, **options),
            lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        assert code == 2
        assert err.count("\n") == 1
        assert "data must be on a writable disk with free space" in err
        assert not collect.Store(name).path.exists()
        same(collected(name, **options, resume=True), wanted)
        clear()


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"num_envs": 0}, "num_envs must be >= 1"),
        ({"checkpoint_every": -5}, "checkpoint_every must be >= 0"),
        ({"horizon": 0}, "horizon must be >= 1"),
        ({"epsilon": 1.5}, r"epsilon must be in \[0, 1\], got 1.5"),
        ({"epsilon": float("nan")}, "epsilon must be in"),
        ({"resume": True, "overwrite": True}, "resume must not come with overwrite"),
        ({"mixture": True}, "mixture must come with the folder of a run"),
        ({"data": ""}, "data must be a Minari id, or a path"),
        ({"data": "data.csv"}, "data must be a Minari id"),
        ({"data": "."}, "data must be a Minari id to be written to"),
        ({"env_id": ""}, "env_id must be a gymnasium id"),
        ({"env_id": "FrozenLake-v9"}, "env_id must name a gymnasium environment"),
        ({"env_id": "Blackjack-v1"}, "horizon must be >= 1"),
        ({"policy": "nowhere"}, "policy: run must be the folder of a finished run, got nowhere"),
        ({"env_id": "CartPole-v1", "simulator": "compiled"}, "simulator must be auto or gymnasium"),
    ],
)
def test_wrong_input(options, why):
    with pytest.raises(InputError, match=why) as refused:
        collect.run(Config(**{"env_id": "FrozenLake-v1", "data": "data.npz"} | options))
    assert "\n" not in str(refused.value)
    assert os.listdir() == []


@pytest.mark.parametrize("name", ["data.hdf5", "lab/data-v0"])
def test_a_missing_package_is_missed_before_anything_is_collected(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install 'rlentropy\[data\]'"):
        collected(name, **CHAIN, steps=50)
    assert os.listdir() == []


class NoLimit(gymnasium.Env):
    observation_space, action_space = Box(0.0, 1.0, (1,)), Discrete(2)

    def __init__(self, flaw=False):
        self.flaw = flaw

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        x = self.np_random.random(1, np.float32)
        return x, float("nan") if self.flaw else 0.0, False, False, {}


def test_an_environment_without_a_limit_needs_a_horizon():
    if "Collect/NoLimit-v0" not in gymnasium.registry:
        gymnasium.register("Collect/NoLimit-v0", NoLimit)
    options = {"env_id": "Collect/NoLimit-v0", "num_envs": 2}
    with pytest.raises(InputError, match="horizon must be >= 1 "):
        collected(**options)
    assert len(collected(**options, horizon=8, steps=40).returns()) == 5
    with pytest.raises(InputError, match="reward must be finite, got nan at step 1 of an"):
        collected("bad.npz", **options, horizon=8, env_kwargs='{"flaw": true}')
    assert os.listdir() == ["data.npz"]


def test_the_report(capsys):
    code = cli.main(["collect", "--env-id", "FrozenLake-v1", "--data", "a.npz", "--steps", "500"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    found = load("a.npz")
    starts = found.episode_starts
    assert int(lines["episodes"]) == len(starts)
    whole = found.returns()[:-1]
    assert float(lines["mean_return"]) == pytest.approx(whole.mean())
    low, high = map(float, lines["return_ci95"].split(" to "))
    assert [low, high] == pytest.approx(mean_ci95(whole))
    assert 0.0 <= low < whole.mean() < high  # no success rate is below 0
    seen = set(found.observations.tolist()) | set(found.next_observations.tolist())
    assert (int(lines["states_visited"]), int(lines["states"])) == (len(seen), 16)
    code = cli.main(
        ["collect", "--env-id", "FrozenLake-v1", "--data", "a.npz", "--steps", "500", "--resume"]
    )
    out, _ = capsys.readouterr()
    assert code == 0
    assert "already finished" in out


def test_saved_data_of_other_kinds_agree():
    """What collect writes is what `save` would."""
    for name in ("a.npz", "b.hdf5"):
        skip_without(name)
        found = collected(name, **CHAIN, steps=77)
        save(f"again-{name}", found)
        same(load(f"again-{name}"), found)
        assert data.kind_of(name) in ("npz", "hdf5")
