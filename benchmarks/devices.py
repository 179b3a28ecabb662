"""When a GPU, more processes, or more environments at once pay: ratios side by side.

python benchmarks/devices.py speed [--devices cpu cuda] [--out CSV]
python benchmarks/devices.py parallel [--processes 1 2] [--out CSV]
python benchmarks/devices.py workers [--processes 0 2] [--out CSV]

`speed` counts gradient updates a second of networks of two hidden layers, by batch and width, with
one thread of the CPU, as runs have. Everything of an update counts: drawing the batch, taking it to
the device, targets, gradients, Adam.

`parallel` counts updates a second of rfzi in processes that share each batch, a thread each, with
gloo. `workers` counts steps a second of 8 copies of environments whose step takes so many
milliseconds of a core, played in this process (0) or in others.

All are ratios: columns of one row are measured one after the other. On a busy machine they say
little; the load is printed first.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from rlentropy.data import Transitions
from rlentropy.exploration.samplers import Batch, SoftActorCritic, SoftQ, Tuning
from rlentropy.log import ranks
from rlentropy.neural import copies, devices, losses
from rlentropy.neural.actor_critic import ActorCritic, Config
from rlentropy.neural.mixtures import Squashed
from rlentropy.neural.rollouts import VectorEnv
from rlentropy.neural.spaces import ActionSet, Encoder, make_head
from rlentropy.offline import rfzi
from rlentropy.offline.networks import Networks
from rlentropy.offline.problem import split

SECONDS = 0.6  # of each measurement, at least
WIDTH, ACTIONS = 17, 5  # of observations; how many actions
BATCHES, WIDTHS = (64, 256, 1024, 4096, 16384), (64, 256, 512, 1024)
WORK = 2e10  # products of a forward pass, beyond which none is measured


def transitions(n: int = 200_000) -> Transitions:
    """Random ones, in episodes of 100 steps."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n + 1, WIDTH)).astype(np.float32)
    columns = (x[:-1], rng.integers(ACTIONS, size=n), rng.random(n), x[1:], np.zeros(n, bool))
    names = ("observations", "actions", "rewards", "next_observations", "terminations")
    spaces = {
        "observation_space": Box(-np.inf, np.inf, (WIDTH,)),
        "action_space": Discrete(ACTIONS),
    }
    ends = {"truncations": np.arange(n) % 100 == 99}
    return Transitions.from_arrays(**dict(zip(names, columns, strict=True)), **ends, **spaces)


def fitted(data: Transitions, batch: int, width: int) -> Callable[[], Any]:
    """An update of rfzi."""
    config = rfzi.Config(hidden=(width, width), batch_size=batch, target_every=50)
    problem = split(data, config, lambda n: config.measure, None)

    def objective(low: float, high: float) -> Any:
        return losses.Linex(low, high, 0.1, 3.0)

    learner = Networks(problem, config, objective, [np.random.default_rng(0)])
    return lambda: learner.advance(1)


