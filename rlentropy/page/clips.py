"""What a person sees of a segment: its frames in one picture, or text.

A segment of a network is played again in its environment, from the seed of its reset, with the
generators that it had after the start (preferences §7) and its actions. It is shown where the same
observations come back. The states of a table are set one by one. Where an environment can't be
drawn, or shows something else than what was played, the clip is text and says why.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rlentropy import neural, policies, preferences
from rlentropy.envs.tabular import TabularEnv
from rlentropy.errors import InputError
from rlentropy.files import plain
from rlentropy.mdp import known
from rlentropy.preferences.boards import board, shown_states
from rlentropy.preferences.export import SEPARATOR, as_text, stored_text
from rlentropy.preferences.segments import Segments
from rlentropy.preferences.store import Store
from rlentropy.types import Env
from rlentropy.wrappers import Checked, Frame, make_env, make_with_pictures, picture, trusted

MOST = 120  # frames of a clip
WIDEST = 400  # pixels of a frame on a side; larger ones are shrunk by a whole factor
AREA = 2**23  # pixels of all frames, each of which takes a browser four bytes
FASTEST = 30  # frames a second
TEXT_FPS = 4
LINES = 8  # of a text, the last of which is new
# Relative, of observations that are large: other machines round otherwise, which nobody sees.
ROUNDING = 1e-3
STATE_NAMES = ("state", "s")  # of finite environments: ours, and toy-text
RESETS = 5  # that must agree with one of them


class Clip(NamedTuple):
    """A segment as it is shown."""

    facts: dict[str, Any]  # what the page must know to show it
    png: bytes | None = None  # its frames in a grid, row by row; None where they are texts


class Clips:
    """Makes clips of a campaign's segments, in one thread: what draws belongs to it."""

    def __init__(self, store: Store, env_id: str = "", env_kwargs: str = "") -> None:
        """Read where a campaign is played; nothing is imported or made before the first clip.

        Args:
            env_id, env_kwargs: where its segments are drawn; default: what the store says.

        Raises:
            InputError: what the store says would import a module or open a file.
        """
        assert store.folder is not None, "segments in memory belong to simulated teachers"
        self.store, about = store, store.about
        self.env_id = env_id or trusted("env_id", about.get("env_id", ""), store.folder)
        kwargs = about.get("env_kwargs") or "{}"
        self.env_kwargs = env_kwargs or trusted("env_kwargs", kwargs, store.folder)
        self._env: Env | None = None
        self._why = "" if self.env_id else "the campaign has no environment"  # it can't be drawn

    def make(self) -> Env:
        """The environment, which need not draw.

        Raises:
            InputError: it can't be made.
        """
        return make_env(self.env_id, self.env_kwargs, unlimited=True)

    def of(self, digest: str) -> Clip:
        """The clip of a segment.

        Raises:
            InputError: there is no such segment, or its file is damaged.
        """
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise InputError(f"digest must be 64 hexadecimal digits, got {plain(digest, 80)}")
        segment = self.store.segments([digest])  # reads a file, which any thread may
        length, ended = int(segment.lengths[0]), bool(segment.terminated[0])
        facts = {"length": length, "ended": ended}
        if (text := stored_text(self.store, digest)) is not None:
            return Clip(text_facts([text.replace(SEPARATOR, "\n\n")]) | facts)
        at = shown_steps(length)
        try:
            env = self._drawable()
            frames = [shrunk(picture(env), len(at)) for t in played(env, segment) if t in at]
            found, png = sprite(frames)
        except Exception as error:  # whatever foreign code makes of being played or drawn
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            why = plain(f"No pictures: {kind}{error}", 300)
            return Clip(text_facts(texts(segment, at, why, self._env)) | facts)
        rate = min(float(env.metadata.get("render_fps") or FASTEST), FASTEST)
        thinned = (len(frames) - 1) / length if length else 1.0
        return Clip({"kind": "image", "fps": rate * thinned} | found | facts, png)

    def _drawable(self) -> Env:
        """The environment, made once."""
        if self._why:
            raise InputError(self._why)
        if self._env is None:
            try:
                self._env = make_with_pictures(self.env_id, self.env_kwargs, unlimited=True)
            except Exception as error:
                self._why = str(error)
                raise
        return self._env


def shown_steps(length: int) -> list[int]:
    """Steps of a segment that are shown, at most `MOST`: every k-th, and the last."""
    every = max(1, math.ceil(length / (MOST - 1)))
    return sorted({*range(0, length, every), length})


# ---------------------------------------------------------------- the states of a segment


def played(env: Env, segment: Segments) -> Iterator[int]:
    """Take an environment through the states of a segment; t = 0, …, length as each is there.

    Raises:
        InputError: it can't be brought there.
    """
    yield from (placed if segment.states.ndim == 2 else replayed)(env, segment)


