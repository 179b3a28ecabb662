"""Offline runs in several processes, as torchrun starts them, for tests/log/test_ranks.py.

Each run of `RUNS` is a function of a port, and gives what it found; a program that is run as

    RANK=… WORLD_SIZE=… python ranks.py OUT PORT…

plays all of them in its place among the processes, a port each, and rank 0 writes to OUT.
"""

import os
import pickle
import socket
import sys
from pathlib import Path

import numpy as np
from gymnasium.spaces import Box, Discrete

from rlentropy.data import Transitions
from rlentropy.log import Log, ranks
from rlentropy.offline import fqi, rfqi, rfzi

ROOT = Path(__file__).parents[2]
SMALL = {"hidden": (24, 24), "batch_size": 61, "target_every": 20}


def transitions(boxes):
    """1 500 random ones, of a Box and of a grid of actions, or of states."""
    rng, n = np.random.default_rng(5), 1500
    x = rng.standard_normal((n + 1, 3)) if boxes else rng.integers(12, size=n + 1)
    a = rng.uniform(-1.0, 1.0, (n, 1)) if boxes else rng.integers(3, size=n)
    spaces = (Box(-9.0, 9.0, (3,)), Box(-1.0, 1.0, (1,))) if boxes else (Discrete(12), Discrete(3))
    return Transitions.from_arrays(
        *(x[:-1], a, np.sin(np.arange(n)), x[1:], rng.random(n) < 0.02, np.arange(n) % 50 == 49),
        observation_space=spaces[0],
        action_space=spaces[1],
    )


RUNS = {
    "rfzi": (rfzi, True, {"updates": 500}),
    "rfqi, seeds": (rfqi, True, {"updates": 100, "seeds": 2, "support": 0.1, "action_grid": 5}),
    "fqi, states": (fqi, False, {"updates": 200, "approximator": "neural", "seeds": 2}),
}


def play(name):
    """What a run finds: networks, or tables, and what it logs."""
    module, boxes, options = RUNS[name]
    log, logged = Log(None), {}
    log.scalars = lambda values, step: logged.update(values)
    config = module.Config(**SMALL | options)
    rng = np.random.default_rng(np.random.SeedSequence(3))
    result = module.run(transitions(boxes), config, rng, log)
    found = {tag: np.array(value) for tag, value in logged.items() if tag.startswith("eval/")}
    if result.network:
        parts = enumerate(result.network["network"])
        return found | {f"layer {k}": part.numpy() for k, part in parts}
    return found | {"Q": result.policy["Q"]}


def places(size, ports):
    """The environment of each of so many processes."""
    for rank in range(size):
        more = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": ports[0]}
        more |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": 1}
        more["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        yield os.environ | {name: str(value) for name, value in more.items()}


def free_ports(n):
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


def main(out, *ports):
    import torch

    torch.set_num_threads(1)
    found, codes = {}, []
    for name, port in zip(RUNS, ports, strict=True):
        os.environ["MASTER_PORT"] = port
        with ranks.joined("cpu"):
            if ranks.follows():
                codes.append(ranks.follow(lambda name=name: play(name)))
            else:
                found[name] = play(name)
    if found:
        Path(out).write_bytes(pickle.dumps(found))
    return sum(codes)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
