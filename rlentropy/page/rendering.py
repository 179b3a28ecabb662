"""Clips, made one after the other in a thread of their own, most before they are asked for."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import PriorityQueue
from typing import Any, Protocol

from rlentropy.errors import InputError
from rlentropy.files import plain
from rlentropy.preferences.export import as_text
from rlentropy.preferences.store import Store

MOST = 2**26  # bytes of pictures that are kept
FPS = 4  # of texts
PATIENCE = 5.0  # seconds that the end waits for a clip in hand


class Clip(Protocol):
    """A segment as it is shown."""

    @property
    def facts(self) -> dict[str, Any]: ...  # what the page must know to show it
    @property
    def png(self) -> bytes | None: ...  # its frames in a grid; None where they are texts


Drawing = Callable[[str], Clip]  # of a segment's hash
Say = Callable[[str], None]


@dataclass(frozen=True)
class Text:
    """A segment in words: each frame shows what has happened so far."""

    facts: dict[str, Any]
    png: None = None


def text_clip(store: Store, digest: str) -> Text:
    """A segment without pictures; where its file is damaged, one line that says so."""
    try:
        segment = store.segments([digest])
    except InputError as error:
        facts = {"kind": "text", "frames": [str(error)], "fps": FPS, "length": 0, "ended": False}
        return Text(facts)
    *lines, _ = as_text(segment).splitlines()
    frames = ["\n".join(lines[: t + 1]) for t in range(len(lines))]
    length, ended = int(segment.lengths[0]), bool(segment.terminated[0])
    facts = {"kind": "text", "frames": frames, "fps": FPS, "length": length, "ended": ended}
    return Text(facts)


class Rendering:
    """Makes clips in the order in which they are needed, and keeps those used last."""

    def __init__(
        self, make: Callable[[], Drawing], otherwise: Drawing, most: int = MOST, say: Say = print
    ) -> None:
        """Start the thread.

        Args:
            make: called in that thread, since what draws belongs to the thread that began it.
            otherwise: what makes a clip where `make`, or what it made, fails.
            most: bytes that clips may take.
            say: is told in one line why there are no pictures, once.
        """
        self.make, self.otherwise, self.most, self.say = make, otherwise, most, say
        self._clips: OrderedDict[str, Future[Clip]] = OrderedDict()  # used last is last
        self._waiting: PriorityQueue[tuple[int, int, str]] = PriorityQueue()
        self._count = itertools.count()
        self._failed = False
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
        """Drop what was used longest ago."""
        sizes = {digest: size_of(clip) for digest, clip in self._clips.items() if clip.done()}
        total = sum(sizes.values())
        for digest, size in sizes.items():
            if total <= self.most:
                return
            del self._clips[digest]
            total -= size

    def _work(self) -> None:
        draw: Drawing | None = None
        while digest := self._waiting.get()[2]:
            clip = self._clips.get(digest)
            if clip is None or clip.done():  # dropped, or asked for twice
                continue
            try:
                draw = draw or self._begin()
                clip.set_result(self._draw(draw, digest))
            except Exception as error:
                clip.set_exception(error)

    def _begin(self) -> Drawing:
        try:
            return self.make()
        except Exception as error:
            self.say(f"clips are shown in words: {plain(error)}")
            return self.otherwise

    def _draw(self, draw: Drawing, digest: str) -> Clip:
        try:
            return draw(digest)
        except Exception as error:
            if not self._failed:
                self.say(f"a clip is shown in words: {plain(error)}")
            self._failed = True
            return self.otherwise(digest)


def size_of(clip: Future[Clip]) -> int:
    """Bytes, about, of a clip that is made."""
    if clip.exception() is not None:
        return 0
    made = clip.result()
    return sum(map(len, made.facts["frames"])) if made.png is None else len(made.png)
