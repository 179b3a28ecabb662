# ruff: noqa: E402
"""robust-actor-critic against stable-baselines3's PPO: speed, and returns where things change.

python benchmarks/actor_critic.py speed [--csv PATH]
python benchmarks/actor_critic.py returns [--env-ids ID ...] [--seeds N] [--out DIR]

speed: CPU time of training on CartPole, one thread: 8 copies of 128 steps, 4 epochs of minibatches
of 256, 64 × 64 tanh networks of policy and value for both (ours has a third one, ĝ). Medians of 5
repetitions, in turns.

returns: trains on an environment in which a tenth of the actions is replaced by uniform ones, since
deterministic dynamics leave entropic risk nothing to act on; then scores every policy on grids of
perturbations. PPO gets the settings of rl-baselines3-zoo, the same noise and as many steps. Its
policy is stored as a run folder of robust-actor-critic, so that `evaluate` treats all alike.
Finished runs are skipped, so it can be stopped and started again.
"""

import os

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # read when numpy and torch are imported

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch

from rlentropy import cli
from rlentropy.log import Log
from rlentropy.neural.actor_critic import ActorCritic
from rlentropy.neural.networks import MLP
from rlentropy.robust import actor_critic
from rlentropy.runs.folder import RunFolder
from rlentropy.types import Result
from rlentropy.wrappers import RandomAction

COMMAND, NOISE, EPISODES, REPETITIONS = "robust-actor-critic", 0.1, 20, 5


def linear(start: float) -> Callable[[float], float]:
    """A learning rate or clip that falls to 0; its argument is the share of steps left."""
    return lambda left: left * start


class Study(NamedTuple):
    steps: int
    betas: tuple[float, ...]  # per unit of reward
    options: str  # of ours
    copies: int  # PPO's
    ppo: dict[str, Any]  # settings of rl-baselines3-zoo
    perturb: tuple[str, ...]


STUDIES = {
    "CartPole-v1": Study(
        steps=200_000,
        betas=(0.0, 0.02, 0.1),
        options="",
        copies=8,
        ppo={
            "n_steps": 32,
            "batch_size": 256,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "n_epochs": 20,
            "learning_rate": linear(1e-3),
            "clip_range": linear(0.2),
        },
        perturb=(
            "force_mag=2:50:6",  # N, nominal 10
            "gravity=-19.6:39.2:7.35",  # m/s^2, nominal 9.8
            "length=0.1:2.5:0.3",  # m, nominal 0.5
            "random_action=0:0.8:0.1",
        ),
    ),
    "Pendulum-v1": Study(
        steps=300_000,
        betas=(0.0, 0.05, 0.3),
        options="--gamma 0.9 --rollout-steps 256 --epochs 10 --minibatches 8",
        copies=4,
        ppo={
            "n_steps": 1024,
            "gamma": 0.9,
            "n_epochs": 10,
            "learning_rate": 1e-3,
            "use_sde": True,
            "sde_sample_freq": 4,
        },
        perturb=(
            "g=5:25:2.5",  # m/s^2, nominal 10
            "l=0.6:1.4:0.1",  # m, nominal 1
            "m=0.4:2:0.2",  # kg, nominal 1
            "max_torque=0.8:3.2:0.3",  # N m, nominal 2
            "random_action=0:0.8:0.1",
        ),
    ),
    "LunarLander-v3": Study(
        steps=300_000,
        betas=(0.0, 0.01),
        options="--gamma 0.995 --num-envs 16 --rollout-steps 256 --epochs 4 --minibatches 8 "
        "--gae-lambda 0.98 --entropy-bonus 0.003",
        copies=16,
        ppo={
            "n_steps": 1024,
            "batch_size": 64,
            "gae_lambda": 0.98,
            "gamma": 0.999,
            "n_epochs": 4,
            "ent_coef": 0.01,
        },
        perturb=(
            "gravity=-18:-2:2",  # nominal -10
            "wind_power=0:20:2.5",  # nominal 0
            "engine_power=x0.6:1.4:0.1",  # of both engines
            "random_action=0:0.4:0.05",
        ),
    ),
}


# ---------------------------------------------------------------- speed


def steps_per_second(learn: Callable[[], object], steps: int) -> float:
    began = time.process_time()
    learn()
    return steps / (time.process_time() - began)


def ours(risk: str) -> Callable[[], object]:
    """Trains on ten batches of 1024 steps."""
    config = actor_critic.Config(risk=risk, num_envs=8, rollout_steps=128, epochs=4, minibatches=4)
    env = gymnasium.make("CartPole-v1")
    learner = ActorCritic(env, config, np.random.default_rng(0))
    return lambda: [learner.learn(learner.play()) for _ in range(10)]


def theirs() -> Callable[[], object]:
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", 8, seed=0),
        n_steps=128,
        batch_size=256,
        n_epochs=4,
        policy_kwargs={"net_arch": [64, 64]},
        device="cpu",
        seed=0,
    )
    return lambda: model.learn(10 * 1024)


