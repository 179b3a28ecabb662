"""Roll a policy out into an offline dataset.

Episodes come in blocks. A block is drawn from a seed of its own, SeedSequence(seed, block), so it
is the same whenever it is played; `rlentropy.data.store` keeps the blocks and puts the dataset in
its place. The last episode is cut at the budget, and marked as truncated there.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from rlentropy import policies
from rlentropy.commands.answers import Pace
from rlentropy.commands.console import Console
from rlentropy.data import Batch, Transitions
from rlentropy.data.store import Mode, Store
from rlentropy.errors import NO_LIMIT, InputError, InputWarning, in_range, whole
from rlentropy.exploration.setting import Setting, Simulator
from rlentropy.files import locked
from rlentropy.kernels.sampling import rollout
from rlentropy.mdp import FiniteMDP
from rlentropy.runs import policies as stored_policies
from rlentropy.runs.folder import stop_signals, stored_settings
from rlentropy.spaces import check_held, check_learnable
from rlentropy.types import Array, Count, Env, Mask
from rlentropy.wrappers import Checked, make_env, trusted

BLOCK = 2**16  # most steps of a block in the compiled simulator
PENDING = 2**28  # bytes that may wait in memory for the next part

# Plays a block, from its generator, or as many of its first transitions as are asked for; and says
# whether the block was played to its end.
Player = Callable[[np.random.Generator, int], tuple[Batch, bool]]


@dataclass(frozen=True)
class Config:
    """Plays random actions or the policy of a finished run, and writes an offline dataset.

    Use it to make data for rfzi, rfqi and fqi, or for other programs that read Minari, HDF5 or NPZ
    files.

    Example::

        rlentropy collect --env-id CartPole-v1 --steps 20000 --data cartpole.npz
        rlentropy collect --policy runs/cartpole --epsilon 0.3 --steps 20000 --data mixed.npz
    """

    env_id: str = ""  # gymnasium id; default: that of the run whose policy is played
    env_kwargs: str = "{}"  # JSON object of its keyword arguments; max_episode_steps is its limit
    data: str = ""  # where to: a Minari id, or a path that ends in .npz, .hdf5 or .h5 (required)
    policy: str = "random"  # random: uniformly random actions; or the folder of a finished run
    mixture: bool = False  # play the mixture of an explorer's run, one policy an episode
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
            whole(name, getattr(self, name), least)
        if self.horizon is not None:
            whole("horizon", self.horizon, 1)
        in_range("epsilon", self.epsilon, "[0, 1]")
        asked = [name for name in ("resume", "append", "overwrite") if getattr(self, name)]
        if len(asked) > 1:
            raise InputError(f"{asked[0]} must not come with {asked[1]}, got both")
        if self.mixture and self.policy == "random":
            raise InputError("mixture must come with the folder of a run as policy, got random")

    @property
    def mode(self) -> Mode:
        modes: tuple[Mode, ...] = ("resume", "append", "overwrite")
        return next((mode for mode in modes if getattr(self, mode)), "new")


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
        spaces = (env.observation_space, env.action_space)
        for part, space in zip(("observations", "actions"), spaces, strict=True):
            check_held(part, space)
        warn_if_unlearnable(*spaces)
        play, settings = player(config, env)
        say.opening(f"data: {store.path}")
        finished = store.begin(config.mode, config.steps, settings, spaces)
        if finished is not None:
            say.line("already finished with this budget")
        summary = finished or collect(store, play, config, env, say)
        env.close()
    say.table(summary)
    say.line(f"data: {store.path}")
    return 0


def warn_if_unlearnable(*spaces: gymnasium.Space[Any]) -> None:
    """Say before any step is played that the offline learners can't use the data; others may."""
    try:
        check_learnable(*spaces)
    except InputError as error:
        told = f"rfzi, rfqi and fqi can't learn from these data, which others may: {error}"
        warnings.warn(told, InputWarning, stacklevel=2)


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


def collect(store: Store, play: Player, config: Config, env: Env, say: Console) -> dict[str, Any]:
    """Play blocks until the budget is spent, save them on the way, and write the dataset."""
    spaces: Any = {"observation_space": env.observation_space, "action_space": env.action_space}
    log, saved, cut = SimpleNamespace(on_progress=lambda done, total: None), time.monotonic(), None
    try:
        with say.progress(log, Pace(unit="steps")):
            while cut is None and store.steps < config.steps:
                seed = np.random.SeedSequence(config.seed, spawn_key=(store.block,))
                batch, complete = play(np.random.default_rng(seed), config.steps - store.steps)
                Transitions.from_arrays(*batch, **spaces)  # what can't be read isn't written
                if not complete:
                    cut = batch
                    log.on_progress(config.steps, config.steps)
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


def player(config: Config, env: Env) -> tuple[Player, dict[str, Any]]:
    """How blocks are played, and the settings that say which blocks they are."""
    limits = [config.horizon, env.spec.max_episode_steps if env.spec else None]
    horizon = min((h for h in limits if h is not None), default=None)
    if horizon is None:
        raise InputError(NO_LIMIT)
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


def load_policy(config: Config, env: Env) -> policies.Policy:
    if config.policy == "random":
        return policies.random(env)
    try:
        return stored_policies.load(Path(config.policy), env, config.mixture)
    except InputError as error:
        raise InputError(f"policy: {error}") from None


def checksum(config: Config) -> int | None:
    """Of the file that holds the policy, so that a resumed run can't play another one."""
    names = ("mixture.npz" if config.mixture else "policy.npz", "policy.pt")
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
            playing = np.flatnonzero(chosen == k)
            x, y, z = (np.empty_like(array[playing]) for array in (states, actions, lengths))
            rollout(mdp.world, mixed, x, y, z, env_rng, policy_rng)
            states[playing], actions[playing], lengths[playing] = x, y, z
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


def stepped(envs: list[Env], policy: policies.Policy, epsilon: float, horizon: int) -> Player:
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
            x2 = x.copy()
            plain = policies.plain(actions, action_space)
            rewards, terminations, truncations = step_some(played, alive, plain, x2)
            truncations |= len(steps) + 1 == horizon
            outcome = (rewards, x2[alive], terminations, truncations)
            steps.append(Batch(x[alive], actions[alive], *outcome))
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


def step_some(
    envs: list[Checked], indices: Count, actions: Any, observations: Any
) -> tuple[Array, Mask, Mask]:
    """Step the environments of these indices, (k,); their rows of the observations are replaced.

    Returns:
        Rewards, terminations and truncations, (k,) each.
    """
    rewards, terminated, truncated = [], [], []
    for i in indices.tolist():
        observations[i], reward, is_terminal, is_cut = envs[i].step(actions[i])
        rewards.append(reward)
        terminated.append(is_terminal)
        truncated.append(is_cut)
    return np.array(rewards), np.array(terminated), np.array(truncated)


def cut_at(batch: Batch, length: int) -> Batch:
    """The first transitions, of which the last one ends its episode."""
    batch = Batch(*(column[:length] for column in batch))
    if not batch.terminations[-1]:
        batch.truncations[-1] = True
    return batch
