"""The pictures of a run: what is in them, how many, and of which steps."""

import json

import gymnasium
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlentropy import FiniteMDP, entropy, planning, plots
from rlentropy.cli import main
from rlentropy.commands import drawing
from rlentropy.exploration import entgame, random_policy
from rlentropy.exploration.episodes import next_frame
from rlentropy.log import Interrupted, Log
from rlentropy.types import Film, Result

CHAIN = ["--env-id", "rlentropy/DoubleChain-v0", "--horizon", "6", "--quiet"]


def images(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0})
    accumulator.Reload()
    return {tag: accumulator.Images(tag) for tag in accumulator.Tags()["images"]}


def explored(module=random_policy, **options):
    env = gymnasium.make("rlentropy/DoubleChain-v0")
    config = module.Config(horizon=6, **options)
    return module.run(env, config, np.random.default_rng(3), Log(None))


# ---------------------------------------------------------------- the film


def test_frames_are_four_a_decade_of_episodes():
    at, episodes = [], 0
    while (episodes := next_frame(episodes)) <= 10_000:
        at.append(episodes)
    assert at[:9] == [1, 2, 3, 6, 10, 18, 32, 56, 100]
    assert at[-4:] == [1778, 3162, 5623, 10_000]


@pytest.mark.parametrize("simulator", ["compiled", "gymnasium"])
def test_a_film_is_of_the_visits_so_far(simulator):
    """Six steps an episode: frames after 1, 2, 3, 6, 10, 18, 32 episodes, and the end."""
    result = explored(episodes=40, simulator=simulator)
    steps = [step for step, _ in result.film.frames]
    assert steps == [6, 12, 18, 36, 60, 108, 192, 240]
    for step, visits in result.film.frames:
        assert visits.sum() == step
    np.testing.assert_array_equal(result.film.frames[-1][1], result.visits.sum((0, 2)))
    frames = np.array([visits for _, visits in result.film.frames])
    assert (np.diff(frames, axis=0) >= 0).all()
    assert result.film.axes == (("state", -0.5, 30.5, 31),)
    assert result.film.grid_shape is None


def test_chunks_change_no_frame(monkeypatch):
    from rlentropy.log import loop

    whole = explored(entgame, episodes=60, mixture_size=0).film
    monkeypatch.setattr(loop, "CHUNK", 0.0)  # an episode at a time
    for (a, seen), (b, again) in zip(
        whole.frames, explored(entgame, episodes=60, mixture_size=0).film.frames, strict=True
    ):
        assert a == b
        np.testing.assert_array_equal(seen, again)


def test_tensorboard_gets_ten_frames_and_the_film_all(tmp_path):
    frames = tuple((10 * k, np.arange(4) * k) for k in range(1, 26))
    log = Log(tmp_path)
    drawing.draw(Result({}, film=Film((("x", 0.0, 1.0, 4),), frames)), log, title="a run")
    log.close()
    found = images(tmp_path)
    steps = [image.step for image in found["figures/visits"]]
    assert len(steps) == drawing.SHOWN
    assert (steps[0], steps[-1]) == (10, 250)
    with Image.open(tmp_path / "figures" / "visits.gif") as gif:
        assert gif.n_frames == 25


def test_an_interrupted_run_has_the_film_so_far(tmp_path):
    log = Log(tmp_path)
    log.film = lambda: Film((), ((7, np.array([0, 7, 0, 0])),), (2, 2))
    with pytest.raises(Interrupted), drawing.film_if_interrupted(log, "a run"):
        raise Interrupted
    log.close()
    assert [image.step for image in images(tmp_path)["figures/visits"]] == [7]
    assert (tmp_path / "figures" / "visits.png").exists()


def test_a_run_that_goes_on_draws_its_film_anew(tmp_path, monkeypatch):
    """Ctrl-C, by the log's flag, then --resume: the pictures are those of a run without it."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments = ["entgame", *CHAIN, "--episodes", "60", "--checkpoint-every", "20"]
    assert main([*arguments, "--out", str(whole)]) == 0

    def stop(log, *_):
        if stop.armed:
            log.interrupted = True

    stop.armed = True
    kept = Log.scalars
    monkeypatch.setattr(Log, "scalars", lambda log, *rest: (kept(log, *rest), stop(log)))
    assert main([*arguments, "--out", str(broken)]) == 130
    shown = images(broken)
    assert shown.keys() <= {"figures/visits", "figures/visits.gif"}
    assert shown["figures/visits"]
    assert not (broken / "summary.json").exists()
    stop.armed = False
    assert main(["entgame", "--out", str(broken), "--resume", "--quiet"]) == 0
    again, want = images(broken), images(whole)
    assert again.keys() == want.keys()
    for tag, pictures in want.items():
        found = [(image.step, image.encoded_image_string) for image in again[tag]]
        assert found == [(image.step, image.encoded_image_string) for image in pictures], tag


# ---------------------------------------------------------------- gaps and occupancies


def test_occupancies_are_those_of_what_was_played_and_of_the_optimum():
    result = explored(entgame, episodes=30)
    parts = result.pictures["occupancies"]["parts"]
    assert list(parts) == ["played", "optimum"]
    mdp = FiniteMDP.from_env(gymnasium.make("rlentropy/DoubleChain-v0"))
    best = planning.max_visitation_entropy(mdp, 6)
    d = entropy.visitation(mdp, best.pi, 6).sum(-1).mean(0)
    np.testing.assert_allclose(parts["optimum"], d, atol=1e-9)
    assert parts["played"].sum() == pytest.approx(1.0)
    alone = explored(episodes=30).pictures["occupancies"]["parts"]
    uniform = np.full((6, 31, 2), 0.5)
    d = entropy.visitation(mdp, uniform, 6).sum(-1).mean(0)
    np.testing.assert_allclose(alone["played"], d, atol=1e-12)


def test_gaps_are_those_that_were_logged(tmp_path, monkeypatch):
    seen = {}

    def take(curves, **axes):
        seen.update(curves=curves, **axes)
        return kept(curves, **axes)

    kept = plots.gaps
    monkeypatch.setattr(plots, "gaps", take, raising=False)
    out = tmp_path / "run"
    assert main(["entgame", *CHAIN, "--episodes", "20", "--label", "mine", "--out", str(out)]) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for name, tag in (("policy", "eval/gap"), ("mixture", "eval/mixture_gap")):
        logged = [(row["step"], row["value"]) for row in rows if row["tag"] == tag]
        assert list(zip(*(part.tolist() for part in seen["curves"][name]), strict=True)) == logged
    assert (seen["ylabel"], seen["cost"]) == ("gap (nats)", "env_steps")
    assert seen["title"] == "mine on rlentropy/DoubleChain-v0"
    found = images(out)
    assert found.keys() == {
        *("figures/gaps", "figures/occupancies", "figures/visits", "figures/visits.gif")
    }
    assert found["figures/gaps"][-1].step == 120


def test_titles_name_what_ran_where():
    assert drawing.title_of("rfzi", {"data": "a.npz", "env_id": ""}) == "rfzi on a.npz"
    assert drawing.title_of("label", {}) == "label"
