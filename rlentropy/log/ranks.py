"""Several processes that learn the same networks, each from its part of every batch.

`torchrun --nproc-per-node K train.py …` starts K of them, the *ranks*. All make the same agent from
the same seed, and draw the same numbers; each computes the gradient of its own part of a batch, and
takes the sum of all of them for its step. So their networks stay the same, and are those of one
process, within rounding.

Rank 0 leads: it alone evaluates, writes, saves, and looks at the clock and for Ctrl-C. The others
follow it: they do what it does to its agent, until it lets them go.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from rlentropy.errors import InputError

PATIENCE = timedelta(days=1)  # for a leader that evaluates; one that died is noticed at once
LEAVE = "leave"  # what followers are told at the end, with the exit code


class Lost(InputError):
    """A process of the run has ended."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "every process of a run must live until it ends, got one that ended: --resume goes on "
            f"from the last checkpoint, with as many processes as there are then ({reason})"
        )


class Dismissed(Exception):
    """The leader lets this process go."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


@dataclass(frozen=True)
class Place:
    """Of a process among those that torchrun started."""

    rank: int
    size: int
    local: int  # rank among those of this machine

    @classmethod
    def of(cls, environment: Any) -> Place:
        """As torchrun's variables say; the first of one without them."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        try:
            rank, size, local = (int(environment[name]) for name in names)
        except (KeyError, ValueError):
            return cls(0, 1, 0)
        return cls(rank, size, local)


ALONE = Place(0, 1, 0)
_here = ALONE  # once the processes have joined


def started() -> Place:
    """The place that torchrun has given to this process."""
    return Place.of(os.environ)


def size() -> int:
    """How many processes learn together."""
    return _here.size


def follows() -> bool:
    """Whether another process leads this one."""
    return _here.rank > 0


def part_of(n: int) -> slice:
    """This process's part of n things in a row; the parts of all are about as long."""
    return slice(n * _here.rank // _here.size, n * (_here.rank + 1) // _here.size)


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that torchrun started; yields the device of this one.

    Raises:
        InputError: there are more processes than GPUs on a machine, or they can't be joined on
            such a device.
    """
    global _here
    if (place := started()).size == 1:
        yield device
        return
    import torch
    import torch.distributed as dist

    backend, kind = "gloo", device.partition(":")[0]
    if not dist.is_available():
        raise InputError("torch must have torch.distributed for several processes, got one without")
    if kind not in ("cpu", "cuda"):
        raise InputError(f"device must be cpu or cuda for several processes, got {device}")
    if kind == "cuda":
        beside = int(os.environ.get("LOCAL_WORLD_SIZE", place.local + 1))
        if beside > (there := torch.cuda.device_count()):
            raise InputError(
                f"device cuda must have a GPU for each process, got {there} for {beside} "
                "(--nproc-per-node)"
            )
        device, backend = f"cuda:{place.local}", "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(place.local)
    dist.init_process_group(backend, timeout=PATIENCE)
    _here = place
    code = 1
    try:
        yield device
        code = 0
    except InputError:
        code = 2
        raise
    except KeyboardInterrupt:
        code = 130
        raise
    finally:
        with suppress(Exception):  # of followers that are gone
            if place.rank == 0:
                tell(LEAVE, code)
        _here = ALONE
        with suppress(Exception):
            dist.destroy_process_group()


def add_up(gradient: Any) -> None:
    """Put the sum over all processes in the place of a tensor.

    Raises:
        Lost: a process has ended.
    """
    if _here.size == 1:
        return
    import torch.distributed as dist

    with noticing():
        dist.all_reduce(gradient)


@contextmanager
def noticing() -> Iterator[None]:
    """Say in a line that a process has ended."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rpartition("] ")[2].partition(". ")[0]
        raise Lost(reason) from None


# ---------------------------------------------------------------- the leader and its followers


def tell(what: str, argument: Any) -> None:
    """Let followers do to their agents what the leader does to its own."""
    import torch.distributed as dist

    with noticing():
        dist.broadcast_object_list([what, argument], src=0)


def told() -> tuple[str, Any]:
    """What the leader does next."""
    import torch.distributed as dist

    message: list[Any] = [None, None]
    with noticing():
        dist.broadcast_object_list(message, src=0)
    return message[0], message[1]


class Leading:
    """The leader's agent: what is done to it, followers do to theirs."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def advance(self, units: int) -> Any:
        tell("advance", units)
        return self.agent.advance(units)

    def load_state_dict(self, state: Any) -> None:
        tell("load_state_dict", state)
        self.agent.load_state_dict(state)


def led(agent: Any) -> Any:
    """An agent as `drive` takes it; a follower's obeys here until it is let go.

    Raises:
        Dismissed: this process follows, and the leader has ended.
    """
    if _here.size == 1:
        return agent
    if follows():
        obey(agent)
    return Leading(agent)


def obey(agent: Any) -> NoReturn:
    """Follow the leader."""
    while True:
        what, argument = told()
        if what == LEAVE:
            raise Dismissed(argument)
        getattr(agent, what)(argument)


def follow(run: Callable[[], Any]) -> int:
    """Run a command as a follower, without a word; returns the exit code.

    Ctrl-C and SIGTERM are for the leader, which must end what all are at before it saves.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        run()
    except Dismissed as end:
        return end.code
    except InputError:  # the leader has met the same, or has gone: it says so
        return 2
    raise AssertionError("a follower came to the end of a run")