def critic(data: Transitions, batch: int, width: int) -> Callable[[], Any]:
    """An update of robust-actor-critic: a minibatch, of whose losses policy and critic learn."""
    config = Config(
        hidden=(width, width), num_envs=8, rollout_steps=max(1, batch // 8), epochs=4, minibatches=1
    )
    agent = ActorCritic(gymnasium.make("CartPole-v1"), config, np.random.default_rng(0))
    made, _ = agent._estimate(agent.play())
    return lambda: agent._update(made)


critic.updates = 4  # a call


def soft(data: Transitions, batch: int, width: int, discrete: bool) -> Callable[[], Any]:
    """An update of a sampler of neural-entgame, of a pool that is on the device."""
    tuning, rng = Tuning(0.1, 0.99, 1e-3, 0.01), np.random.default_rng(0)
    head = Squashed(Box(-1.0, 1.0, (2,)))
    sampler: Any
    if discrete:
        actions = ActionSet(Discrete(ACTIONS), 1)
        sampler = SoftQ(actions, WIDTH, (width, width), rng, tuning)
    else:
        sampler = SoftActorCritic(head, WIDTH, (width, width), rng, tuning)
    n, device = 50_000, devices.current()
    acted = rng.integers(ACTIONS, size=(n, 1)) if discrete else rng.uniform(-1, 1, (n, 2))
    x = rng.standard_normal((n, WIDTH)).astype(np.float32)
    columns = (x, acted, rng.random(n), x[::-1].copy(), np.ones(n))
    pool = Batch(*(devices.put(c, device, None if c.dtype == np.int64 else torch.float32)
                   for c in columns))  # fmt: skip

    def update() -> None:
        index = torch.as_tensor(rng.integers(n, size=batch), device=device)
        sampler.update(Batch(*(column[index] for column in pool)))

    return update


def soft_q(data: Transitions, batch: int, width: int) -> Callable[[], Any]:
    return soft(data, batch, width, discrete=True)


def soft_actor_critic(data: Transitions, batch: int, width: int) -> Callable[[], Any]:
    return soft(data, batch, width, discrete=False)


KINDS = (fitted, critic, soft_q, soft_actor_critic)


def rate(update: Callable[[], Any], device: torch.device, seconds: float = SECONDS) -> float:
    """Calls a second."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    update(), wait()
    began, calls, many = time.perf_counter(), 0, 1
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(many):
            update()
        wait()
        calls, many = calls + many, min(2 * many, 64)
    return calls / passed


def speeds(names: list[str]) -> Iterator[dict[str, Any]]:
    """A row for each kind of update, batch and width: updates a second on each device."""
    data = transitions()
    for kind in KINDS:
        for width in WIDTHS:
            for batch in BATCHES:
                if batch * width * (WIDTH + width) > WORK:
                    continue
                row: dict[str, Any] = {"update": kind.__name__, "width": width, "batch": batch}
                for name in names:
                    device = devices.found(name)
                    with devices.on(device):
                        found = rate(kind(data, batch, width), device)
                        row[name] = round(found * getattr(kind, "updates", 1), 1)
                if len(names) > 1:
                    row["ratio"] = round(row[names[1]] / row[names[0]], 2)
                yield row


# ---------------------------------------------------------------- processes that share batches

SHARED = tuple((width, batch) for width in (128, 256, 512, 1024) for batch in (256, 1024, 4096))
CALLS, MOST = 6e9, 60  # products, or updates, of processes that are timed


def together(width: int, batch: int, size: int) -> float:
    """Updates a second of so many processes."""
    if size == 1:
        return share(width, batch)
    port = str(40_000 + (os.getpid() + 97 * width + batch + size) % 20_000)
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    argv = [sys.executable, __file__, "share", str(width), str(batch)]
    processes = [
        subprocess.Popen(
            argv,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    told = [process.communicate()[0] for process in processes]
    return float(told[0])


def share(width: int, batch: int) -> float:
    """Updates a second of this process's part."""
    with ranks.joined("cpu"):
        update = fitted(transitions(20_000), batch, width)
        for _ in range(3):
            update()
        calls = max(6, min(MOST, int(CALLS / (batch * width * (WIDTH + width)))))
        began = time.perf_counter()
        for _ in range(calls):
            update()
        return calls / (time.perf_counter() - began)


def parallel(sizes: list[int]) -> Iterator[dict[str, Any]]:
    for width, batch in SHARED:
        row: dict[str, Any] = {"width": width, "batch": batch}
        for size in sizes:
            row[f"of {size}"] = round(together(width, batch, size), 1)
        for size in sizes[1:]:
            row[f"ratio of {size}"] = round(row[f"of {size}"] / row[f"of {sizes[0]}"], 2)
        yield row


# ---------------------------------------------------------------- environments in processes


class Busy(gymnasium.Env[Any, Any]):
    """Takes so many milliseconds of a core for a step."""

    observation_space = Box(-np.inf, np.inf, (WIDTH,), np.float32)
    action_space = Discrete(2)

    def __init__(self, milliseconds: float) -> None:
        self.seconds, self.x = milliseconds / 1e3, np.zeros(WIDTH, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.x, {}

    def step(self, action: Any) -> Any:
        until = time.thread_time() + self.seconds
        while time.thread_time() < until:
            pass
        return self.x, 0.0, False, False, {}


def stepped(env: gymnasium.Env[Any, Any], workers: int, seconds: float = 1.5) -> float:
    """Steps a second of 8 copies."""
    head = make_head(env.action_space)
    played = copies.copies(env, 8, 0.0, None, workers)
    vector = VectorEnv(played, Encoder.of(env.observation_space), np.random.default_rng(0))
    actions = np.zeros((8, 1), np.int64)
    vector.roll_out(2, head, lambda rows, t: actions)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        vector.roll_out(5, head, lambda rows, t: actions)
        steps += 5 * 8
    found = steps / (time.perf_counter() - began)
    vector.close()
    return found


def in_processes(sizes: list[int]) -> Iterator[dict[str, Any]]:
    for milliseconds in (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0):
        row: dict[str, Any] = {"ms a step": milliseconds}
        for size in sizes:
            row[f"in {size}"] = round(stepped(Busy(milliseconds), size))
        for size in sizes[1:]:
            row[f"ratio of {size}"] = round(row[f"in {size}"] / row[f"in {sizes[0]}"], 2)
        yield row


def main() -> int:
    if sys.argv[1:2] == ["share"]:  # one of the processes of `together`
        torch.set_num_threads(1)
        print(share(*map(int, sys.argv[2:])))
        return 0
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("what", choices=["speed", "parallel", "workers"])
    parser.add_argument("--devices", nargs="+", default=["cpu"])
    parser.add_argument("--processes", nargs="+", type=int, default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = {
        "speed": lambda: speeds(options.devices),
        "parallel": lambda: parallel(options.processes or [1, 2]),
        "workers": lambda: in_processes(options.processes or [0, 2]),
    }[options.what]()
    print(f"load of this machine: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}")
    rows = []
    for row in made:
        rows.append(row)
        print("  ".join(f"{k} {value:>9}" for k, value in row.items()), flush=True)
        if options.out:
            with options.out.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
