"""docs/tags.md against what runs write: every tag and key of it, and the value of every tag.

Values are worked out from what the run folder holds and the definition in docs/tags.md, without
the package, but for the model of the ring, which tests/envs/test_ring.py judges. Tags whose value
has a test beside its algorithm are listed with that test.
"""

import itertools
import json
import re
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from oracles import discounted, episodic, models
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlentropy.cli import main
from rlentropy.data import load
from rlentropy.runs.table import COMMANDS

ROOT = Path(__file__).parents[1]
ALL = (ROOT / "docs" / "tags.md").read_text("utf-8")
RUN, _, COLLECT = ALL.partition("## What collect says")
SCALARS, _, SUMMARY = RUN.partition("## summary.json")

H, EPISODES = 4, 12
GAMMA, BETA, UPDATES = 0.9, 0.5, 20
SIZE, TRAIN = 200, 160  # transitions, and those that are not held out
CHAIN = ("--env-id", "rlentropy/DoubleChain-v0", "--env-kwargs", '{"num_states": 5}')
EXPLORE = (*CHAIN, "--horizon", H, "--episodes", EPISODES)
RING = ("--env-id", "rlentropy/Ring-v0", "--env-kwargs", '{"p": 0.15}', "--gamma", GAMMA)
POLE = ("--env-id", "CartPole-v1", "--horizon", 7)  # it takes more steps than that to fall
LAKE = ("--env-id", "FrozenLake-v1", "--env-kwargs", '{"is_slippery": false}')
ASK = ("active-preference", "--batch-size", 4, "--pool", 4)
LENGTH = 6  # of segments
NETWORKS = ("--approximator", "neural", "--hidden", 8, "--batch-size", 16, "--seeds", 2)

CLOCK = ("--env-id", "Tags/Clock-v0", "--horizon", 8, "--episodes", 2)
SCORED = ("--evaluation-episodes", 3, "--final-episodes", 3)
NETWORK = (*CLOCK, *SCORED, "--steps", 48, "--hidden", 4, "--bins", 10)

RUNS = {  # name: command, and options
    "optimal-exploration": ("optimal-exploration", *CHAIN, "--horizon", H),
    "entgame": ("entgame", *EXPLORE, "--eval-every", 1),
    "reg-entgame": ("reg-entgame", *EXPLORE, "--temperature", 0.5),
    "maxent": ("maxent", *EXPLORE),
    "rf-ucrl": ("rf-ucrl", *EXPLORE),
    "ucbvi-ent": ("ucbvi-ent", *EXPLORE),
    "rf-explore-ent": ("rf-explore-ent", *CHAIN, "--horizon", H, "--episodes", 24),
    "uniform": ("random-policy", *EXPLORE, "--objective", "AVE_S"),
    "trajectories": ("random-policy", *EXPLORE, "--objective", "TE"),
    "no-model": ("random-policy", "--env-id", "Tags/Hidden-v0", "--horizon", 2, "--episodes", 9),
    "neural-entgame": ("neural-entgame", *NETWORK, "--updates", 2, "--batch-size", 4),
    "neural-maxent": ("neural-maxent", *NETWORK, "--updates", 2, "--batch-size", 4),
    "mepol": ("mepol", *NETWORK),
    "neural-random": ("neural-random", *NETWORK),
    "robust-planning": ("robust-planning", *RING, "--risk", f"entropic:{BETA}"),
    "robust-pg": ("robust-pg", *RING, "--risk", f"entropic:{BETA}", "--updates", 3),
    "actor-critic": (
        *("robust-actor-critic", *POLE, "--steps", 64, "--num-envs", 2, "--rollout-steps", 16),
        *("--hidden", 4, "--evaluation-episodes", 2, "--final-episodes", 3),
    ),
    "preferences": (
        *(*ASK, *LAKE, "--labels", 12, "--segment-length", LENGTH, "--eval-every", 1),
        *("--acquisition", "push-value"),
    ),
    "preference-network": (
        *(*ASK, *POLE, "--labels", 4, "--segment-length", 5, "--hidden", 4, "--final-episodes", 2),
        *("--loss", "reward-model", "--policy-steps", 1, "--reward-features", 4),
    ),
    "language": (
        *("language-preference", "--model", "random:1,4", "--labels", 4, "--batch-size", 2),
        *("--pool", 2, "--max-new-tokens", 3, "--epochs", 1, "--evaluation-prompts", 4),
        *("--evaluation-pairs", 4, "--acquisition", "push-value", "--reward", "share:aeiou"),
    ),
    "table": (
        *("rfzi", *RING, "--data", "ring.npz", "--holdout", 0.2, "--risk", f"entropic:{BETA}"),
        *("--updates", 5, "--eval-every", 1, "--unvisited", "optimistic"),
    ),
    "states": ("rfqi", *RING, "--data", "ring.npz", "--updates", UPDATES, *NETWORKS),
    "boxes": ("fqi", *POLE, "--data", "pole.npz", "--updates", UPDATES, *NETWORKS),
    "same": ("rfzi", "--data", "ring.npz", "--risk", "entropic:1e-6", "--updates", UPDATES),
    "guessed": ("fqi", "--data", "doubtful.npz", "--updates", UPDATES),
}


