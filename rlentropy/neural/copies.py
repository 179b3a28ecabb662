"""Copies of an environment that are played side by side, in this process or in others.

Steps of a slow environment take their time one after the other, on one core. In K processes they
take it at once; but each step of all copies waits for the slowest process, and passing actions and
observations on costs about as much as some steps of a quick environment. What is played is the same
to the bit: all that is random is seeded from here.
"""

from __future__ import annotations

import copy
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import current_process, get_all_start_methods, get_context, util
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector.utils import CloudpickleWrapper

from rlentropy.errors import InputError
from rlentropy.policies import Index, Several, Turns
from rlentropy.types import Env
from rlentropy.wrappers import RandomAction

MOST_WORKERS = 1024
SECONDS = 5.0  # that a process has to end by itself


def replicate(env: Env, n: int, random_action: float, horizon: int | None = None) -> list[Env]:
    """Environments like `env`, by its spec or else as deep copies, with random actions mixed in.

    Args:
        horizon: takes the place of the spec's time limit.
    """
    envs: list[Env] = []
    for _ in range(n):
        if env.spec is not None:
            twin = gymnasium.make(env.spec, horizon, disable_env_checker=True)
        else:
            twin = copy.deepcopy(env)
            twin = twin if horizon is None else gymnasium.wrappers.TimeLimit(twin, horizon)
        envs.append(RandomAction(twin, random_action) if random_action > 0.0 else twin)
    return envs


def copies(
    env: Env, n: int, random_action: float, horizon: int | None = None, workers: int = 0
) -> Several:
    """n copies of an environment, to be played.

    Args:
        workers: processes that play them; 0: this one.

    Raises:
        InputError: no process can be started from this one, or the environment not be sent to it.
    """
    if not workers:
        return Turns(replicate(env, n, random_action, horizon))
    return Workers(env, n, random_action, horizon, workers)


class Workers:
    """Copies of an environment in K processes: copy i in process i mod K."""

    def __init__(
        self, env: Env, n: int, random_action: float, horizon: int | None, workers: int
    ) -> None:
        if current_process().daemon:
            raise InputError(
                f"env_workers must be 0 in a run of a sweep, which has a process, got {workers}"
            )
        self.action_space, self.size = env.action_space, n
        self.count = min(workers, n)
        method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
        context = get_context(method)
        self.connections: list[Connection] = []
        self.processes: list[Any] = []
        # Before any process is started: what ends this one, ends those, too.
        self.close = util.Finalize(self, end, (self.connections, self.processes), exitpriority=10)
        like: Any = env if env.spec is None else env.spec
        plan = CloudpickleWrapper(like), random_action, horizon
        for k in range(self.count):
            near, far = context.Pipe()
            made = len(range(k, n, self.count))
            process = context.Process(target=serve, args=(far, plan, made), daemon=True)  # type: ignore[attr-defined]
            try:
                process.start()
            except Exception as error:  # what pickle raises of objects that it wasn't made for
                raise InputError(
                    f"env must be one that can be sent to a process, for env_workers, got {error}"
                ) from None
            far.close()
            self.connections.append(near)
            self.processes.append(process)

    def __len__(self) -> int:
        return self.size

    def reset(self, index: Index, seeds: Index) -> list[Any]:
        return self._all("reset", index, seeds)

    def step(self, index: Index, actions: Sequence[Any]) -> list[Any]:
        return self._all("step", index, actions)

    def replay(self, index: Index, seeds: Index, actions: Sequence[Any]) -> list[Any]:
        return self._all("replay", index, seeds, actions)

    def _all(self, method: str, index: Index, *arguments: Sequence[Any]) -> list[Any]:
        """What `Turns` does with the copies of each process, in the order of the index."""
        parts: list[list[int]] = [[] for _ in self.connections]
        for place, i in enumerate(index):
            parts[i % self.count].append(place)
        for k, part in enumerate(parts):
            if part:
                given = [[column[place] for place in part] for column in arguments]
                with self._noticing(k):
                    self.connections[k].send(
                        (method, [index[p] // self.count for p in part], given)
                    )
        found: list[Any] = [None] * len(index)
        failure: Exception | None = None
        for k, part in enumerate(parts):
            if part:
                with self._noticing(k):
                    fine, answers = self.connections[k].recv()
                if fine:
                    for place, answer in zip(part, answers, strict=True):
                        found[place] = answer
                else:
                    failure = failure or answers
        if failure is not None:
            raise failure
        return found

    @contextmanager
    def _noticing(self, k: int) -> Iterator[None]:
        """Say in a line that a process has ended."""
        try:
            yield
        except (EOFError, OSError):
            self.processes[k].join(SECONDS)
            code = self.processes[k].exitcode
            how = signal.Signals(-code).name if code is not None and code < 0 else f"code {code}"
            raise InputError(
                f"env_workers must live until the run ends, got one that ended by {how}: --resume "
                "goes on from the last checkpoint"
            ) from None


def end(connections: list[Connection], processes: list[Any]) -> None:
    """Let processes end: they do when nobody is at the other end of their connection."""
    for connection in connections:
        connection.close()
    for process in processes:
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()


def serve(connection: Connection, plan: tuple[Any, float, int | None], n: int) -> None:
    """What a process does: play n copies as it is told, until nobody tells it any more.

    Ctrl-C and SIGTERM are for who started it, which saves a checkpoint first.
    """
    from threadpoolctl import threadpool_limits

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    played: Turns | None = None
    with suppress(EOFError, OSError), threadpool_limits(1):
        while True:
            method, index, arguments = connection.recv()
            try:
                if played is None:
                    played = made(plan, n)
                answer = True, getattr(played, method)(index, *arguments)
            except Exception as error:
                answer = False, sendable(error)
            connection.send(answer)
    if played is not None:
        with suppress(Exception):  # whatever an environment makes of its end
            played.close()
    sys.stdout.flush()
    os._exit(0)  # whatever threads it has left behind


def made(plan: tuple[Any, float, int | None], n: int) -> Turns:
    """Copies as `replicate` makes them, of a spec or of an environment."""
    wrapped, random_action, horizon = plan
    like: Any = wrapped.fn
    if isinstance(like, EnvSpec):
        like = gymnasium.make(like, disable_env_checker=True)
    return Turns(replicate(like, n, random_action, horizon))


def sendable(error: Exception) -> Exception:
    """An error as another process can read it, with the place that it comes from."""
    told = "".join(traceback.format_exception(error))
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # of a class that takes other arguments
        error = RuntimeError(f"{type(error).__name__}: {error}")
    if not isinstance(error, InputError):
        error.add_note(told)
    return error
