# ruff: noqa: E402
"""Speed of preference learning: a DPO update, scores of candidates, the loop of reward models.

python benchmarks/preferences.py [--only update scores loop] [--imitation PYTHON] [--out CSV]

CPU time, one thread, medians of repetitions taken in turns.

update: one step of Adam on the DPO loss of 512 pairs of 50 steps, 51 200 states of 4 numbers,
64 × 64 tanh network, two actions. The rival is plain torch: the same network, loss and Adam by
autograd, the reference's log-probabilities computed beforehand, as ours are.

scores: 10 000 pairs of 50 steps under five reward networks of 64 × 64: each member's differences of
returns, then every score of the family that reads beliefs alone. The rival scores a pair at a time
with the same networks in torch, as a fragmenter of imitation does; it sees 200 pairs.

loop: Pendulum-v1, 4000 steps of training, 100 comparisons of 100 steps in six rounds, PPO with
batches of 800 steps, 10 epochs of minibatches of 64; reward networks of 32 × 32, 600 passes over
the first ten labels, then 3 a round over all; one network with random pairs, or five with those
that they disagree about of twice as many. These are the defaults of imitation's command, the PPO is
of stable-baselines3's. The rival is imitation 1.0.1 with the same settings, in a process of the
Python that --imitation names (benchmarks/imitation_peer.py; an environment of its own with
`pip install imitation==1.0.1 "setuptools<81"`); without it ours runs alone. The
rollouts that pairs are made of come on top of the 4000 steps for both: here all of them, from
shared starts; imitation cuts them out of the training's as far as those go.
"""

import os

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # read when numpy and torch are imported

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import gymnasium
import imitation_peer as peer
import numpy as np
import torch

from rlentropy.neural.actor_critic import ActorCritic, Config
from rlentropy.neural.copies import replicate
from rlentropy.neural.spaces import NeuralPolicy
from rlentropy.preferences import scores
from rlentropy.preferences.losses import preference_loss, sigmoid
from rlentropy.preferences.neural import SegmentPolicy, joined_labelled, untrained
from rlentropy.preferences.neural_rollouts import SharedStarts, scaling_of
from rlentropy.preferences.reward_models import RewardModels, improve
from rlentropy.preferences.segments import Pairs, Segments

PAIRS, CANDIDATES, T, HIDDEN, BETA = 512, 10_000, 50, (64, 64), 0.2
REPETITIONS, LOOPS = 7, 3
SCORES = ("predictive_entropy", "expected_entropy", "bald", "pairwise_kl", "improved_total",
          "disagreement", "logit_deviation", "vote_entropy", "bayesian_certainty",
          "label_information", "volume_removal", "max_regret", "expected_gap")  # fmt: skip
Rows = list[tuple[str, float, str]]  # what, value, unit


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def in_turns(work: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Median CPU seconds of each, after a first call that does not count."""
    for one in work.values():
        one()
    taken = [{name: seconds(one) for name, one in work.items()} for _ in range(repetitions)]
    return {name: float(np.median([times[name] for times in taken])) for name in work}


def example(n: int, rng: np.random.Generator) -> tuple[NeuralPolicy, Pairs]:
    """Pairs of full length in CartPole's spaces, at random."""
    env = gymnasium.make("CartPole-v1")

    def segments() -> Segments:
        states = rng.standard_normal((n, T + 1, 4), dtype=np.float32)
        states[:, 0] = 0.0
        actions, lengths = rng.integers(0, 2, (n, T, 1)), np.full(n, T)
        return Segments(states, actions, np.ones((n, T)), lengths, np.zeros(n, bool), np.arange(n))

    return untrained(env, HIDDEN, rng), Pairs(segments(), segments())


def as_torch(layers: list[tuple[np.ndarray, np.ndarray]]) -> torch.nn.Sequential:
    """The same network as modules of torch."""
    modules: list[torch.nn.Module] = []
    for w, b in layers:
        linear = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.as_tensor(w.T))
            linear.bias.copy_(torch.as_tensor(b))
        modules += [linear, torch.nn.Tanh()]
    return torch.nn.Sequential(*modules[:-1])


def update() -> Rows:
    rng = np.random.default_rng(0)
    reference, pairs = example(PAIRS, rng)
    y = rng.integers(0, 2, PAIRS).astype(float)
    policy = SegmentPolicy(reference, 1e-3)
    labelled, loss = policy.labelled(pairs), partial(preference_loss, "dpo", beta=BETA)

    network = as_torch(list(reference.layers))
    adam = torch.optim.Adam(network.parameters(), 1e-3)
    states = np.concatenate([pairs.a.states[:, :-1], pairs.b.states[:, :-1]])
    x = torch.as_tensor(states).reshape(-1, 4)
    actions = torch.as_tensor(np.concatenate([pairs.a.actions, pairs.b.actions])).reshape(-1, 1)
    target = torch.as_tensor(y, dtype=torch.float32)

    def log_p() -> torch.Tensor:
        chosen = torch.log_softmax(network(x), 1).gather(1, actions)
        return chosen.reshape(2, PAIRS, T).sum(2)

    with torch.no_grad():
        before = log_p()

    def plain() -> None:
        sums = log_p() - before
        margins = BETA * (sums[0] - sums[1])
        adam.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(margins, target).backward()
        adam.step()

    ours = in_turns({"ours": lambda: policy.learn(labelled, y, loss), "torch": plain}, REPETITIONS)
    return [
        ("DPO update of 51 200 states (target: at most 60)", 1e3 * ours["ours"], "ms"),
        ("DPO update by plain torch", 1e3 * ours["torch"], "ms"),
        ("DPO update torch / ours", ours["torch"] / ours["ours"], "ratio"),
    ]


