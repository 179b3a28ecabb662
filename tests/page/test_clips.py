"""Clips: the frames that are cut out of a sprite again are what the environment draws by hand."""

import dataclasses
import io
import math
import re
import threading
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box, Discrete
from PIL import Image

import rlentropy.envs  # noqa: F401
from rlentropy.errors import InputError
from rlentropy.mdp import known_model
from rlentropy.page.clips import Clips, shown_steps
from rlentropy.preferences.segments import Pairs, Segments, joined
from rlentropy.preferences.store import Store
from rlentropy.preferences.tables import TabularTask
from rlentropy.wrappers import RandomAction, headless, make_env

headless()


class Walk(gymnasium.Env):
    """Walks at random from where its seed says; draws where it is as a colour and a bar."""

    metadata: ClassVar = {"render_modes": ["ansi", "rgb_array"], "render_fps": 12}
    observation_space = Box(-math.inf, math.inf, (1,), np.float64)
    action_space = Discrete(2)
    size, odd, noise = (20, 30), None, 1.0

    def __init__(self, render_mode=None, end=math.inf):
        self.render_mode, self.end = render_mode, end

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.x = 0, self.np_random.normal()
        return np.array([self.x]), {}

    def step(self, action):
        self.t += 1
        self.x += self.noise * self.np_random.normal() + action
        return np.array([self.x]), 0.5, self.t >= self.end, False, {}

    def render(self):
        if isinstance(self.odd, Exception):
            raise self.odd
        height, width = self.size
        frame = np.full((height, width, 3), 40 * (self.t % 5), np.uint8)
        frame[:, : int(abs(self.x) * 7) % width] = (200, 10, 10)
        return frame if self.odd is None else self.odd


class Blind(Walk):
    metadata: ClassVar = {"render_modes": []}


