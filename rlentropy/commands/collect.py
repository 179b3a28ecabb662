"""Roll a policy out into an offline dataset.

Episodes come in blocks. A block is drawn from a seed of its own, SeedSequence(seed, block), so it
is the same whenever it is played, and how many blocks there are is all that it takes to go on.
Whole blocks are saved as parts, in a hidden folder beside the data, and laid end to end when the
budget is spent. The dataset appears, or is replaced, in one rename.

The last episode is cut at the budget, and marked as truncated there. --resume with more steps plays
the block of that episode again, and comes to what one longer run would have written, to the bit.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray

from rlentropy import policies
from rlentropy.commands.console import Console
from rlentropy.data import Batch, Transitions, kind_of, load, path_of, write, writing
from rlentropy.data.files import read_npz, write_npz
from rlentropy.data.spaces import space_to_json
from rlentropy.errors import InputError
from rlentropy.exploration.setting import Setting, Simulator
from rlentropy.files import TEMPORARY, locked, read_json
from rlentropy.kernels.sampling import rollout
from rlentropy.mdp import FiniteMDP
from rlentropy.runs import policies as stored_policies
from rlentropy.runs.folder import stop_signals, stored_settings, trusted
from rlentropy.types import Array, Count
from rlentropy.wrappers import Checked, make_env

BLOCK = 2**16  # most steps of a block in the compiled simulator
PENDING = 2**28  # bytes that may wait in memory for the next part

# What a collection goes on from: `base` transitions of the present dataset stay, the last `steps`
# of which are its own, from its first blocks up to `block`; and what the dataset says of itself.
EMPTY: dict[str, Any] = {"base": 0, "steps": 0, "block": 0, "metadata": {}}

# Plays a block, from its generator, or as many of its first transitions as are asked for; and says
# whether the block was played to its end.
Player = Callable[[np.random.Generator, int], tuple[Batch, bool]]


@dataclass(frozen=True)
class Config:
    """An offline dataset from random actions or the policy of a finished run."""

    env_id: str = ""  # gymnasium id; default: that of the run whose policy is played
    env_kwargs: str = "{}"  # JSON object of its keyword arguments; max_episode_steps is its limit
    data: str = ""  # where to: a Minari id, or a path that ends in .npz, .hdf5 or .h5 (required)
    policy: str = "random"  # random: uniformly random actions; or the folder of a finished run
    mixture: bool = False  # play the run's mixture, one policy an episode, not its projection
    epsilon: float = 0.0  # share of actions replaced by uniformly random ones, in [0, 1]
    steps: int = 100_000  # transitions to collect
    horizon: int | None = None  # steps that truncate an episode; default: the environment's limit
    seed: int = 0  # seed of everything random, >= 0
    num_envs: int = 16  # copies of the environment that are stepped by turns; other data by number
    simulator: Simulator = "auto"  # compiled: draw from the declared model; gymnasium: call step
    resume: bool = False  # go on with the data, to the same end as without the break
    append: bool = False  # add to the data that are there
    overwrite: bool = False  # replace the data that are there, once the new are complete
    checkpoint_every: int = 0  # steps between saved parts; 0: every 30 seconds
    quiet: bool = False  # print nothing but errors

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("seed", 0), ("num_envs", 1), ("checkpoint_every", 0)):
            if (value := getattr(self, name)) < least:
                raise InputError(f"{name} must be >= {least}, got {value}")
        if self.horizon is not None and self.horizon < 1:
            raise InputError(f"horizon must be >= 1, got {self.horizon}")
        if not 0.0 <= self.epsilon <= 1.0:
            raise InputError(f"epsilon must be in [0, 1], got {self.epsilon}")
        asked = [name for name in ("resume", "append", "overwrite") if getattr(self, name)]
        if len(asked) > 1:
            raise InputError(f"{asked[0]} must not come with {asked[1]}, got both")
        if self.mixture and self.policy == "random":
            raise InputError("mixture must come with the folder of a run as policy, got random")


def run(config: Config) -> int:
    """Collect; the exit code.

    Raises:
        InputError: an option out of its range, data that are there already, an environment whose
            spaces no array holds.
        OutputError: the data can't be written; what was saved is intact.
        KeyboardInterrupt: the process was told to stop; what it had is saved.
    """
    from threadpoolctl import threadpool_limits

    if not config.data:
        raise InputError("data must be a Minari id, or a path ending in .npz or .hdf5, got none")
    store = Store(config.data)
    config = with_environment(config)
    say = Console(config.quiet)
    lock = locked(store.path.with_name(f".{store.path.name}.lock"), "data", store.path)
    with threadpool_limits(1), stop_signals(interrupt), lock:
        env = make_env(config.env_id, config.env_kwargs, unlimited=False)
        for space in (env.observation_space, env.action_space):
            space_to_json(space)  # refuses Tuple, Dict and the like
        play, settings = player(config, env)
        say.line(f"data: {store.path}")
        finished = store.begin(config, settings, env)
        if finished is not None:
            say.line("already finished with this budget")
        summary = finished or collect(store, play, config, env, say)
        env.close()
    say.table(summary)
    say.line(f"data: {store.path}")
    return 0


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def with_environment(config: Config) -> Config:
    """The config with the environment of the run whose policy is played, where it names none."""
    if config.env_id:
        return config
    stored = None if config.policy == "random" else stored_settings(Path(config.policy))
    if not (stored and stored.get("env_id")):
        raise InputError("env_id must be a gymnasium id (--env-id), got none")
    folder = Path(config.policy)
    env_kwargs = trusted("env_kwargs", stored.get("env_kwargs") or "{}", folder)
    env_id = trusted("env_id", stored["env_id"], folder)
    return dataclasses.replace(config, env_id=env_id, env_kwargs=env_kwargs)


def collect(
    store: Store, play: Player, config: Config, env: gymnasium.Env[Any, Any], say: Console
) -> dict[str, Any]:
    """Play blocks until the budget is spent, save them on the way, and write the dataset."""
    spaces: Any = {"observation_space": env.observation_space, "action_space": env.action_space}
    log, saved, cut = SimpleNamespace(on_progress=lambda done, total: None), time.monotonic(), None
    try:
        with say.progress(log):
            while cut is None and store.steps < config.steps:
                seed = np.random.SeedSequence(config.seed, spawn_key=(store.block,))
                batch, whole = play(np.random.default_rng(seed), config.steps - store.steps)
                Transitions.from_arrays(*batch, **spaces)  # what can't be read isn't written
                if not whole:
                    cut = batch
                    break
                store.add(batch)
                every, waiting = config.checkpoint_every, store.waiting
                due = waiting >= every if every else time.monotonic() - saved > 30.0
                if due or waiting * sum(x[:1].nbytes for x in batch) > PENDING:
                    store.flush()
                    saved = time.monotonic()
                log.on_progress(store.steps, config.steps)
    except InputError:
        store.abandon()
        raise
    finally:
        store.flush()
    return store.finish(cut, env)


# ---------------------------------------------------------------- playing


def player(config: Config, env: gymnasium.Env[Any, Any]) -> tuple[Player, dict[str, Any]]:
    """How blocks are played, and the settings that say which blocks they are."""
    limits = [config.horizon, env.spec.max_episode_steps if env.spec else None]
    horizon = min((h for h in limits if h is not None), default=None)
    if horizon is None:
        raise InputError("horizon must be >= 1 (the environment has no limit), got none")
    policy = load_policy(config, env)
    settings: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("env_id", "env_kwargs", "policy", "mixture", "epsilon", "seed")
    }
    settings |= {"policy_crc32": checksum(config), "horizon": horizon}
    if isinstance(env.observation_space, Discrete) and isinstance(env.action_space, Discrete):
        setting = Setting.of(env, horizon, config.simulator)
        pi = tables(policy, setting)
        if pi is None and config.simulator == "compiled":
            raise InputError(
                "simulator must be auto or gymnasium for a neural policy, got compiled"
            )
        if pi is not None and setting.compiled:
            return compiled(setting, pi, config.epsilon), settings | {"simulator": "compiled"}
    elif config.simulator == "compiled":
        raise InputError("simulator must be auto or gymnasium without a known model, got compiled")
    envs = [env]
    for _ in range(config.num_envs - 1):
        envs.append(make_env(config.env_id, config.env_kwargs, unlimited=False))
    settings |= {"simulator": "gymnasium", "num_envs": config.num_envs}
    return stepped(envs, policy, config.epsilon, horizon), settings


def load_policy(config: Config, env: gymnasium.Env[Any, Any]) -> policies.Policy:
    if config.policy == "random":
        return policies.random(env)
    try:
        return stored_policies.load(Path(config.policy), env, config.mixture)
    except InputError as error:
        raise InputError(f"policy: {error}") from None


def checksum(config: Config) -> int | None:
    """Of the file that holds the policy, so that a resumed run can't play another one."""
    names = ("mixture.npz",) if config.mixture else ("policy.npz", "policy.pt")
    files = [Path(config.policy) / name for name in names if config.policy != "random"]
    return next((zlib.crc32(file.read_bytes()) for file in files if file.is_file()), None)


