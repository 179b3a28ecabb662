"""The log of a run, its checkpoints, and the loop that everything which learns is driven by.

`Log` is where a run writes, `drive` the one outer loop; docs/usage.md lists a run's files.
"""

from rlentropy.log.checkpoints import (
    CHECKPOINT,
    compress_checkpoint,
    metrics_are_whole,
    owner_of,
)
from rlentropy.log.loop import Agent, drive
from rlentropy.log.writer import Interrupted, Log

__all__ = [
    "CHECKPOINT",
    "Agent",
    "Interrupted",
    "Log",
    "compress_checkpoint",
    "drive",
    "metrics_are_whole",
    "owner_of",
]


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*__all__]