def score_all(gaps: np.ndarray) -> None:
    weights = np.full(len(gaps), 1.0 / len(gaps))
    for name in SCORES:
        getattr(scores, name)(gaps, weights)


def scoring() -> Rows:
    rng = np.random.default_rng(0)
    policy, pairs = example(CANDIDATES, rng)
    models = RewardModels(policy.head, policy.scaling, 5, rng, HIDDEN)
    networks = [as_torch([(w.detach()[k].numpy(), b.detach()[k, 0].numpy())
                          for w, b in zip(models.network.weights, models.network.biases,
                                          strict=True)]) for k in range(5)]  # fmt: skip
    few = pairs.take(np.arange(200))

    def one_by_one() -> None:
        for i in range(len(few)):
            returns = []
            for part in (few.a, few.b):
                one_hot = np.eye(2, dtype=np.float32)[part.actions[i, :, 0]]
                inputs = np.concatenate([part.states[i, :-1], one_hot], axis=1)
                with torch.no_grad():
                    rewards = [torch.tanh(net(torch.as_tensor(inputs))).sum() for net in networks]
                returns.append(np.array([float(r) for r in rewards]))
            sigmoid(returns[0] - returns[1]).std()

    gaps = models.gaps(pairs)
    work = {
        "gaps": lambda: models.gaps(pairs),
        "scores": lambda: score_all(gaps),
        "one by one": one_by_one,
    }
    taken = in_turns(work, 3)
    alone = taken["one by one"] * CANDIDATES / len(few)
    return [
        ("gaps of 10 000 pairs under five members", 1e3 * taken["gaps"], "ms"),
        (f"{len(SCORES)} scores of them", 1e3 * taken["scores"], "ms"),
        ("gaps and one score a pair at a time", 1e3 * alone, "ms"),
        ("a pair at a time / ours", alone / (taken["gaps"] + taken["scores"]), "ratio"),
    ]


def rounds() -> list[int]:
    """Comparisons of each round: a share first, the rest falling as 1 / (1 + t)."""
    first = int(peer.COMPARISONS * peer.FIRST_SHARE)
    share = 1.0 / (1.0 + np.linspace(0.0, 1.0, peer.ITERATIONS))
    ends = np.rint(np.cumsum(share / share.sum()) * (peer.COMPARISONS - first)).astype(int)
    return [first, *np.diff(ends, prepend=0).tolist()]


def our_loop(members: int, seed: int = 0) -> None:
    env, rng = gymnasium.make(peer.ENV_ID), np.random.default_rng(seed)
    size = peer.STEPS // peer.ITERATIONS
    config = Config(num_envs=peer.ENVS, rollout_steps=size // peer.ENVS, epochs=10,
                    minibatches=-(-size // 64), learning_rate=3e-4)  # fmt: skip
    agent = ActorCritic(env, config, rng)
    starts = SharedStarts(replicate(env, 50, 0.0))
    models: RewardModels | None = None
    labels, answers = [], []
    for k, n in enumerate(rounds()):
        many = n if members == 1 else peer.FACTOR * n
        policy = agent.acting()
        pairs = starts.pairs(policy, starts.draw(many, rng), peer.FRAGMENT, rng)
        if models is None:
            scaling = scaling_of(policy, pairs.a)
            models = RewardModels(agent.head, scaling, members, rng, peer.HIDDEN)
        if members > 1:
            weights = np.full(members, 1.0 / members)
            doubt = scores.disagreement(models.gaps(pairs), weights)
            pairs = pairs.take(np.argsort(-doubt)[:n])
        labels.append(models.labelled(pairs))
        answers.append((rng.random(n) < sigmoid(pairs.gaps)).astype(float))
        passes = peer.EPOCHS if k else peer.FIRST_EPOCHS
        labelled, y = joined_labelled(labels), np.concatenate(answers)
        models.fit(labelled, y, rng, passes, enough=np.inf)
        if k < peer.ITERATIONS:
            improve(agent, models, size)
    assert agent.env_steps == peer.STEPS
    assert sum(map(len, answers)) == peer.COMPARISONS
    agent.envs.close()


def their_loop(python: str, members: int) -> float:
    command = [python, peer.__file__, str(members)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(json.loads(printed.splitlines()[-1])["seconds"])


def loop(python: str | None) -> Rows:
    found: Rows = []
    for members, named in ((1, "one network"), (5, "five networks")):
        name = f"preference loop of {named}"
        our_loop(members)
        ours, theirs = [], []
        for _ in range(LOOPS):
            ours.append(seconds(partial(our_loop, members)))
            if python is not None:
                theirs.append(their_loop(python, members))
        found.append((name, peer.STEPS / float(np.median(ours)), "steps/s"))
        if python is not None:
            ratio = float(np.median(np.divide(theirs, ours)))
            found.append((f"{name} by imitation", peer.STEPS / float(np.median(theirs)), "steps/s"))
            found.append((f"{name} ours / imitation (target 5)", ratio, "ratio"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("update", "scores", "loop")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--imitation", help="a Python that has imitation 1.0.1")
    parser.add_argument("--out", type=Path, help="a CSV file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = {"update": update, "scores": scoring, "loop": partial(loop, options.imitation)}
    lines = ["what,value,unit"]
    print(lines[0])
    for name in options.only:
        for what, value, unit in work[name]():
            lines.append(
                f'"{what}",{value:.3g},{unit}' if "," in what else f"{what},{value:.3g},{unit}"
            )
            print(lines[-1], flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
