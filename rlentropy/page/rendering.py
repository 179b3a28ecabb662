"""Clips, made one after the other in a thread of their own, most before they are asked for."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from queue import PriorityQueue

from rlentropy.errors import InputError
from rlentropy.files import plain
from rlentropy.page.clips import TEXT_FPS, Clip

MOST = 128  # clips that are kept
PATIENCE = 5.0  # seconds that the end waits for a clip in hand

Draw = Callable[[str], Clip]  # of a segment's hash


class Rendering:
    """Makes clips in the order in which they are needed, and keeps those used last."""

    def __init__(self, draw: Draw, most: int = MOST) -> None:
        """Start the thread.

        Args:
            draw: called in that thread alone, since what draws belongs to one.
            most: clips that are kept once they are made.
        """
        self.draw, self.most = draw, most
        self._clips: OrderedDict[str, Future[Clip]] = OrderedDict()  # used last is last
        self._waiting: PriorityQueue[tuple[int, int, str]] = PriorityQueue()
        self._count = itertools.count()
        self._thread = threading.Thread(target=self._work, name="clips", daemon=True)
        self._thread.start()

    def ask(self, digest: str, rank: int = 0) -> Future[Clip]:
        """A clip, which may still have to be made; those of lower rank are made first."""
        clip = self._clips.get(digest)
        if clip is None:
            self._forget()
            clip = self._clips[digest] = Future()
        self._clips.move_to_end(digest)
        if not clip.done():
            self._waiting.put((rank, next(self._count), digest))
        return clip

    def ahead(self, digests: Iterable[str]) -> None:
        """Make clips when nobody waits for others."""
        for digest in digests:
            self.ask(digest, rank=1)

    def close(self) -> None:
        """Finish the clip in hand, and end the thread."""
        self._waiting.put((-1, 0, ""))
        self._thread.join(PATIENCE)

    def _forget(self) -> None:
        """Drop what was used longest ago, but for what somebody may wait for."""
        for digest in list(itertools.islice(self._clips, max(0, len(self._clips) - self.most + 1))):
            if self._clips[digest].done():
                del self._clips[digest]

    def _work(self) -> None:
        while digest := self._waiting.get()[2]:
            clip = self._clips.get(digest)
            if clip is None or clip.done():  # dropped, or asked for twice
                continue
            try:
                clip.set_result(self.draw(digest))
            except Exception as error:
                clip.set_result(in_words(error))


def in_words(error: Exception) -> Clip:
    """A clip that says in one line why there is none."""
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    frames = [plain(f"{kind}{error}", 300)]
    return Clip({"kind": "text", "frames": frames, "fps": TEXT_FPS, "length": 0, "ended": False})
