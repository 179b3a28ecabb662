"""Films from Python, against what is seen in them and what was played."""

import io
import itertools

import gymnasium
import numpy as np
import pytest
from PIL import Image

from rlentropy.plots import films, video
from rlentropy.policies import Tabular

RING = "rlentropy/Ring-v0"


def frames(content):
    with Image.open(io.BytesIO(content)) as film:
        for k in range(film.n_frames):
            film.seek(k)
            yield np.array(film.convert("RGB"))


def test_a_film_is_bytes_or_a_file(tmp_path):
    env = gymnasium.make(RING, render_mode="rgb_array")
    right = Tabular(np.eye(3)[[2] * 14][None])
    content = video(env, right, horizon=5, seed=3)
    assert content.startswith(b"GIF8")
    shown = list(frames(content))
    assert len(shown) == 6  # the start, and each step
    assert any((a != b).any() for a, b in itertools.pairwise(shown))
    for path in (tmp_path / "a" / "film.gif", str(tmp_path / "film.gif")):
        assert str(video(env, right, path, horizon=5, seed=3)) == str(path)
        with open(path, "rb") as file:
            assert file.read() == content


def test_an_id_is_made_to_draw_and_random_actions_are_the_default():
    one, two = (video(RING, horizon=4, seed=seed) for seed in (0, 1))
    assert one == video(RING, None, horizon=4, seed=0)
    assert one != two
    assert len(list(frames(video(RING, horizon=4, episodes=2)))) == 10
    assert next(frames(video(RING, horizon=4, width=100))).shape[1] == 100
    assert len(list(frames(video(RING, horizon=40, every=10)))) == 5


def test_a_film_is_cut_at_the_time_limit():
    limited = gymnasium.wrappers.TimeLimit(
        gymnasium.make(RING, render_mode="rgb_array", max_episode_steps=-1), 3
    )
    assert len(list(frames(video(limited)))) == 4


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((gymnasium.make(RING),), {}, "env must be made with render_mode='rgb_array' .* got None"),
        ((3,), {}, r"env must be a gymnasium\.Env, not vectorised, or an id, got 3"),
        ((RING, 3), {}, r"policy must be one of rlentropy\.policies, got 3"),
        ((RING, None, "film.avi"), {}, r"out must end in \.gif or \.mp4, got film\.avi"),
        ((RING,), {"episodes": 0}, "episodes must be >= 1, got 0"),
        ((RING,), {"horizon": 2.5}, r"horizon must be a whole number >= 1, got 2\.5"),
        ((RING,), {"fps": 60}, "fps must be <= 50, got 60"),
        ((RING,), {"seed": -1}, "seed must be >= 0, got -1"),
        (("rlentropy/Rng-v0",), {}, "env_id must name .* did you mean rlentropy/Ring-v0"),
    ],
)
def test_what_does_not_suit_is_one_line(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        video(*arguments, **options)


def test_without_a_limit_a_horizon_is_asked_for():
    env = gymnasium.make("CliffWalking-v1", render_mode="rgb_array")
    with pytest.raises(ValueError, match="horizon must be >= 1"):
        video(env)
    assert films.MOST == 250
