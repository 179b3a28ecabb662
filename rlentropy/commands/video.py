"""Film a policy: an animated GIF of the pictures that an environment makes of itself.

Episode k begins as the k-th of `evaluate` with the same seed. Works without a display.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlentropy import policies
from rlentropy.commands.console import Console
from rlentropy.errors import InputError, one_of
from rlentropy.plots.films import check_film, check_kind, filmed, write
from rlentropy.runs.policies import load
from rlentropy.runs.scores import nominal_env
from rlentropy.runs.summaries import read_summary
from rlentropy.wrappers import headless, make_with_pictures


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
        sizes = (self.fps, self.every, self.width)
        check_film(self.episodes, self.horizon, self.seed, *sizes)


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
    sizes = (config.fps, config.every, config.width)
    film = filmed(env, policy, config.episodes, nominal.horizon, config.seed, *sizes)
    env.close()
    write(out, film)
    size = "{}x{}".format(*film.frames[0].size)
    facts = {"episodes": len(film.returns), "mean_return": float(np.mean(film.returns))}
    facts |= {"steps": sum(film.lengths), "frames": len(film.frames), "every": film.every}
    say.table(facts | {"fps": film.fps, "pixels": size, "bytes": out.stat().st_size})
    say.line(f"written to {out}")
    return 0


def default_out(folder: Path | None, env_id: str) -> Path:
    if folder is not None:
        return folder / "video.gif"
    return Path("results/videos") / f"{re.sub('[/:]', '-', env_id)}.gif"