def replayed(env: Env, segment: Segments) -> Iterator[int]:
    """By the same seeds and actions.

    Raises:
        InputError: other observations than those of the segment come back, or another end.
    """
    encode = neural.spaces.Encoder.of(env.observation_space)
    head = neural.spaces.make_head(env.action_space)
    actions = policies.plain(head.to_space(segment.actions[0]), env.action_space)
    length, checked = int(segment.lengths[0]), Checked(env)
    seen, terminated = checked.reset(int(segment.starts[0])), False
    preferences.neural_rollouts.reseed(env, np.random.default_rng(int(segment.streams[0])))
    for t in range(length + 1):
        if t:
            seen, _, terminated, _ = checked.step(actions[t - 1])
        row, wanted = encode([seen])[0], segment.states[0, t]
        if row.shape != wanted.shape or not np.allclose(row, wanted, ROUNDING, ROUNDING):
            raise InputError(f"played again, step {t} shows something else than the segment")
        if terminated != (t == length and bool(segment.terminated[0])):
            raise InputError(f"played again, the segment ends otherwise at step {t}")
        yield t


def placed(env: Env, segment: Segments) -> Iterator[int]:
    """By setting the states of a table.

    Raises:
        InputError: the environment has no state that can be set.
    """
    base: Any = env.unwrapped
    name, first = state_name(env), int(getattr(env.observation_space, "start", 0))
    for t, state in enumerate(shown_states(env, segment)):
        action = int(segment.actions[0, t - 1]) if t else None
        if isinstance(base, TabularEnv):
            base.place(state, action)
        else:
            setattr(base, name, first + state)
            if hasattr(base, "lastaction"):
                base.lastaction = action
        yield t


def state_name(env: Env) -> str:
    """The attribute that holds a finite environment's state, which is reset.

    Raises:
        InputError: no attribute is what resets show.
    """
    base, seen = env.unwrapped, []
    for seed in range(RESETS):
        state = int(env.reset(seed=seed)[0])
        seen.append([name for name in STATE_NAMES if known.attribute(base, name) == state])
    for name in STATE_NAMES:
        if all(name in names for names in seen):
            return name
    raise InputError(f"env must hold its state as {' or '.join(STATE_NAMES)}, got neither")


# ---------------------------------------------------------------- texts


def text_facts(frames: list[str]) -> dict[str, Any]:
    return {"kind": "text", "frames": frames, "fps": TEXT_FPS}


def texts(segment: Segments, at: Sequence[int], why: str, env: Env | None) -> list[str]:
    """Steps of a segment in words, below a line that says why: the board, and the last few steps.

    Args:
        env: where its states are cells of a grid, if there is one.
    """
    boards: list[list[str]] = [[] for _ in range(segment.states.shape[1])]
    if env is not None and segment.states.ndim == 2:
        way = shown_states(env, segment)
        boards = [board(env, way[: t + 1]) for t in range(len(way))]
    *lines, _ = as_text(segment).splitlines()
    return ["\n".join([why, *boards[t], *lines[max(0, t + 1 - LINES) : t + 1]]) for t in at]


# ---------------------------------------------------------------- pictures


def shrunk(frame: Frame, n: int) -> Any:
    """A frame, one of n, as a picture that is smaller by a whole factor."""
    from PIL import Image

    height, width = frame.shape[:2]
    factor = math.ceil(max(height / WIDEST, width / WIDEST, math.sqrt(n * height * width / AREA)))
    return Image.fromarray(frame).reduce(factor)


def sprite(frames: Sequence[Any]) -> tuple[dict[str, int], bytes]:
    """Frames in one PNG: their number, the columns of the grid, and the size of each in pixels.

    Raises:
        InputError: they are of different sizes.
    """
    from PIL import Image

    sizes = dict.fromkeys(frame.size for frame in frames)
    if len(sizes) > 1:
        shown = " and ".join(f"{width} x {height}" for width, height in list(sizes)[:2])
        raise InputError(f"the environment's pictures must be of one size, got {shown}")

    (width, height), columns = frames[0].size, math.ceil(math.sqrt(len(frames)))
    sheet = Image.new("RGB", (columns * width, math.ceil(len(frames) / columns) * height))
    for k, frame in enumerate(frames):
        sheet.paste(frame, (k % columns * width, k // columns * height))
    few = sheet.getcolors(256) is not None  # then no colour changes
    method = Image.Quantize.MEDIANCUT if few else Image.Quantize.FASTOCTREE
    content = io.BytesIO()
    sheet.quantize(256, method, dither=Image.Dither.NONE).save(content, "PNG")
    facts = {"frames": len(frames), "columns": columns, "width": width, "height": height}
    return facts, content.getvalue()