def tables(policy: policies.Policy, setting: Setting) -> Array | None:
    """A tabular policy as a mixture of K, (K, H or 1, S, A); None for another."""
    if isinstance(policy, policies.Uniform):
        A = setting.num_actions
        return np.full((1, 1, setting.num_states, A), 1.0 / A)
    if isinstance(policy, policies.Mixture):
        return policy.pi
    return policy.pi[None] if isinstance(policy, policies.Tabular) else None


def compiled(setting: Setting, pi: Array, epsilon: float) -> Player:
    """Play in the compiled simulator; a mixture pi (K, H or 1, S, A) draws anew each episode."""
    assert setting.mdp is not None
    mdp, T = setting.mdp, setting.horizon
    n = max(1, BLOCK // T)
    stages = np.arange(T) % pi.shape[1] if pi.shape[1] > 1 else np.arange(1)

    def play(rng: np.random.Generator, at_most: int) -> tuple[Batch, bool]:
        choice_rng, env_rng, policy_rng = rng.spawn(3)
        states, actions = np.empty((n, T + 1), np.int64), np.empty((n, T), np.int64)
        lengths = np.empty(n, np.int64)
        chosen = choice_rng.integers(len(pi), size=n)
        for k in np.unique(chosen):
            mixed = (1.0 - epsilon) * pi[k, stages] + epsilon / pi.shape[-1]
            own = np.flatnonzero(chosen == k)
            x, y, z = (np.empty_like(array[own]) for array in (states, actions, lengths))
            rollout(mdp.world, mixed, x, y, z, env_rng, policy_rng)
            states[own], actions[own], lengths[own] = x, y, z
        real = np.arange(T) < np.maximum(lengths, 1)[:, None]  # one step leaves a terminal start
        s, s2, a = states[:, :-1][real], states[:, 1:][real], actions[real]
        batch = Batch(
            observations=s + setting.first_state,
            actions=a + setting.first_action,
            rewards=transition_rewards(mdp, s, a, s2),
            next_observations=s2 + setting.first_state,
            terminations=mdp.terminal[s2],
            truncations=np.broadcast_to(np.arange(T) == T - 1, (n, T))[real],
        )
        return cut_at(batch, at_most), len(s) <= at_most

    return play


def transition_rewards(mdp: FiniteMDP, s: Count, a: Count, s2: Count) -> Array:
    """Reward of each transition (n,), which the model may make depend on the successor."""
    if mdp.r_successor is None:
        expected: Array = mdp.r[s, a]
        return expected
    P, S = mdp.P, mdp.num_states
    rows = np.repeat(np.arange(P.shape[0]), np.diff(P.indptr))
    stored = rows * S + P.indices  # increasing
    reward: Array = mdp.r_successor[np.searchsorted(stored, (s * mdp.num_actions + a) * S + s2)]
    return reward


def stepped(
    envs: list[gymnasium.Env[Any, Any]], policy: policies.Policy, epsilon: float, horizon: int
) -> Player:
    """Play through `reset` and `step`: a block is one episode of each environment."""
    n, space, action_space = len(envs), envs[0].observation_space, envs[0].action_space
    anything, played = policies.random(envs[0]), [Checked(env) for env in envs]

    def play(rng: np.random.Generator, at_most: int) -> tuple[Batch, bool]:
        policy_rng, epsilon_rng = rng.spawn(2)
        seeds = rng.integers(2**31, size=n).tolist()
        x = np.array([e.reset(k) for e, k in zip(played, seeds, strict=True)], space.dtype)
        policy.begin(np.arange(n), policy_rng)
        alive, ended, lengths = np.arange(n), np.zeros(n, bool), np.zeros(n, np.int64)
        steps: list[Batch] = []
        owners: list[Count] = []
        taken = 0
        while alive.size:
            t = np.full(n, len(steps))
            actions = np.array(policy.act(x, t, policy_rng), action_space.dtype)
            if epsilon > 0.0:
                swapped = epsilon_rng.random(n) < epsilon
                actions[swapped] = anything.act(x, t, epsilon_rng)[swapped]
            x2, given = x.copy(), policies.plain(actions, action_space)
            rewards, terminated, truncated = [], [], []
            for k in alive.tolist():
                x2[k], reward, is_terminal, is_cut = played[k].step(given[k])
                rewards.append(reward)
                terminated.append(is_terminal)
                truncated.append(is_cut)
            terminations = np.array(terminated)
            truncations = np.array(truncated) | (len(steps) + 1 == horizon)
            came = (np.array(rewards), x2[alive], terminations, truncations)
            steps.append(Batch(x[alive], actions[alive], *came))
            owners.append(alive)
            lengths[alive] += 1
            taken += alive.size
            ended[alive] = terminations | truncations
            needed = ~ended
            if taken >= at_most:  # where the episodes before fill the budget, one isn't needed
                needed &= np.cumsum(lengths) < at_most
            alive, x = np.flatnonzero(needed), x2
        order = np.argsort(np.concatenate(owners), kind="stable")
        columns = (np.concatenate(column)[order] for column in zip(*steps, strict=True))
        batch = Batch(*columns)
        return cut_at(batch, at_most), bool(ended.all()) and len(batch.rewards) <= at_most

    return play


def cut_at(batch: Batch, length: int) -> Batch:
    """The first transitions, of which the last one ends its episode."""
    batch = Batch(*(column[:length] for column in batch))
    if not batch.terminations[-1]:
        batch.truncations[-1] = True
    return batch


# ---------------------------------------------------------------- saving


class Store:
    """A dataset in the making: what is saved, and what waits in memory.

    The hidden folder holds config.json while the collection is under way, and the parts. When the
    dataset is written, as `whole` in that folder, config.json goes, and then `whole` is renamed:
    whoever finds the folder without config.json has but to rename, or to delete.
    """

    def __init__(self, data: str) -> None:
        self.data, self.path = data, path_of(data)
        self.folder = self.path.with_name(f".{self.path.name}.parts")
        self.begun: dict[str, Any] = {}  # what config.json holds
        self.parts: list[Batch] = []
        self.pending: list[Batch] = []  # whole blocks
        self.steps = self.waiting = self.first_block = 0

    @property
    def block(self) -> int:
        """The next block."""
        return self.first_block + len(self.pending)

    def begin(
        self, config: Config, settings: dict[str, Any], env: gymnasium.Env[Any, Any]
    ) -> dict[str, Any] | None:
        """Claim the place, or take up what is there.

        Returns:
            The summary, where the data are finished with this budget.
        """
        with writing(self.path):
            self._settle()
        file = self.folder / "config.json"
        unfinished = file.is_file()
        there = unfinished or self.path.exists()
        if there and not (config.resume or config.append or config.overwrite):
            raise InputError(
                f"data must be new, got {self.path}: pass --resume to go on with the collection "
                "there, --append to add to the data, or --overwrite to replace them"
            )
        if config.append and unfinished:
            raise InputError(
                f"data must be finished to be appended to, got {self.path}: pass --resume first"
            )
        begun = {"settings": settings, **EMPTY}
        if config.resume and unfinished:
            begun = read_begun(file)
            check_same(begun["settings"], settings)
        elif config.resume and there:
            old = load(self.data)
            if (last := self._last_collection(old, config, settings))["steps"] == config.steps:
                return dict(last["summary"])
            begun |= extension(old, last)
        elif config.append and there:
            old = load(self.data).check_spaces(env.observation_space, env.action_space)
            begun |= {"base": len(old), "metadata": old.metadata}
        with writing(self.path):
            if config.overwrite:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            replace(file, lambda path: path.write_text(json.dumps(begun, indent=2)))
        self._take_up(begun)
        self._check_budget(self.steps, config.steps)
        return None

    def _last_collection(
        self, old: Transitions, config: Config, settings: dict[str, Any]
    ) -> dict[str, Any]:
        """The record of the collection that finished data end with, which is to be resumed."""
        if not (records := old.metadata.get("collections")):
            raise InputError(
                f"data must be of collect to be resumed, got {self.path}: --append adds to them"
            )
        try:
            last: dict[str, Any] = records[-1]
            whole = (last["whole"]["steps"], last["whole"]["block"], last["steps"], len(old))
            fits = 0 <= whole[0] <= whole[2] <= whole[3] and whole[1] >= 0
            if not (fits and all(type(n) is int for n in whole) and dict(last["summary"])):
                raise ValueError
            check_same(dict(last["settings"]), settings)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"data must be of collect to be resumed, got a strange record in {self.path}"
            ) from None
        self._check_budget(last["steps"], config.steps)
        return last

    @staticmethod
    def _check_budget(have: int, steps: int) -> None:
        if have > steps:
            raise InputError(f"steps must be >= {have}, which are collected already, got {steps}")

    def _take_up(self, begun: dict[str, Any]) -> None:
        """Read the parts, and clear away what an interrupted write left."""
        self.begun = begun
        self.steps, self.first_block = begun["steps"], begun["block"]
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith("part-"):
                numbers = re.fullmatch(r"part-(\d{12})-(\d{12})", path.stem)
                if not numbers or int(numbers[1]) != self.first_block:
                    raise InputError(f"{path} must go on with block {self.first_block}, got others")
                self.first_block = int(numbers[2])
                self.parts.append(read_npz(path)[0])
                self.steps += len(self.parts[-1].rewards)
            elif path.name != "config.json":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def add(self, block: Batch) -> None:
        self.pending.append(block)
        self.steps += len(block.rewards)
        self.waiting += len(block.rewards)

    def flush(self) -> None:
        """Save the blocks that wait as a part; the blocks that it holds are in its name."""
        if not self.pending:
            return
        part = self.folder / f"part-{self.first_block:012}-{self.block:012}.npz"
        with writing(self.path):
            replace(part, lambda path: write_npz(path, self.pending, {}))
        self.first_block, self.pending, self.waiting = self.block, [], 0
        self.parts.append(read_npz(part)[0])

    def abandon(self) -> None:
        """Leave no trace where there is nothing to go on with."""
        if not (self.parts or self.pending):
            shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self, cut: Batch | None, env: gymnasium.Env[Any, Any]) -> dict[str, Any]:
        """Lay the parts end to end, and put the dataset in its place; its summary."""
        new = [*self.parts, *([] if cut is None else [cut])]
        base, own = self.begun["base"], new
        spaces = (env.observation_space, env.action_space)
        old = load(self.data).check_spaces(*spaces).columns if base else None
        if old is not None:
            kept = Batch(*(column[:base] for column in old))
            mine = Batch(*(column[base - self.begun["steps"] :] for column in kept))
            own = [mine, *new] if len(mine.rewards) else new
        summary = report(own, env, cut is not None)
        record = {"settings": self.begun["settings"], "steps": summary["steps"]}
        record |= {"whole": {"steps": self.steps, "block": self.block}, "summary": summary}
        metadata = dict(self.begun["metadata"])
        metadata["collections"] = [*metadata.get("collections", []), record]
        with writing(self.path):
            if old is not None and kind_of(self.data) == "minari" and base == len(old.rewards):
                shutil.copytree(self.path, self.folder / self.data)  # with all that others put in
            elif old is not None:
                new = [kept, *new]
            written = write(self.folder, self.data, new, *spaces, metadata, env)
            os.rename(written, self.folder / "whole")
            (self.folder / "config.json").unlink()
            self._settle()
        return summary

    def _settle(self) -> None:
        """End what is left of a collection that has its dataset ready."""
        if not self.folder.is_dir() or (self.folder / "config.json").exists():
            return
        whole = self.folder / "whole"
        if whole.exists():
            if whole.is_dir() and self.path.exists():  # only a file can be renamed over another
                self.path.rename(self.folder / "replaced")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            whole.rename(self.path)
        shutil.rmtree(self.folder)