class Hidden(gymnasium.Env):
    """Two states, and no model."""

    observation_space, action_space = Discrete(2), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return int(action), 0.0, False, False, {}


class Clock(gymnasium.Env):
    """Counts steps modulo 4, whatever is done, and shows them as a number in [0, 5]."""

    observation_space, action_space = Box(0.0, 5.0, (1,)), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.array([0.25], np.float32), {}

    def step(self, action):
        self.t += 1
        return np.array([self.t % 4 + 0.25], np.float32), 0.0, False, False, {}


def ring():
    """P, r and mu of the environment of RING."""
    mdp = gymnasium.make("rlentropy/Ring-v0", p=0.15).unwrapped.mdp
    return models.dense(mdp), mdp.r, mdp.mu


def write_datasets(folder):
    """Steps of the ring, of whose cells half are never seen; and two datasets that are made up."""
    rng = np.random.default_rng(0)
    P, r, _ = ring()
    cells = rng.choice(r.size, r.size // 2, replace=False)
    s, a = np.divmod(rng.choice(cells, SIZE), r.shape[1])
    s[0], a[0] = len(r) - 1, r.shape[1] - 1  # spaces are read off the largest
    after = [rng.choice(len(P), p=p) for p in P[s, a]]
    x = rng.normal(size=(2, SIZE, 4)).astype(np.float32)
    no, yes = np.zeros(SIZE, bool), np.ones(SIZE, bool)
    place = np.arange(SIZE) % 10  # episodes that terminate after ten steps, as time limits do
    names = ("observations", "actions", "rewards", "next_observations")
    for name, columns, terminated, truncated in (
        ("ring", (s, a, r[s, a], after), no, yes),
        ("pole", (x[0], rng.integers(2, size=SIZE), x[0, :, 0], x[1]), no, yes),
        ("doubtful", (place, place % 2, place, place + 1), place == 9, no),
    ):
        ends = {"terminations": terminated, "truncations": truncated}
        np.savez(folder / f"{name}.npz", **dict(zip(names, columns, strict=True)), **ends)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The run of a name in RUNS, made at its first use."""
    folder, made = tmp_path_factory.mktemp("tags"), {}
    write_datasets(folder)
    gymnasium.register("Tags/Hidden-v0", Hidden)
    gymnasium.register("Tags/Clock-v0", Clock)

    def run(name):
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                arguments = [*map(str, RUNS[name]), "--out", str(folder / name), "--quiet"]
                assert main(arguments) == 0
            made[name] = read(folder / name)
        return made[name]

    yield run
    for name in ("Hidden", "Clock"):
        del gymnasium.registry[f"Tags/{name}-v0"]


def read(folder):
    """Summary, curves (tag: steps and values), their last values, and the arrays of policies."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curves = {}
    for row in rows:
        curves.setdefault(row["tag"], []).append((row["step"], row["value"]))
    arrays = {}
    for path in folder.glob("*.npz"):
        with np.load(path) as file:
            arrays |= {f"{path.stem}.{name}": file[name] for name in file.files}
    return SimpleNamespace(
        summary=json.loads((folder / "summary.json").read_text()),
        config=json.loads((folder / "config.json").read_text())["settings"],
        curves=curves,
        last={tag: points[-1][1] for tag, points in curves.items()},
        arrays=arrays,
        folder=folder,
    )


# ---------------------------------------------------------------- the document


def documented(text):
    """What stands in the first column of its tables."""
    return set(re.findall(r"^\| `([\w/]+)` \|", text, re.M))


def test_every_command_is_run() -> None:
    assert {command for command, *_ in RUNS.values()} == set(COMMANDS)


def test_runs_write_the_tags_that_are_documented_and_no_others(runs) -> None:
    written = set().union(*(runs(name).curves for name in RUNS))
    assert written == documented(SCALARS)


def test_summaries_have_the_keys_that_are_documented_and_no_others(runs) -> None:
    written = set().union(*(runs(name).summary for name in RUNS))
    assert written == documented(SUMMARY)


def test_collect_says_what_is_documented(tmp_path) -> None:
    """Its figures are those of the steps: `commands/test_collect.py`."""
    path = tmp_path / "chain.npz"
    options = (*CHAIN, "--horizon", str(H), "--steps", "42", "--data", str(path), "--quiet")
    assert main(["collect", *options]) == 0
    (collection,) = load(path).metadata["collections"]
    assert collection["summary"].keys() == documented(COLLECT)


# ---------------------------------------------------------------- values


ELSEWHERE = {  # tags: the test of their values
    ("eval/certified_gap",): (
        "exploration/test_reg_entgame.py::test_certificate_is_logged_at_every_evaluation"
    ),
    ("eval/u_min", "eval/u_max", "eval/saturation", "eval/action_agreement", "eval/bellman_loss"): (
        "offline/test_networks.py::test_diagnostics_are_what_they_are_called"
    ),
    (
        *("train/policy_loss", "train/value_loss", "train/linex_loss", "train/entropy", "train/kl"),
        *("train/clip_fraction", "train/effective_sample_size", "train/weight_max"),
        "train/reward_scale",
    ): "robust/test_actor_critic.py::test_train_figures_are_what_they_are_called",
    (
        *("eval/win_rate", "train/loss", "train/final_loss", "train/belief_agreement"),
        *("train/duplicates", "train/degenerate", "train/pool_score", "train/value_scale"),
        "train/vendi_score",
    ): "preferences/test_report.py::test_figures_are_what_they_are_called",
    ("eval/accuracy", "eval/calibration_error"): (
        "preferences/test_report.py::test_held_out_pairs_are_judged_by_their_margins"
    ),
    ("train/rewards/margins", "train/rewards/accuracies"): (
        "preferences/test_language_subject.py::"
        "test_rows_are_those_of_the_export_and_margins_are_ours"
    ),
    ("train/knn_entropy",): (
        "exploration/test_mepol.py::test_figures_of_a_batch_are_those_of_the_definitions"
    ),
    ("train/q_loss",): "exploration/test_soft_players.py::test_the_loss_is_of_the_steps_of_a_round",
    ("eval/length",): (
        "preferences/test_report.py::test_lengths_and_wins_of_networks_are_of_the_same_starts"
    ),
}


def exploration(run):
    """Tags of a run on the chain, of a visitation entropy."""
    m, name = models.double_chain(5), run.summary["objective"]
    temperature = run.summary["temperature"]

    def entropy(d):
        if temperature == 1.0:
            return episodic.visitation_entropy(d, name)
        states, cells = (episodic.visitation_entropy(d, kind) for kind in ("VE_S", "VE"))
        return states + temperature * (cells - states)

    value = entropy(episodic.occupancy(m, run.arrays["policy.pi"]))
    pi = episodic.conic(m, H, name, temperature)
    optimum = entropy(episodic.occupancy(m, pi))
    rng = np.random.default_rng(0)
    scores = [
        episodic.vendi_score(episodic.trajectories(m, run.arrays["policy.pi"], 100, rng))
        for _ in range(20)
    ]
    tags = {
        "eval/visitation_entropy": value,
        "eval/gap": optimum - value,
        "eval/vendi_score": pytest.approx(np.mean(scores), abs=5.0 * np.std(scores)),
        "eval/states_visited": np.count_nonzero(run.summary["state_visits"]),
        "time/episodes": EPISODES,
    }
    if name == "AVE_S":
        visits = np.array(run.summary["state_visits"])
        tags["eval/visit_frequency_entropy"] = episodic.shannon(visits / visits.sum())
    if "mixture.pi" in run.arrays:  # all that were played, as there are few
        mean = np.mean([episodic.occupancy(m, pi) for pi in run.arrays["mixture.pi"]], axis=0)
        rounding = H / 4096  # the file has probabilities in multiples of 1/4096
        tags["eval/mixture_visitation_entropy"] = pytest.approx(entropy(mean), abs=rounding)
        tags["eval/mixture_gap"] = pytest.approx(optimum - entropy(mean), abs=rounding)
    return tags


def trajectory_entropy(run):
    """Of the uniform policy, which is every iterate."""
    m, pi = models.double_chain(5), run.arrays["policy.pi"]
    value = episodic.shannon(episodic.trajectory_law(m, pi, final_transition=False))
    best = m.mu @ episodic.trajectory_entropy(m.P, H)[0]
    kinds = itertools.product(("", "last_iterate_"), ("trajectory_entropy", "gap"))
    return {f"eval/{a}{b}": best - value if b == "gap" else value for a, b in kinds}


def robust(run):
    """Tags of a policy on the ring under entropic risk."""
    P, r, mu = ring()
    pi, expectation = run.arrays["policy.pi"], discounted.entropic(BETA / GAMMA)
    best = discounted.action_values(P, r, GAMMA, expectation)
    Q = discounted.action_values(P, r, GAMMA, expectation, pi)
    V = (pi * Q).sum(1)
    tags = {"eval/robust_value": mu @ V, "eval/gap": mu @ (best.max(1) - V)}
    if run.summary["command"] == "robust-pg":
        worst = discounted.tilted(P, V, BETA)
        d, d_best = (
            discounted.occupancy(worst, mu, each, GAMMA) for each in (pi, discounted.greedy(best))
        )
        mismatch = (d_best / d).max()
        slack = d @ (Q.max(1) - V) / (1.0 - GAMMA)
        tags |= {"eval/mismatch": mismatch, "eval/domination_bound": mismatch * slack}
    return tags


def counted(run, part):
    """The cells of these rows of ring.npz, and how often each followed, (S, A, S)."""
    with np.load(run.folder.parent / "ring.npz") as file:
        s, a, after = (file[k][part] for k in ("observations", "actions", "next_observations"))
    n = np.zeros((14, 3, 14))
    np.add.at(n, (s, a, after), 1.0)
    return (s, a), n


def table(run):
    """Tags of a table learnt from ring.npz, of whose rows the last fifth is held out."""
    P, r, mu = ring()
    Q = run.arrays["policy.Q"]
    V, pi, tags = Q.max(1), discounted.greedy(Q), robust(run)
    seen, _ = counted(run, slice(TRAIN))
    d = discounted.occupancy(P, mu, pi, GAMMA)[:, None] * pi
    covered = np.zeros(r.shape, bool)
    covered[seen] = True
    held_out, n = counted(run, slice(TRAIN, SIZE))
    kernel = n[held_out] / n[held_out].sum(1, keepdims=True)
    backup = discounted.entropic(BETA / GAMMA)(kernel, r[held_out][:, None] + GAMMA * V)
    return tags | {
        "eval/overestimation": mu @ V - tags["eval/robust_value"],
        "eval/coverage": d[covered].sum(),
        "eval/bellman_residual": np.sqrt(((Q[held_out] - backup) ** 2).mean()),
    }


def lake():
    """P (S, A, S), r (S, A) and the starts of the lake, from gymnasium's own table."""
    table = gymnasium.make("FrozenLake-v1", is_slippery=False).unwrapped.P
    P, r, ended = np.zeros((16, 4, 16)), np.zeros((16, 4)), set()
    for s, a in itertools.product(range(16), range(4)):
        ((_, after, reward, over),) = table[s][a]
        P[s, a, after], r[s, a] = 1.0, reward
        ended |= {after} if over else set()
    for s in ended:
        r[s], P[s] = 0.0, np.eye(16)[s]
    return P, r, [s for s in range(16) if s not in ended]


def preferences(run):
    """Tags of a table, and of the questions of its last round as the store has them."""
    P, r, starts = lake()
    pi, reference = run.arrays["policy.pi"], run.arrays["policy.reference"]
    ratio = np.log(pi / reference)
    V = dict.fromkeys(("pi", "reference", "best", "kl"), np.zeros(16))
    live = np.isin(np.arange(16), starts)
    for _ in range(LENGTH):
        V = {
            "pi": (pi * (r + P @ V["pi"])).sum(1),
            "reference": (reference * (r + P @ V["reference"])).sum(1),
            "best": (r + P @ V["best"]).max(1),
            "kl": live * (pi * (ratio + P @ V["kl"])).sum(1),
        }
    J, J_reference, best, kl = (v[starts].mean() for v in V.values())
    with sqlite3.connect(run.folder / "campaign" / "answers.sqlite") as file:
        rows = file.execute(
            "SELECT q.margin, q.score, s.probability FROM questions q JOIN answers s "
            "ON q.round = s.round AND q.position = s.position WHERE q.round = 2"
        ).fetchall()
    margin, score, y = np.array(rows).T
    assert y.shape == (4,)
    said = y != 0.5
    agrees = np.where(margin == 0.0, 0.5, (margin > 0.0) == (y > 0.5))[said]
    return {
        "eval/return": J,
        "eval/normalised_return": (J - J_reference) / (best - J_reference),
        "eval/kl": kl,
        "train/ties": 1.0 - said.mean(),
        "train/margin": np.abs(margin).mean(),
        "train/batch_score": score.mean(),
        "train/agreement": agrees.mean() if said.any() else 0.5,
    }


def clock(run):
    """Tags of visits to four places: 3 episodes of 8 steps, each place of 10 cells twice in each.

    Of a visit, the two others there are those of the other episodes, nearest of all; the two after
    them are a place away, 1 / 5 of the range. The forecaster has added one to each of 10 cells.
    """
    tags = dict.fromkeys(("mixture", "last_iterate", "episode", "visit"), np.log(4.0))
    tags = {f"eval/{name}_entropy": value for name, value in tags.items()}
    digamma = 1.0 + 1.0 / 2.0 + 1.0 / 3.0 - np.euler_gamma  # of k = 4
    ball = 2.0 * run.config["resolution"] * 5.0
    tags |= {"eval/cells_visited": 4.0, "eval/knn_entropy": np.log(16.0) - digamma + np.log(ball)}
    if run.summary["command"] in ("neural-entgame", "neural-maxent"):
        tags["train/reward_deviation"] = 0.0
    if run.summary["command"] == "neural-entgame":  # q̄ of a visited cell, of 1 / 10 of the range
        tags["train/cross_entropy"] = -np.log((12.0 + 1.0) / (48.0 + 10.0) / 0.5)
    if run.summary["command"] == "mepol":
        tags["train/inner_steps"] = 30.0
    return tags


SEVEN = {"eval/return": 7.0}
VALUES = {
    "entgame": exploration,
    "reg-entgame": exploration,
    "uniform": exploration,
    "trajectories": trajectory_entropy,
    **dict.fromkeys(("neural-entgame", "neural-maxent", "mepol", "neural-random"), clock),
    "robust-pg": robust,
    "table": table,
    "preferences": preferences,
    "actor-critic": lambda run: SEVEN | {"train/return": 7.0},
    "boxes": lambda run: SEVEN,
}


@pytest.mark.parametrize("name", VALUES)
def test_tags_have_the_values_that_their_definitions_give(runs, name) -> None:
    run = runs(name)
    for tag, value in VALUES[name](run).items():
        expected = pytest.approx(value, rel=1e-6, abs=1e-6) if np.isscalar(value) else value
        assert run.last[tag] == expected, tag


def test_last_iterates_are_the_policies_that_are_played_next(runs) -> None:
    """The mixture holds all that were played, and the run is evaluated after every episode."""
    run, m = runs("entgame"), models.double_chain(5)
    values = [
        episodic.visitation_entropy(episodic.occupancy(m, pi), "VE")
        for pi in run.arrays["mixture.pi"]
    ]
    played = run.curves["eval/last_iterate_visitation_entropy"][:-1]
    assert [step for step, _ in played] == [H * k for k in range(1, EPISODES)]
    np.testing.assert_allclose([value for _, value in played], values[1:], rtol=1e-6)
    value, gap = (dict(run.curves[f"eval/{kind}"]) for kind in ("visitation_entropy", "gap"))
    last = dict(run.curves["eval/last_iterate_gap"])
    for step, found in played:  # one optimum for both gaps
        assert last[step] + found == pytest.approx(gap[step] + value[step])


def test_the_gap_of_a_plan_is_to_its_upper_bound(runs) -> None:
    run = runs("robust-planning")
    P, r, mu = ring()
    Q = discounted.action_values(P, r, GAMMA, discounted.entropic(BETA / GAMMA))
    assert run.last["eval/robust_value"] == pytest.approx(mu @ Q.max(1), abs=1e-7)
    assert run.summary["upper_bound"] >= mu @ Q.max(1) - 1e-12
    gap = run.summary["upper_bound"] - run.last["eval/robust_value"]
    assert run.last["eval/gap"] == gap > 0.0


def test_the_certificate_of_an_optimum_covers_what_it_lacks(runs) -> None:
    run, m = runs("optimal-exploration"), models.double_chain(5)
    value = episodic.visitation_entropy(episodic.occupancy(m, run.arrays["policy.pi"]), "VE")
    best = episodic.occupancy(m, episodic.conic(m, H, "VE"))
    assert run.last["eval/visitation_entropy"] == pytest.approx(value, rel=1e-12)
    lacks = episodic.visitation_entropy(best, "VE") - value
    assert lacks <= run.last["eval/certificate"] + 1e-12
    assert 0.0 < run.last["eval/certificate"] < 1e-8


def test_the_bound_of_a_table_holds_its_distance_from_the_fixed_point(runs) -> None:
    """Of the empirical model, in which the cells without data are worth the most there is."""
    run, (_, r, _) = runs("table"), ring()
    _, n = counted(run, slice(TRAIN))
    N = n.sum(2)
    p, expectation = n[N > 0] / N[N > 0][:, None], discounted.entropic(BETA / GAMMA)
    Q = np.full(r.shape, r.max() / (1.0 - GAMMA))
    for _ in range(300):
        Q[N > 0] = expectation(p, r[N > 0][:, None] + GAMMA * Q.max(1))
    distance = np.abs(run.arrays["policy.Q"].max(1) - Q.max(1)).max()
    bounds = [bound for _, bound in run.curves["eval/bound"]]
    assert 1e-6 < distance <= bounds[-1] + 1e-12
    falls = GAMMA ** (len(bounds) - 1)  # of a contraction, evaluated after every sweep
    assert bounds[-1] <= falls * bounds[0]


def test_speeds_are_of_the_clock(monkeypatch, tmp_path) -> None:
    """A clock that moves on by a quarter of a second whenever it is read."""
    ticks = itertools.count(0.0, 0.25)
    clock = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr("rlentropy.log.loop.time", clock)
    for name, speed in (("uniform", "steps"), ("robust-pg", "updates"), ("preferences", "labels")):
        arguments = [*map(str, RUNS[name]), "--eval-every", "1", "--quiet"]
        assert main([*arguments, "--out", str(tmp_path / name)]) == 0
        run = read(tmp_path / name)
        before = 0
        for step, value in run.curves[f"time/{speed}_per_second"]:
            assert value == (step - before) / 0.25
            before = step
        assert before == run.summary["env_steps" if speed == "steps" else speed]


def test_speeds_add_up_to_less_than_the_run_took(runs) -> None:
    run, seconds, before = runs("entgame"), 0.0, 0
    for step, speed in run.curves["time/steps_per_second"]:
        seconds, before = seconds + (step - before) / speed, step
    assert before == run.summary["env_steps"] == H * EPISODES
    assert 0.0 < seconds < run.summary["wall_seconds"] + run.summary["compile_seconds"]
    episodes = [(H * k, k) for k in range(1, EPISODES + 1)]
    assert run.curves["time/episodes"] == episodes


def test_summaries_repeat_the_last_values(runs) -> None:
    renamed = {"eval/return": "mean_return", "eval/robust_value": "value"}
    for place in ("", "mixture_", "last_iterate_"):
        for kind in ("visitation", "trajectory"):
            renamed[f"eval/{place}{kind}_entropy"] = f"{place}value"
    for name in RUNS:
        run = runs(name)
        for tag, value in run.last.items():
            key = renamed.get(tag, tag.removeprefix("eval/"))
            if key in run.summary:
                assert run.summary[key] == pytest.approx(value, rel=1e-12), (name, tag)


def test_tensorboard_has_the_scalars_and_two_results(runs) -> None:
    run = runs("robust-pg")
    events = EventAccumulator(str(run.folder))
    events.Reload()
    found = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}
    value = run.summary["value"]
    both = {"hparam/gap": run.summary["optimum"] - value, "hparam/value": value}
    assert found == pytest.approx(run.last | both, rel=1e-6)


def test_every_documented_tag_has_its_value_tested_once(runs) -> None:
    here = set().union(*(VALUES[name](runs(name)) for name in VALUES))
    here |= {"eval/last_iterate_visitation_entropy", "eval/certificate", "eval/bound"}
    here |= {f"time/{unit}_per_second" for unit in ("steps", "updates", "labels")}
    there = {tag for tags in ELSEWHERE for tag in tags}
    assert not here & there
    assert here | there == documented(SCALARS)


@pytest.mark.parametrize(("tags", "test"), ELSEWHERE.items())
def test_tests_of_values_elsewhere_are_there(tags, test) -> None:
    file, name = test.split("::")
    body = (ROOT / "tests" / file).read_text("utf-8").partition(f"\ndef {name}(")[2]
    body = body.partition("\n\n\n")[0]
    for tag in tags:
        assert tag.partition("/")[2] in body, tag
