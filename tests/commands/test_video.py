"""`video`: the pictures of a film are those of the steps that were played."""

import csv
import json
import os
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from examples import mixtures
from gymnasium.spaces import Discrete
from PIL import Image

from rlentropy.commands import video
from rlentropy.commands.video import Config
from rlentropy.plots import films
from rlentropy.plots.films import Reel

SHADES = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [90, 90, 90]], np.uint8)


class Shades(gymnasium.Env):
    """Action 1 goes on to the next of five states, round and round; each has a colour."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space, action_space = Discrete(5), Discrete(2)
    odd = None  # what is drawn instead

    def __init__(self, render_mode=None, width=40):
        self.render_mode, self.width = render_mode, width

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(5))
        return self.state, {}

    def step(self, action):
        self.state = (self.state + int(action)) % 5
        return self.state, 1.0, False, False, {}

    def render(self):
        assert self.render_mode == "rgb_array"
        if isinstance(self.odd, Exception):
            raise self.odd
        picture = np.broadcast_to(SHADES[self.state], (20, self.width, 3))
        return picture if self.odd is None else self.odd


class Blind(Shades):
    metadata: ClassVar = {"render_modes": ["ansi"]}


@pytest.fixture(autouse=True)
def _registered(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for variable in ("SDL_VIDEODRIVER", "MUJOCO_GL"):
        monkeypatch.setenv(variable, os.environ.get(variable, "egl"))  # as it was, afterwards
    for kind in (Shades, Blind):
        env_id = f"Video/{kind.__name__}-v0"
        gymnasium.register(env_id, kind, max_episode_steps=12)
    yield
    for kind in (Shades, Blind):
        del gymnasium.registry[f"Video/{kind.__name__}-v0"]


def write_run(folder, env_id="Video/Shades-v0", **arrays):
    """A finished run of tables: to go on, and as a mixture to stay or to go on."""
    folder.mkdir()
    stay, go = np.eye(2)[[0] * 5], np.eye(2)[[1] * 5]
    np.savez(folder / "policy.npz", pi=go)
    np.savez(folder / "mixture.npz", pi=np.stack([stay, go])[:, None])
    summary = {"command": "entgame", "env_id": env_id, "env_kwargs": "{}", "seed": 0}
    (folder / "summary.json").write_text(json.dumps(summary | {"finished": True}))
    return str(folder)


def filmed(path):
    """States that a film shows, and for how many milliseconds each."""
    with Image.open(path) as film:
        assert film.info["loop"] == 0
        states, times = [], []
        for k in range(film.n_frames):
            film.seek(k)
            shade = np.asarray(film.convert("RGB"))[10, 20]
            states.append(int(np.abs(SHADES.astype(int) - shade).sum(axis=1).argmin()))
            times.append(film.info["duration"])
    return states, times


def starts(seed, episodes):
    env = gymnasium.make("Video/Shades-v0")
    seeds = np.random.SeedSequence(seed).generate_state(episodes)
    return [env.reset(seed=int(each))[0] for each in seeds]


def make(**options):
    assert video.run(Config(quiet=True, **options)) == 0


# ---------------------------------------------------------------- what is shown


def test_a_film_shows_the_states_that_were_played(tmp_path):
    run = write_run(tmp_path / "run")
    make(run=run, seed=3)
    (start,) = starts(3, 1)
    states, times = filmed(tmp_path / "run" / "video.gif")
    assert states == [(start + t) % 5 for t in range(13)]  # with the last, after 12 steps
    assert set(times) == {50}
    make(run=run, seed=3, horizon=7, fps=10)
    states, times = filmed(tmp_path / "run" / "video.gif")
    assert (len(states), set(times)) == (8, {100})
    assert not list(tmp_path.rglob(".tmp-*"))


def test_episodes_follow_each_other(tmp_path):
    make(run=write_run(tmp_path / "run"), episodes=3, horizon=4, out=tmp_path / "new" / "a.gif")
    wanted = [(start + t) % 5 for start in starts(0, 3) for t in range(5)]
    states, times = filmed(tmp_path / "new" / "a.gif")
    merged = [k for k in range(len(wanted)) if k == 0 or wanted[k] != wanted[k - 1]]
    assert states == [wanted[k] for k in merged]  # a GIF shows what stays the same for longer
    assert sum(times) == 50 * 15


def test_a_mixture_plays_one_policy_an_episode(tmp_path):
    make(run=write_run(tmp_path / "run"), mixture=True, episodes=8, out=tmp_path / "a.gif")
    states, times = filmed(tmp_path / "a.gif")
    shown = np.repeat(states, np.array(times) // 50).reshape(8, 13)
    moves = np.diff(shown, axis=1) % 5
    assert (moves == moves[:, :1]).all()
    assert set(moves[:, 0]) == {0, 1}


def test_random_actions_and_networks_are_filmed(tmp_path, monkeypatch, capsys):
    mixtures.register(monkeypatch)
    run = mixtures.write_run(tmp_path / "run", "rlentropy/PointMaze-v0")
    for options in ({"run": run}, {"run": run, "mixture": True}):
        assert video.run(Config(**options, episodes=2)) == 0
        said = capsys.readouterr().out
        assert "steps        40" in said  # of the run's horizon
        assert f"written to {tmp_path / 'run' / 'video.gif'}" in said
    make(policy="random", env_id="rlentropy/PointMaze-v0", horizon=5)
    with Image.open("results/videos/rlentropy-PointMaze-v0.gif") as film:
        assert film.n_frames == 6


def test_returns_are_those_of_evaluate(tmp_path, monkeypatch, capsys):
    from rlentropy import cli

    mixtures.register(monkeypatch)
    run = mixtures.write_run(tmp_path / "run", "rlentropy/PointMaze-v0")
    assert cli.main(["video", "--run", run, "--episodes", "3", "--seed", "4"]) == 0
    (filmed_return,) = (
        float(line.split()[1]) for line in capsys.readouterr().out.splitlines() if "mean_r" in line
    )
    evaluate = ["evaluate", "--run", run, "--episodes", "3", "--seed", "4", "--out", "scores"]
    assert cli.main(evaluate) == 0
    with open("scores/evaluation.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert filmed_return == pytest.approx(float(row["mean"]), rel=1e-6)


# ---------------------------------------------------------------- how much of it


@pytest.mark.parametrize(
    ("taken", "every", "kept"), [(8, 1, 8), (9, 2, 5), (33, 8, 5), (100, 16, 7)]
)
def test_long_films_are_thinned(monkeypatch, taken, every, kept):
    monkeypatch.setattr(films, "MOST", 8)
    reel = Reel(None, 0, 99)
    monkeypatch.setattr(reel, "picture", lambda: reel.seen)
    for _ in range(taken):
        reel.shoot()
    assert (reel.every, len(reel.frames)) == (every, kept)
    assert reel.frames == list(range(0, taken, every))


def test_of_some_steps_each_is_shown(tmp_path):
    make(run=write_run(tmp_path / "run"), every=3)
    (start,) = starts(0, 1)
    assert filmed("run/video.gif")[0] == [(start + t) % 5 for t in (0, 3, 6, 9, 12)]


def test_large_pictures_are_shrunk(tmp_path):
    env = gymnasium.make("Video/Shades-v0", render_mode="rgb_array", width=200)
    env.reset(seed=0)
    assert Reel(env, 0, 50).picture().size == (50, 5)
    assert Reel(env, 0, 200).picture().size == (200, 20)
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    env.unwrapped.odd = noise
    assert len(Reel(env, 0, 60).picture().getcolors()) <= 256


def test_no_display_is_needed(tmp_path, monkeypatch):
    for variable in ("DISPLAY", "SDL_VIDEODRIVER", "MUJOCO_GL"):
        monkeypatch.delenv(variable, raising=False)
    make(run=write_run(tmp_path / "run"))
    assert (os.environ["SDL_VIDEODRIVER"], os.environ.get("MUJOCO_GL", "egl")) == ("dummy", "egl")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    make(run="run")
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_mp4(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    from imageio import v2 as imageio

    make(run=write_run(tmp_path / "run"), out=tmp_path / "a.mp4")
    film = imageio.get_reader(tmp_path / "a.mp4", format="FFMPEG")
    assert [frame.shape for frame in film] == [(20, 40, 3)] * 13
    assert film.get_meta_data()["fps"] == 20.0
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.mp4"]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "run must be the folder of a run, or policy random, got neither"),
        (("--run", "run", "--policy", "random"), "policy random, got both"),
        (("--policy", "randm", "--env-id", "x"), "policy must be one of random, got 'randm'"),
        (("--policy", "random"), "env_id must come with random actions, got none"),
        (("--policy", "random", "--env-id", "x", "--mixture"), "mixture must come with a run"),
        (("--run", "run", "--episodes", "0"), "episodes must be >= 1, got 0"),
        (("--run", "run", "--fps", "60"), "fps must be <= 50, got 60"),
        (("--run", "run", "--width", "8"), "width must be >= 16, got 8"),
        (("--run", "run", "--horizon", "0"), "horizon must be >= 1, got 0"),
        (("--run", "nothing"), "run must be the folder of a finished run, got nothing"),
        (("--run", "run", "--out", "a.avi"), "out must end in .gif or .mp4, got a.avi"),
        (("--run", "run", "--out", "a.mp4"), "without the packages that write .mp4 (pip install"),
        (
            ("--policy", "random", "--env-id", "Video/Blind-v0"),
            "env_id must name an environment that renders rgb_array, got Video/Blind-v0, which "
            "renders ansi",
        ),
        (("--run", "run", "--env-id", "rlentropy/Ring-v0"), "env must have Discrete(5) observ"),
    ],
)
def test_refusals_are_one_line(tmp_path, command_line, monkeypatch, arguments, message):
    monkeypatch.setattr(films, "find_spec", lambda name: None)
    write_run(tmp_path / "run")
    code, _, error = command_line("video", *arguments)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not [*tmp_path.rglob("*.gif"), *tmp_path.rglob("*.mp4")]


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ("text", "pictures must be (height, width, 3) of uint8, got 'text'"),
        (np.zeros((5, 5), np.uint8), "got an array of shape (5, 5) of uint8"),
        (np.zeros((5, 5, 3)), "got an array of shape (5, 5, 3) of float64"),
        (
            gymnasium.error.DependencyNotInstalled("pygame is not installed"),
            "env_id must name one that can be drawn here, got pygame is not installed",
        ),
    ],
)
def test_odd_pictures_are_refused(tmp_path, command_line, monkeypatch, odd, message):
    monkeypatch.setattr(Shades, "odd", odd)
    write_run(tmp_path / "run")
    code, _, error = command_line("video", "--run", "run")
    assert (code, error.count("\n")) == (2, 1)
    assert message in error