def read_begun(file: Path) -> dict[str, Any]:
    """The config.json of an unfinished collection.

    Raises:
        InputError: it is damaged.
    """
    begun = read_json(file)
    numbers = [begun.get(name) for name in ("base", "steps", "block")]
    settings, metadata = begun.get("settings"), begun.get("metadata")
    whole = all(type(number) is int and number >= 0 for number in numbers)
    if not (whole and isinstance(settings, dict) and isinstance(metadata, dict)):
        raise InputError(f"{file} must be that of an unfinished collection, got others")
    return begun


def extension(old: Transitions, last: dict[str, Any]) -> dict[str, Any]:
    """How to go on with the last collection of finished data: without the block that was cut."""
    whole = last["whole"]
    metadata = old.metadata | {"collections": old.metadata["collections"][:-1]}
    return {"base": len(old) - last["steps"] + whole["steps"], "metadata": metadata, **whole}


def check_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    for name, value in now.items():
        if before.get(name) != value:
            raise InputError(
                f"{name} must be {before.get(name)!r} as when the data were begun, got {value!r}"
            )


def replace(path: Path, write_to: Callable[[Path], object]) -> None:
    """Write a file so that its old or its new content is there at every instant."""
    temporary = path.with_name(TEMPORARY + path.name)
    write_to(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def report(parts: list[Batch], env: gymnasium.Env[Any, Any], cut: bool) -> dict[str, Any]:
    """What was collected; the mean return is that of the episodes that were not cut, if any."""
    rewards, ended = (
        np.concatenate(columns)
        for columns in (
            [part.rewards for part in parts],
            [part.terminations | part.truncations for part in parts],
        )
    )
    ends = np.flatnonzero(ended)
    returns: NDArray[np.float64] = np.add.reduceat(rewards, np.append(0, ends[:-1] + 1))
    summary: dict[str, Any] = {"steps": len(rewards), "episodes": len(ends)}
    whole = returns[:-1] if cut and len(returns) > 1 else returns
    mean = float(whole.mean())
    half = 1.96 * float(whole.std(ddof=1)) / math.sqrt(len(whole)) if len(whole) > 1 else math.nan
    summary |= {"mean_return": mean, "return_ci95": [mean - half, mean + half]}
    if isinstance(space := env.observation_space, Discrete):
        seen = np.zeros(int(space.n), bool)
        for part in parts:
            for states in (part.observations, part.next_observations):
                seen[np.asarray(states) - space.start] = True
        summary |= {"states_visited": int(seen.sum()), "states": int(space.n)}
    return summary