def speed(path: str | None) -> None:
    learners = {"nominal": ours("nominal"), "entropic": ours("entropic:0.1"), "sb3 ppo": theirs()}
    for learn in learners.values():
        learn()
    rates: dict[str, list[float]] = {name: [] for name in learners}
    for _ in range(REPETITIONS):
        for name, learn in learners.items():
            rates[name].append(steps_per_second(learn, 10 * 1024))
    medians = {name: float(np.median(r)) for name, r in rates.items()}
    lines = ["what,value,unit"]
    lines += [f"{name},{rate:.0f},steps/s" for name, rate in medians.items()]
    for name in ("nominal", "entropic"):
        ratio = np.median(np.divide(rates[name], rates["sb3 ppo"]))
        lines.append(f"{name} / sb3 ppo (target 1.5),{ratio:.2f},ratio")
    print("\n".join(lines))
    if path:
        Path(path).write_text("\n".join(lines) + "\n")


# ---------------------------------------------------------------- returns


def finished(folder: Path) -> bool:
    return (folder / "summary.json").exists()


def train_ours(env_id: str, beta: float, seed: int, folder: Path) -> None:
    study = STUDIES[env_id]
    code = cli.main(
        [
            *(COMMAND, "--env-id", env_id, "--seed", str(seed), "--out", str(folder)),
            *("--label", f"beta={beta:g}", "--risk", f"entropic:{beta}"),
            *("--steps", str(study.steps), "--random-action", str(NOISE)),
            *("--overwrite", "--quiet", *study.options.split()),
        ]
    )
    if code:
        raise SystemExit(code)


def train_ppo(env_id: str, seed: int, folder: Path) -> None:
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    study = STUDIES[env_id]
    noise: dict[str, Any] = {
        "wrapper_class": RandomAction,
        "wrapper_kwargs": {"probability": NOISE},
    }
    envs = make_vec_env(env_id, study.copies, seed=seed, **noise)
    model = PPO("MlpPolicy", envs, seed=seed, device="cpu", **study.ppo)
    settings = {"env_id": env_id, "env_kwargs": "{}", "seed": seed, "label": "sb3-ppo"}
    run = RunFolder.open(folder, COMMAND, settings, resume=False, overwrite=True)
    log = Log(folder)
    with run.running(log):
        model.learn(study.steps)
        summary = {"env_steps": model.num_timesteps, "gamma": model.gamma}
        run.finish(log, Result(summary, network=saved_policy(model)))


def saved_policy(model: Any) -> dict[str, Any]:
    """PPO's network in the form of robust-actor-critic's policy.pt."""
    policy, space = model.policy, model.action_space
    layers = [m for m in policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)]
    layers.append(policy.action_net)
    pairs = [(m.weight.detach().T, m.bias.detach()) for m in layers]
    if isinstance(space, gymnasium.spaces.Box):  # ours are in units of the bounds
        half = torch.as_tensor((space.high - space.low) / 2.0)
        centre = torch.as_tensor((space.high + space.low) / 2.0)
        weight, bias = pairs[-1]
        weight, bias = weight / half, (bias - centre) / half
        deviation = torch.zeros_like(bias)  # not used: it is evaluated at its mean
        pairs[-1] = (torch.hstack([weight, torch.zeros_like(weight)]), torch.cat([bias, deviation]))
    sizes = [pairs[0][0].shape[0], *(len(bias) for _, bias in pairs)]
    network = MLP(sizes, [np.random.default_rng(0)])
    with torch.no_grad():
        for (weight, bias), w, b in zip(pairs, network.weights, network.biases, strict=True):
            w[0], b[0, 0] = weight, bias
    return {
        "flat": network.flat.detach().clone(),
        "sizes": sizes,
        "activation": "tanh",
        "mean": torch.zeros(sizes[0]),
        "deviation": torch.ones(sizes[0]),
        "stochastic": False,
    }


def returns(env_ids: list[str], seeds: int, out: Path) -> None:
    for env_id in env_ids:
        study, here = STUDIES[env_id], out / env_id
        for seed in range(seeds):
            for beta in study.betas:
                if not finished(folder := here / f"beta{beta:g}" / f"seed{seed}"):
                    train_ours(env_id, beta, seed, folder)
                    report(folder)
            if not finished(folder := here / "sb3-ppo" / f"seed{seed}"):
                train_ppo(env_id, seed, folder)
                report(folder)
        grids = [argument for grid in study.perturb for argument in ("--perturb", grid)]
        where = ["--out", str(here / "evaluation"), "--env-id", env_id]
        names = [f"beta{beta:g}" for beta in study.betas] + ["sb3-ppo"]
        runs = [str(here / name / f"seed{seed}") for name in names for seed in range(seeds)]
        cli.main(["evaluate", "--run", *runs, *where, "--episodes", str(EPISODES), *grids])


def report(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    print(folder, summary.get("mean_return"), f"{summary['wall_seconds']:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    tasks = parser.add_subparsers(dest="task", required=True)
    tasks.add_parser("speed").add_argument("--csv", help="also write the figures to this file")
    study = tasks.add_parser("returns")
    study.add_argument("--env-ids", nargs="+", default=list(STUDIES), choices=list(STUDIES))
    study.add_argument("--seeds", type=int, default=5)
    study.add_argument("--out", type=Path, default=Path("results/runs/robust-actor-critic"))
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(1)
    if options.task == "speed":
        speed(options.csv)
    else:
        returns(options.env_ids, options.seeds, options.out)


if __name__ == "__main__":
    main()
