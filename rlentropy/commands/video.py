"""Film a policy: an animated GIF of the pictures that an environment makes of itself.

Episode k begins as the k-th of `evaluate` with the same seed. Works without a display.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlentropy import plots, policies
from rlentropy.commands.console import Console
from rlentropy.errors import InputError, one_of, whole
from rlentropy.files import TEMPORARY, replace_file, writing
from rlentropy.runs.policies import load
from rlentropy.runs.scores import nominal_env
from rlentropy.runs.summaries import read_summary
from rlentropy.types import Env
from rlentropy.wrappers import Checked, headless, make_with_pictures, picture

if TYPE_CHECKING:
    from PIL.Image import Image

MOST = 250  # frames, where it isn't said which of them are shown
FASTEST = 50  # frames a second that a GIF can show


@dataclass(frozen=True)
class Config:
    """Films the policy of a finished run, or random actions, as an animated GIF.

    Use it to see what a number means. No display is needed; .mp4 needs imageio-ffmpeg.

    Example::

        rlentropy video --run runs/cartpole
        rlentropy video --policy random --env-id rlentropy/PointMaze-v0 --episodes 3
    """

    run: str = ""  # folder of the run whose policy is filmed
    policy: str = ""  # random: uniformly random actions instead, in --env-id
    mixture: bool = False  # film the mixture that the run played, one policy an episode
    episodes: int = 1  # one after the other, >= 1
    env_id: str = ""  # where to film; default: the environment of the run
    env_kwargs: str = ""  # JSON object of its keyword arguments; default: those of the run
    horizon: int | None = None  # steps an episode; default: the run's, else the time limit
    seed: int = 0  # of the episodes, >= 0
    fps: int = 0  # frames a second, at most 50; 0: as the environment says
    every: int = 0  # steps from one frame to the next; 0: as many as leave at most 250 frames
    width: int = 480  # most pixels across; larger pictures are shrunk
    # .gif, or .mp4 where imageio-ffmpeg is installed; default: video.gif in the run's folder, of
    # random actions results/videos/<env>.gif. Replaces what is there
    out: Path | None = None
    quiet: bool = False  # print nothing but errors

    def __post_init__(self) -> None:
        if bool(self.run) == bool(self.policy):
            got = "both" if self.run else "neither"
            raise InputError(f"run must be the folder of a run, or policy random, got {got}")
        if self.policy:
            one_of("policy", self.policy, ("random",))
            if not self.env_id:
                raise InputError("env_id must come with random actions, got none")
            if self.mixture:
                raise InputError("mixture must come with a run, got random actions")
        for name, least, most in (
            *(("episodes", 1, None), ("seed", 0, None), ("fps", 0, FASTEST)),
            *(("every", 0, None), ("width", 16, 4096)),
        ):
            whole(name, getattr(self, name), least, most)
        if self.horizon is not None:
            whole("horizon", self.horizon, 1)


def run(config: Config) -> int:
    """Play, film and write; the exit code.

    Raises:
        InputError: no finished run, a policy that doesn't suit the environment, an environment
            without pictures, or a kind of film that can't be written.
    """
    headless()  # before an environment loads what draws
    folder = Path(config.run) if config.run else None
    summary = {} if folder is None else read_summary(folder)
    asked = (config.env_id, config.env_kwargs, config.horizon)
    nominal = nominal_env(*asked, [summary], [folder or Path()])
    out = config.out or default_out(folder, nominal.env_id)
    check_kind(out)
    env = make_with_pictures(nominal.env_id, nominal.env_kwargs, nominal.unlimited)
    say = Console(config.quiet)
    policy = policies.random(env) if folder is None else load(folder, env, config.mixture)
    reel = Reel(env, config.every, config.width)
    returns, lengths = play(env, policy, config.seed, config.episodes, nominal.horizon, reel)
    env.close()
    fps = config.fps or min(int(env.metadata.get("render_fps") or 30), FASTEST)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".gif":
        replace_file(out, plots.gif(reel.frames, [round(1000 / fps)] * len(reel.frames)))
    else:
        write_mp4(out, reel.frames, fps)
    size = "{}x{}".format(*reel.frames[0].size)
    facts = {"episodes": len(returns), "mean_return": float(np.mean(returns))}
    facts |= {"steps": sum(lengths), "frames": len(reel.frames), "every": reel.every}
    say.table(facts | {"fps": fps, "pixels": size, "bytes": out.stat().st_size})
    say.line(f"written to {out}")
    return 0


def default_out(folder: Path | None, env_id: str) -> Path:
    if folder is not None:
        return folder / "video.gif"
    return Path("results/videos") / f"{re.sub('[/:]', '-', env_id)}.gif"


def check_kind(out: Path) -> None:
    """Refuse a film that can't be written, before it is made."""
    if out.suffix not in (".gif", ".mp4"):
        raise InputError(f"out must end in .gif or .mp4, got {out}")
    if out.suffix == ".mp4" and not (find_spec("imageio") and find_spec("imageio_ffmpeg")):
        raise InputError(
            f"out must end in .gif without the packages that write .mp4 (pip install imageio "
            f"imageio-ffmpeg), got {out}"
        )


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
