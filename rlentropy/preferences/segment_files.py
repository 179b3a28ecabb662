"""Segments in files, each an .npz that is named by the hash of what it shows.

Rewards are not part of the hash: two segments that look alike share a file, and so the rewards of
the first that was written, which no learner reads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlentropy.errors import InputError
from rlentropy.files import Unreadable, pack, read_arrays, replace_file
from rlentropy.preferences.segments import Segments, joined

NAMES = ("states", "actions", "rewards", "lengths", "terminated", "starts", "streams")
LATER = {"streams"}  # which older files don't have


def save(
    folder: Path,
    segments: Segments,
    digests: Sequence[str],
    describe: Callable[[Segments], str] | None = None,
) -> None:
    """Write those that are not there yet, each whole or not at all.

    Args:
        describe: a segment as text, which goes beside it for those who can't read its numbers.

    Raises:
        OutputError: the folder can't be written.
    """
    new = False
    for i, digest in enumerate(digests):
        path = folder / f"{digest}.npz"
        if not path.exists():
            one = segments.take([i])
            if describe is not None:
                replace_file(folder / f"{digest}.txt", describe(one).encode())
            replace_file(path, pack({name: getattr(one, name) for name in NAMES}))
            new = True
    if new:
        with suppress(OSError):  # of systems that can't open a folder
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)  # so that the new names outlast a power cut too
            finally:
                os.close(descriptor)


def load(folder: Path, digests: Sequence[str]) -> Segments:
    """The segments with these hashes, in this order.

    Raises:
        InputError: a file is missing or damaged, or shows something else.
    """
    return joined([_one(folder / f"{digest}.npz", digest) for digest in digests])


def _one(path: Path, digest: str) -> Segments:
    try:
        arrays: dict[str, Any] = read_arrays(path, NAMES, LATER)
    except FileNotFoundError:
        raise InputError(f"campaign must hold its segments, got no {path}") from None
    T = arrays["rewards"].shape[-1]
    right = (
        all(len(array) == 1 if array.ndim else False for array in arrays.values())
        and arrays["rewards"].shape == (1, T)
        and arrays["states"].shape[:2] == (1, T + 1)
        and arrays["actions"].shape[:2] == (1, T)
        and all(arrays[name].shape == (1,) for name in NAMES[3:] if name in arrays)
        and arrays["lengths"].dtype.kind in "iu"
        and 0 <= arrays["lengths"][0] <= T
    )
    if not right:
        raise Unreadable(path, f"its arrays are {[(k, v.shape) for k, v in arrays.items()]}")
    segment = Segments(**arrays)
    if segment.digests() != [digest]:
        raise Unreadable(path, "it shows another segment than its name says")
    return segment


def pick(held: dict[str, tuple[Segments, int]], digests: Sequence[str]) -> Segments:
    """The same from a dictionary: the batch that a segment came in, and its place there."""
    return joined([held[digest][0].take([held[digest][1]]) for digest in digests])