class Board(gymnasium.Env):
    """A table of four states; the second ends what goes on in it, and is a place of its own."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 4}
    observation_space, action_space = Discrete(4), Discrete(2)
    grid_shape, held = (2, 2), "s"
    # Action 0 goes on round and round; action 1 ends, in the next state or, from the third, in one
    # of two.
    P: ClassVar = {
        s: {
            0: [(1.0, (s + 1) % 4, 0.0, False)],
            1: [(1.0, (s + 1) % 4, 1.0, True)]
            if s != 2
            else [(0.5, 3, 1.0, True), (0.5, 0, 1.0, True)],
        }
        for s in range(4)
    }

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        s = int(self.np_random.integers(4))
        setattr(self, self.held, s)
        return s, {}

    def step(self, action):
        outcomes = self.P[getattr(self, self.held)][int(action)]
        _, s, reward, end = outcomes[int(self.np_random.integers(len(outcomes)))]
        setattr(self, self.held, s)
        return s, reward, end, False, {}

    def render(self):
        frame = np.zeros((8, 8, 3), np.uint8)
        frame.reshape(4, 16, 3)[getattr(self, self.held)] = 255
        return frame


class Hidden(Board):
    held = "place_of_its_own"


def noisy_actions(render_mode=None):
    return RandomAction(Walk(render_mode), 0.5)


OWN = {"Walk": Walk, "Blind": Blind, "Board": Board, "Hidden": Hidden, "Noisy": noisy_actions}


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    for name, make in OWN.items():
        gymnasium.register(f"Clips/{name}-v0", make)
    yield
    for name in OWN:
        del gymnasium.registry[f"Clips/{name}-v0"]


def networks_segments(env_id, n=3, T=50, seed=0):
    """Segments of an untrained network, played by as many environments side by side."""
    pytest.importorskip("torch")
    from rlentropy.neural.copies import replicate
    from rlentropy.preferences.neural import untrained
    from rlentropy.preferences.neural_rollouts import SharedStarts

    env, rng = make_env(env_id, "{}", False), np.random.default_rng(seed)
    shared = SharedStarts(replicate(env, 2, 0.0))
    return shared.segments(untrained(env, (4,), rng), shared.draw(n, rng), T, rng)


def tables_segments(env_id, n=3, T=16, seed=0):
    env, rng = make_env(env_id, "{}", False), np.random.default_rng(seed)
    mdp = known_model(env)
    task = TabularTask.of(mdp, T)
    pi = np.full((mdp.num_states, mdp.num_actions), 1.0 / mdp.num_actions)
    return task.roll_out(pi, task.prompts(n, rng), rng)


def clips_of(folder, segments, env_id, env_kwargs=""):
    """Clips of a campaign that asked about these segments, and their hashes."""
    store = Store(folder, {"env_id": env_id, "env_kwargs": "{}"})
    store.ask(0, Pairs(segments, segments))
    return Clips(store, env_kwargs=env_kwargs), segments.digests()


def cut(clip):
    """The frames of a sprite."""
    facts = clip.facts
    sheet = np.asarray(Image.open(io.BytesIO(clip.png)).convert("RGB"))
    w, h, columns = facts["width"], facts["height"], facts["columns"]
    assert max(sheet.shape) <= 8192
    assert sheet.shape[1] == columns * w
    rows = [sheet[y : y + h] for y in range(0, len(sheet), h)]
    return [row[:, x : x + w] for row in rows for x in range(0, columns * w, w)][: facts["frames"]]


def halved(frame, k):
    """Means of k x k pixels."""
    h, w = frame.shape[0] // k * k, frame.shape[1] // k * k
    return frame[:h, :w].astype(float).reshape(h // k, k, w // k, k, 3).mean((1, 3))


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("env_id", "k"),
    [("CartPole-v1", 2), ("Acrobot-v1", 2), ("MountainCar-v0", 2), ("Pendulum-v1", 2),
     ("LunarLander-v3", 2), ("rlentropy/PointMaze-v0", 1)],
)  # fmt: skip
def test_what_is_seen_is_what_the_environment_draws(env_id, k, tmp_path):
    pytest.importorskip("pygame")
    if "Lunar" in env_id:
        pytest.importorskip("Box2D")
    segments = networks_segments(env_id, n=4, T=20)
    clips, digests = clips_of(tmp_path, segments, env_id)
    env = gymnasium.make(env_id, render_mode="rgb_array")
    for i, digest in enumerate(digests):
        clip, length = clips.of(digest), int(segments.lengths[i])
        assert clip.facts["kind"] == "image"
        assert (clip.facts["frames"], clip.facts["length"]) == (length + 1, length)
        assert clip.facts["ended"] == segments.terminated[i]
        env.reset(seed=int(segments.starts[i]))
        # Its own generator in place of the reset's, which dynamics without noise never read, but
        # what flies off the lander does.
        child = np.random.default_rng(int(segments.streams[i])).integers(2**63)
        env.unwrapped.np_random = np.random.default_rng(int(child))
        for t, seen in enumerate(cut(clip)):
            if t:
                raw = segments.actions[i, t - 1]
                discrete = isinstance(env.action_space, Discrete)
                scale = 1.0 if discrete else env.action_space.high
                action = int(raw[0]) if discrete else np.clip(raw * scale, -scale, scale)
                env.step(action if discrete else action.astype(np.float32))
            drawn = halved(env.render(), k)
            off = np.abs(seen[: len(drawn), : drawn.shape[1]] - drawn)
            assert off.max() <= 17.0  # of 256 colours of the octree
            assert off.mean() < 3.0


def test_a_clip_of_cart_pole_is_small_and_always_the_same(tmp_path):
    pytest.importorskip("pygame")
    segments = networks_segments("CartPole-v1", n=12)
    longest = segments.take([int(segments.lengths.argmax())])
    clips, (digest,) = clips_of(tmp_path, longest, "CartPole-v1")
    clip = clips.of(digest)
    assert clip.facts["fps"] == 30  # where the environment says 50
    assert (clip.facts["width"], clip.facts["height"]) == (300, 200)
    assert len(clip.png) < 800 * clip.facts["frames"]
    again = Clips(Store(tmp_path))
    assert again.of(digest) == clip
    assert clips.of(digest) == clip


@pytest.mark.parametrize("env_id", ["Clips/Walk-v0", "Clips/Noisy-v0"])
def test_what_happened_by_chance_happens_again(env_id, tmp_path):
    """To the last bit: noise of the environment and of a wrapper, and small frames as they are."""
    segments = networks_segments(env_id, n=5, T=9)
    assert len(set(segments.streams.tolist())) == 5
    clips, digests = clips_of(tmp_path, segments, env_id)
    for i, digest in enumerate(digests):
        clip = clips.of(digest)
        assert clip.facts == {
            **{"kind": "image", "frames": 10, "columns": 4, "width": 30, "height": 20},
            **{"fps": 12.0, "length": 9, "ended": False},
        }
        by_hand = Walk()
        for t, seen in enumerate(cut(clip)):
            by_hand.t, by_hand.x = t, float(segments.states[i, t, 0])
            np.testing.assert_array_equal(seen, by_hand.render())


def test_networks_on_a_table_are_played_again_too(tmp_path):
    """On slippery ice; the states are one-hot in the segments."""
    pytest.importorskip("pygame")
    segments = networks_segments("FrozenLake-v1", n=4, T=12)
    clips, digests = clips_of(tmp_path, segments, "FrozenLake-v1")
    env = gymnasium.make("FrozenLake-v1", render_mode="rgb_array")
    env.reset(seed=0)
    for i, digest in enumerate(digests):
        for t, seen in enumerate(cut(clips.of(digest))):
            env.unwrapped.s = int(segments.states[i, t].argmax())
            np.testing.assert_array_equal(seen, env.render())


def test_a_start_that_no_seed_fixes_is_not_shown_as_another(tmp_path, monkeypatch):
    """As with --snapshots."""
    segments = networks_segments("Clips/Walk-v0", n=1, T=3)
    astray = dataclasses.replace(segments, starts=segments.starts + 1)
    clips, (digest,) = clips_of(tmp_path, astray, "Clips/Walk-v0")
    assert (
        clips.of(digest)
        .facts["frames"][0]
        .startswith("No pictures: played again, step 0 shows something else than the segment")
    )


def test_without_its_streams_noise_is_not_shown_as_it_was_not(tmp_path):
    segments = dataclasses.replace(networks_segments("Clips/Walk-v0", T=9), streams=None)
    clips, digests = clips_of(tmp_path, segments, "Clips/Walk-v0")
    for digest in digests:
        clip = clips.of(digest)
        assert clip.png is None
        first = {frame.splitlines()[0] for frame in clip.facts["frames"]}
        assert first == {
            "No pictures: played again, step 1 shows something else than the segment",
        }
        assert clip.facts["frames"][3].splitlines()[-1].startswith("3: [")
        assert (len(clip.facts["frames"]), clip.facts["fps"]) == (10, 4)


def test_a_simulator_without_noise_needs_no_streams(tmp_path):
    pytest.importorskip("pygame")
    segments = dataclasses.replace(networks_segments("CartPole-v1", T=9), streams=None)
    clips, digests = clips_of(tmp_path, segments, "CartPole-v1")
    assert {clips.of(digest).facts["kind"] for digest in digests} == {"image"}


def test_another_end_is_not_shown(tmp_path):
    segments = networks_segments("Clips/Walk-v0", T=5)
    clips, (first, *_) = clips_of(tmp_path, segments, "Clips/Walk-v0", '{"end": 4}')
    assert "the segment ends otherwise at step 4" in clips.of(first).facts["frames"][0]


def test_mujoco_is_drawn_or_says_why_not(tmp_path):
    pytest.importorskip("mujoco")
    segments = networks_segments("HalfCheetah-v5", n=1, T=4)
    clips, (digest,) = clips_of(tmp_path, segments, "HalfCheetah-v5")
    clip = clips.of(digest)
    if clip.png is None:
        assert clip.facts["frames"][0].startswith("No pictures: ")
    else:
        assert len({frame.tobytes() for frame in cut(clip)}) == 5
        assert np.std(cut(clip)[0]) > 10.0


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(("env_id", "k"), [("FrozenLake-v1", 1), ("CliffWalking-v1", 2)])
def test_states_of_toy_text_are_set(env_id, k, tmp_path):
    pytest.importorskip("pygame")
    segments = tables_segments(env_id)
    clips, digests = clips_of(tmp_path, segments, env_id)
    env = gymnasium.make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    for i, digest in enumerate(digests):
        clip = clips.of(digest)
        assert (clip.facts["frames"], clip.facts["fps"]) == (segments.lengths[i] + 1, 4)
        for t, seen in enumerate(cut(clip)):
            env.unwrapped.s = int(segments.states[i, t])
            drawn = halved(env.render(), k)
            off = np.abs(seen[: len(drawn), : drawn.shape[1]] - drawn)
            assert off.max() <= (0.0 if k == 1 else 17.0)


def test_a_taxi_points_where_it_went(tmp_path):
    """Its picture depends on the last action, so the oracle drives there."""
    pytest.importorskip("pygame")
    segments = tables_segments("Taxi-v4", n=2)
    clips, digests = clips_of(tmp_path, segments, "Taxi-v4")
    env = gymnasium.make("Taxi-v4", render_mode="rgb_array")
    for i, digest in enumerate(digests):
        env.reset(seed=0)
        env.unwrapped.s = int(segments.states[i, 0])
        for t, seen in enumerate(cut(clips.of(digest))):
            if t:
                env.step(int(segments.actions[i, t - 1]))
            drawn = halved(env.render(), 2)
            assert np.abs(seen[: len(drawn), : drawn.shape[1]] - drawn).max() <= 17.0


@pytest.mark.parametrize("env_id", ["rlentropy/GridWorld-v0", "rlentropy/Ring-v0"])
def test_our_tables_show_steps_without_their_rewards(env_id, tmp_path):
    segments = tables_segments(env_id, n=2, T=5)
    clips, digests = clips_of(tmp_path, segments, env_id)
    env = gymnasium.make(env_id, render_mode="rgb_array")
    oracle = env.unwrapped
    for i, digest in enumerate(digests):
        env.reset(seed=0)
        oracle.state = int(segments.states[i, 0])
        for t, seen in enumerate(cut(clips.of(digest))):
            while t:  # until chance goes the segment's way
                before = oracle.state
                if env.step(int(segments.actions[i, t - 1]))[0] == segments.states[i, t]:
                    break
                oracle.state = before
            oracle._reward, oracle._steps = None, t
            k = math.ceil(max(env.render().shape) / 400)
            drawn = halved(env.render(), k)
            assert np.abs(seen[: len(drawn), : drawn.shape[1]] - drawn).max() <= 17.0


def board_segment(*steps):
    states, actions = zip(*steps, strict=True)
    T = len(steps) - 1
    return Segments(
        np.array([states]), np.array([actions[:-1]]), np.zeros((1, T)), np.array([T]),
        np.array([True]), np.array([states[0]]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("segment", "shown"),
    [
        (board_segment((0, 0), (1, 1), (4, None)), [0, 1, 2]),  # the only state it can end in
        (board_segment((1, 0), (2, 1), (4, None)), [1, 2, 2]),  # either of two: where it was
        (board_segment((1, 0), (2, 1), (3, None)), [1, 2, 3]),
    ],
)
def test_a_state_that_the_model_adds_is_shown_as_the_last_one(segment, shown, tmp_path):
    clips, (digest,) = clips_of(tmp_path, segment, "Clips/Board-v0")
    by_hand = Board()
    for state, seen in zip(shown, cut(clips.of(digest)), strict=True):
        by_hand.s = state
        np.testing.assert_array_equal(seen, by_hand.render())


def test_a_table_whose_state_cannot_be_set_is_text(tmp_path):
    segment = board_segment((0, 0), (1, 0), (2, 1), (4, None))
    clips, (digest,) = clips_of(tmp_path, segment, "Clips/Hidden-v0")
    why = "No pictures: env must hold its state as state or s, got neither"
    assert clips.of(digest).facts == {
        **{"kind": "text", "fps": 4, "length": 3, "ended": True},
        "frames": [
            f"{why}\n@.\n..\nstart 0",
            f"{why}\no@\n..\nstart 0\n1: 0 -> 1",
            f"{why}\no*\n@.\nstart 0\n1: 0 -> 1\n2: 0 -> 2",
            f"{why}\no*\n@.\nstart 0\n1: 0 -> 1\n2: 0 -> 2\n3: 1 -> 4",
        ],
    }


def test_a_frozen_lake_in_letters(tmp_path, monkeypatch):
    segments = tables_segments("FrozenLake-v1", n=1)
    clips, (digest,) = clips_of(tmp_path, segments, "FrozenLake-v1")

    def missing(*arguments):
        raise DependencyNotInstalled("pygame is not installed")

    kind = type(gymnasium.make("FrozenLake-v1").unwrapped)
    monkeypatch.setattr(kind, "_render_gui", missing)
    lines = clips.of(digest).facts["frames"][0].splitlines()
    start = int(segments.states[0, 0])
    letters = list("SFFFFHFHFFFHHFFG")
    letters[start] = "@"
    assert lines[0].startswith("No pictures: env_id must name one that can be drawn here, got pyg")
    assert "".join(lines[1:5]) == "".join(letters)
    assert lines[5:] == [f"start {start}"]


# ---------------------------------------------------------------- what can't be drawn


@pytest.mark.parametrize(
    ("env_id", "odd", "why"),
    [
        ("Clips/Blind-v0", None, "env_id must name an environment that renders rgb_array, got Cl"),
        ("Clips/Nothing-v0", None, "env_id must name a gymnasium environment, got 'Clips/Nothing"),
        ("", None, "the campaign has no environment"),
        ("Clips/Walk-v0", DependencyNotInstalled("no x"), "env_id must name one that can be drawn"),
        ("Clips/Walk-v0", OSError("no\x1b[2J display"), "OSError: no?[2J display"),
        ("Clips/Walk-v0", np.zeros((4, 4, 4), np.uint8), "the environment's pictures must be"),
        ("Clips/Walk-v0", np.zeros((0, 4, 3), np.uint8), "the environment's pictures must be"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_the_first_line(env_id, odd, why, tmp_path, monkeypatch):
    monkeypatch.setattr(Walk, "odd", odd)
    segments = networks_segments("Clips/Walk-v0", n=2, T=12)
    clips, digests = clips_of(tmp_path, segments, env_id)
    for digest in digests:
        facts = clips.of(digest).facts
        assert facts["kind"] == "text"
        assert len(facts["frames"]) == 13
        for t, frame in enumerate(facts["frames"]):
            first, *lines = frame.splitlines()
            assert first.startswith(f"No pictures: {why}")
            numbers = ["start", *(f"{k}:" for k in range(1, 13))][max(0, t - 7) : t + 1]
            assert [line.split()[0] for line in lines] == numbers


def test_pictures_that_change_their_size_are_not_laid_over_each_other(tmp_path, monkeypatch):
    sizes = iter(range(4, 400))
    monkeypatch.setattr(Walk, "render", lambda self: np.zeros((next(sizes), 5, 3), np.uint8))
    clips, digests = clips_of(
        tmp_path, networks_segments("Clips/Walk-v0", n=1, T=9), "Clips/Walk-v0"
    )
    first = clips.of(digests[0]).facts["frames"][0].splitlines()[0]
    assert re.fullmatch(r"No pictures: .* must be of one size, got 5 x \d+ and 5 x \d+", first)


def test_a_text_that_was_written_is_the_clip(tmp_path):
    segments = networks_segments("Clips/Walk-v0", n=1, T=3)
    clips, (digest,) = clips_of(tmp_path, segments, "")
    (tmp_path / "segments" / f"{digest}.txt").write_text("A dog\nbarks.", encoding="utf-8")
    assert clips.of(digest) == (
        {"kind": "text", "frames": ["A dog\nbarks."], "fps": 4, "length": 3, "ended": False},
        None,
    )


def test_unknown_and_damaged_segments_are_refused(tmp_path):
    segments = networks_segments("Clips/Walk-v0", n=1, T=3)
    clips, (digest,) = clips_of(tmp_path, segments, "Clips/Walk-v0")
    for wrong in ("", "../../answers", digest[:-1], digest.upper(), digest + "\n"):
        with pytest.raises(InputError, match="digest must be 64 hexadecimal digits, got "):
            clips.of(wrong)
    with pytest.raises(InputError, match="campaign must hold its segments, got no "):
        clips.of("0" * 64)
    (tmp_path / "segments" / f"{digest}.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="run must hold a readable "):
        clips.of(digest)


def test_code_and_files_that_the_store_names_are_not_opened(tmp_path):
    for about, must in (
        ({"env_id": "evil:Env-v0"}, r"env_id must be given \(--env-id\) where the one stored in"),
        ({"env_id": "Clips/Walk-v0", "env_kwargs": '{"xml_file": "/etc/x"}'},
         r"env_kwargs must be given \(--env-kwargs\)"),
    ):  # fmt: skip
        store = Store(tmp_path / must[:8], about)
        with pytest.raises(InputError, match=must):
            Clips(store)
        typed = Clips(store, env_id="Clips/Walk-v0", env_kwargs='{"end": 3}')
        assert (typed.env_id, typed.env_kwargs) == ("Clips/Walk-v0", '{"end": 3}')


def test_clips_are_made_in_a_thread_of_their_own(tmp_path):
    segments, found = networks_segments("Clips/Walk-v0", n=1, T=3), []
    clips, (digest,) = clips_of(tmp_path, segments, "Clips/Walk-v0")
    thread = threading.Thread(target=lambda: found.append(clips.of(digest)))
    thread.start()
    thread.join()
    assert found[0].facts["kind"] == "image"


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("length", [0, 1, 50, 118, 119, 120, 200, 238, 239, 500, 1000])
def test_long_segments_are_thinned_evenly(length):
    at = shown_steps(length)
    assert len(at) <= 120
    assert (at[0], at[-1]) == (0, length)
    gaps = np.diff(at)
    assert len(set(gaps[:-1].tolist())) <= 1
    assert length == 0 or (gaps > 0).all()
    assert len(at) == length + 1 or (length > 119 and len(at) > 60)


def test_a_thinned_clip_lasts_as_long(tmp_path):
    segments = networks_segments("Clips/Walk-v0", n=1, T=300)
    clips, (digest,) = clips_of(tmp_path, segments, "Clips/Walk-v0")
    clip = clips.of(digest)
    assert (clip.facts["length"], clip.facts["frames"]) == (300, 101)
    assert (clip.facts["frames"] - 1) / clip.facts["fps"] == pytest.approx(300 / 12)
    by_hand = Walk()
    for k, seen in enumerate(cut(clip)):
        by_hand.t, by_hand.x = 3 * k, float(segments.states[0, 3 * k, 0])
        np.testing.assert_array_equal(seen, by_hand.render())


@pytest.mark.parametrize(
    ("size", "found"),
    [((1, 1), (1, 1)), ((370, 370), (370, 370)), ((371, 371), (186, 186)),
     ((300, 401), (150, 201)), ((2000, 9), (400, 2)), ((3, 4001), (1, 364))],
)  # fmt: skip
def test_large_frames_are_shrunk_and_small_ones_left(size, found, tmp_path, monkeypatch):
    monkeypatch.setattr(Walk, "size", size)
    segments = networks_segments("Clips/Walk-v0", n=1, T=120)
    clips, (digest,) = clips_of(tmp_path, segments, "Clips/Walk-v0")
    clip = clips.of(digest)
    assert (clip.facts["height"], clip.facts["width"]) == found
    assert len(cut(clip)) == clip.facts["frames"] == 61


def test_a_segment_of_no_steps(tmp_path):
    one = networks_segments("Clips/Walk-v0", n=1, T=2)
    none = dataclasses.replace(one, lengths=np.array([0]))
    clips, digests = clips_of(tmp_path, joined([one, none]), "Clips/Walk-v0")
    assert clips.of(digests[1]).facts["frames"] == 1
    assert clips.of(digests[1]).facts["fps"] == 12
