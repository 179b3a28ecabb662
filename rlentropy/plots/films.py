"""Films of a policy: the pictures that an environment makes of itself, as a GIF or an MP4.

Episode k begins as the k-th of `evaluate` with the same seed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from rlentropy import policies
from rlentropy.errors import NO_LIMIT, InputError, whole
from rlentropy.files import TEMPORARY, replace_file, writing
from rlentropy.plots.runs import gif
from rlentropy.types import Env
from rlentropy.wrappers import Checked, described, headless, make_with_pictures, picture

if TYPE_CHECKING:
    from PIL.Image import Image

MOST = 250  # frames, where it isn't said which of them are shown
FASTEST = 50  # frames a second that a GIF can show


@dataclass
class Footage:
    """A film, and what was played in it."""

    frames: list[Image]
    every: int  # steps from one frame to the next
    fps: int  # frames a second
    returns: list[float] = field(default_factory=list)  # undiscounted, of each episode
    lengths: list[int] = field(default_factory=list)  # steps


def video(
    env: Env | str,
    policy: policies.Policy | None = None,
    path: str | Path | None = None,
    *,
    episodes: int = 1,
    horizon: int | None = None,
    seed: int = 0,
    fps: int = 0,
    every: int = 0,
    width: int = 480,
) -> bytes | Path:
    """Film a policy.

    Args:
        env: made with ``render_mode="rgb_array"``, or the id of one, which is made so. It is reset.
        policy: such as `rlentropy.load_run(folder).policy`; default: uniformly random actions.
        path: of the film, which ends in .gif, or in .mp4 with imageio-ffmpeg installed. What is
            there is replaced.
        episodes: one after the other.
        horizon: steps an episode; default: the environment's time limit.
        fps: frames a second, at most 50; 0: as the environment says.
        every: steps from one frame to the next; 0: as many as leave at most 250 frames.
        width: most pixels across; larger pictures are shrunk.

    Returns:
        The path; without one the GIF itself.

    Raises:
        InputError: an argument is of another kind or out of range, the environment draws no
            pictures, or this kind of film can't be written.
    """
    if path is not None:
        check_kind(path := Path(path))
    check_film(episodes, horizon, seed, fps, every, width)
    if isinstance(env, str):
        made = make_with_pictures(env, "{}", unlimited=horizon is not None)
    else:
        made = check_drawing(env)
    if horizon is None:
        horizon = made.spec.max_episode_steps if made.spec else None
    if horizon is None:
        raise InputError(NO_LIMIT)
    policy = policies.random(made) if policy is None else policy
    if not callable(getattr(policy, "act", None)):
        raise InputError(f"policy must be one of rlentropy.policies, got {described(policy)}")
    footage = filmed(made, policy, episodes, horizon, seed, fps, every, width)
    if isinstance(env, str):
        made.close()
    if path is None:
        return as_gif(footage)
    write(path, footage)
    return path


def check_drawing(env: Any) -> Env:
    """Refuse what draws no pictures."""
    if not isinstance(env, gymnasium.Env):
        raise InputError(f"env must be a gymnasium.Env, not vectorised, or an id, got {env!r:.60}")
    if env.render_mode != "rgb_array":
        raise InputError(
            f"env must be made with render_mode='rgb_array' to be filmed, got {env.render_mode!r}"
        )
    headless()
    return env


def check_film(
    episodes: int, horizon: int | None, seed: int, fps: int, every: int, width: int
) -> None:
    """Refuse options of a film that are out of range."""
    whole("episodes", episodes, 1)
    whole("seed", seed, 0)
    whole("fps", fps, 0, FASTEST)
    whole("every", every, 0)
    whole("width", width, 16, 4096)
    if horizon is not None:
        whole("horizon", horizon, 1)


def check_kind(out: Path) -> None:
    """Refuse a film that can't be written, before it is made."""
    if out.suffix not in (".gif", ".mp4"):
        raise InputError(f"out must end in .gif or .mp4, got {out}")
    if out.suffix == ".mp4" and not (find_spec("imageio") and find_spec("imageio_ffmpeg")):
        raise InputError(
            f"out must end in .gif without the packages that write .mp4 (pip install imageio "
            f"imageio-ffmpeg), got {out}"
        )


def filmed(
    env: Env,
    policy: policies.Policy,
    episodes: int,
    horizon: int,
    seed: int,
    fps: int = 0,
    every: int = 0,
    width: int = 480,
) -> Footage:
    """Play episodes before the camera."""
    reel = Reel(env, every, width)
    returns, lengths = play(env, policy, seed, episodes, horizon, reel)
    fps = fps or min(int(env.metadata.get("render_fps") or 30), FASTEST)
    return Footage(reel.frames, reel.every, fps, returns, lengths)


def as_gif(footage: Footage) -> bytes:
    return gif(footage.frames, [round(1000 / footage.fps)] * len(footage.frames))


def write(path: Path, footage: Footage) -> None:
    """Write a film, whole or not at all."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        replace_file(path, as_gif(footage))
    else:
        write_mp4(path, footage.frames, footage.fps)


def play(
    env: Env, policy: policies.Policy, seed: int, episodes: int, horizon: int, reel: Reel
) -> tuple[list[float], list[int]]:
    """Film episodes; their undiscounted returns and lengths."""
    played, returns, lengths = Checked(env), [0.0] * episodes, [0] * episodes
    seeds, rng = np.random.SeedSequence(seed).generate_state(episodes), np.random.default_rng(seed)
    for k, start in enumerate(seeds.tolist()):
        x = played.reset(start)
        policy.begin(np.arange(1), rng)
        reel.shoot()
        for t in range(horizon):
            actions = policy.act(np.asarray(x)[None], np.array([t]), rng)
            action = policies.plain(actions, env.action_space)[0]
            x, reward, terminated, truncated = played.step(action)
            reel.shoot()
            returns[k] += reward
            lengths[k] += 1
            if terminated or truncated:
                break
    return returns, lengths


class Reel:
    """The pictures of a film, each of at most 256 colours.

    Args:
        every: of so many pictures one is taken; 0: of two, four, … as the film grows.
        width: most pixels across.
    """

    def __init__(self, env: Env, every: int, width: int) -> None:
        self.env, self.every, self.width = env, every or 1, width
        self.most = None if every else MOST
        self.frames: list[Image] = []
        self.seen = 0

    def shoot(self) -> None:
        """Take a picture, where one is due."""
        if self.seen % self.every == 0:
            self.frames.append(self.picture())
        self.seen += 1
        if self.most is not None and len(self.frames) > self.most:
            del self.frames[1::2]
            self.every *= 2

    def picture(self) -> Image:
        from PIL import Image

        image = Image.fromarray(picture(self.env))
        if image.width > self.width:
            height = max(1, round(image.height * self.width / image.width))
            image = image.resize((self.width, height), Image.Resampling.BOX)
        return image.quantize(256, dither=Image.Dither.NONE)


def write_mp4(out: Path, frames: list[Image], fps: int) -> None:
    from imageio import v2 as imageio

    temporary = out.with_name(TEMPORARY + out.name)
    with writing(out):
        try:
            options: Any = {"format": "FFMPEG", "fps": fps, "macro_block_size": 2}  # even sizes
            writer: Any = imageio.get_writer(temporary, **options)
            with writer:
                for frame in frames:
                    writer.append_data(np.asarray(frame.convert("RGB")))
            os.replace(temporary, out)
        finally:
            temporary.unlink(missing_ok=True)
