"""`evaluate` on made-up runs whose policies' values are known, and its statistics by numpy."""

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from examples import mixtures

from rlentropy import FiniteMDP
from rlentropy.cli import main
from rlentropy.commands import evaluate as command
from rlentropy.envs.ring import TOY10
from rlentropy.errors import InputError
from rlentropy.runs.table import COMMANDS, Command

RING, LAKE = "rlentropy/Ring-v0", "FrozenLake-v1"
STAY, RIGHT = np.eye(3)[[1] * 14], np.eye(3)[[2] * 14]
# Optimal policies of robust §8.4 (0 left, 1 stay, 2 right).
NOMINAL_01 = [0, 0, 2, 2, 2, 2, 2, 2, 1, 0, 0, 0, 0, 0]
BETA1_01 = [2, 2, 2, 1, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2]
NOMINAL_15 = [2, 2, 2, 1, 0, 0, 0, 0, 1, 2, 2, 2, 1, 2]


def write_run(folder, pi, env_id=RING, seed=0, settings=None, **changes):
    """A finished run of a tabular policy."""
    folder.mkdir(parents=True)
    summary = {"command": "robust-pg", "env_id": env_id, "env_kwargs": "{}", "seed": seed}
    summary |= {"gamma": 0.95, "finished": True}
    (folder / "summary.json").write_text(json.dumps(summary | changes))
    config = {"command": "robust-pg", "settings": {"seed": seed} | (settings or {})}
    (folder / "config.json").write_text(json.dumps(config))
    if pi is not None:
        np.savez(folder / "policy.npz", pi=pi)
    return folder


def evaluate(folder, *arguments, out="out"):
    """Evaluate the runs below a folder; evaluation.csv by (label, seed, metric, value)."""
    where = Path(folder) / out
    assert main(["evaluate", "--run", str(folder), "--out", str(where), "--quiet", *arguments]) == 0
    return {
        (row["label"], int(row["seed"]), row["metric"], float(row["value"])): row
        for row in read_csv(where / "evaluation.csv")
    }


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(rows, name):
    return np.array([float(row[name]) for row in rows])


# ---------------------------------------------------------------- parameters of one's own


class Coin(gymnasium.Env):
    """Heads pays 1: state and model say how likely it is."""

    def __init__(self, heads: float = 0.5, moving: bool = True):
        self.observation_space = self.action_space = gymnasium.spaces.Discrete(2)
        self.heads, self.moving, self.idle, self.first = heads, moving, 1.0, heads

    @property
    def mdp(self):
        heads = self.heads if self.moving else self.first
        P = np.tile([1 - heads, heads], (2, 2, 1))
        return FiniteMDP(P, np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([1.0, 0.0]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = 0
        return 0, {}

    def step(self, action):
        reward = float(self.s)
        self.s = int(self.np_random.random() < self.heads)
        return self.s, reward, False, False, {}


@pytest.fixture
def coin(monkeypatch, tmp_path):
    spec = gymnasium.envs.registration.EnvSpec("Coin-v0", Coin, max_episode_steps=6)
    monkeypatch.setitem(gymnasium.registry, "Coin-v0", spec)
    write_run(tmp_path / "run", np.full((2, 2), 0.5), "Coin-v0")
    return tmp_path


@pytest.mark.parametrize("name", ["heads", "attr.heads"])
def test_a_model_that_changes_along_gives_exact_values(coin, name):
    """From state 0, γ = 0.95: each later step pays heads, so V = γ heads / (1 - γ)."""
    rows = evaluate(coin, "--perturb", f"{name}=0.25:0.75:0.25")
    for heads in (0.25, 0.5, 0.75):
        exact = float(rows["robust-pg", 0, "value", heads]["mean"])
        assert exact == pytest.approx(0.95 / 0.05 * heads, abs=1e-6)
        row = rows["robust-pg", 0, "return", heads]
        assert abs(float(row["mean"]) - 5 * heads) < 4 * np.sqrt(5 * heads * (1 - heads) / 20)
        assert float(row["nominal"]) == 0.5


@pytest.mark.parametrize("grid", ["attr.heads=0.25:0.75:0.25", "random_action=0:0.5:0.5"])
def test_a_model_that_does_not_claims_no_exact_values(coin, grid):
    rows = evaluate(coin, "--perturb", grid, "--env-kwargs", '{"moving": false}')
    assert {metric for _, _, metric, _ in rows} == {"return"}


def test_an_attribute_that_changes_nothing_is_refused(coin, capsys):
    arguments = ["--run", str(coin / "run"), "--perturb"]
    assert main(["evaluate", *arguments, "attr.idle=0.5:1:0.25"]) == 2
    said = capsys.readouterr().err
    assert (
        "perturb attr.idle must act in Coin-v0, got the same random play with 0.5 as with 1" in said
    )
    assert main(["evaluate", *arguments, "attr.s=0.5:1:0.25"]) == 2
    assert "attr.s must name an attribute of Coin-v0, got 's'" in capsys.readouterr().err
    assert main(["evaluate", *arguments, "idle=0.5:1:0.25"]) == 2
    said = capsys.readouterr().err
    assert "one of heads (nominal 0.5), random_action (nominal 0), attr.idle, attr.first, " in said
    assert "attr.NAME of its other numbers in Coin-v0, got 'idle'" in said


# ---------------------------------------------------------------- values


def test_a_walk_around_a_ring_without_noise(tmp_path):
    """14 steps to the right pass each state once, wherever they begin."""
    write_run(tmp_path / "a", RIGHT)
    arguments = ["--env-kwargs", '{"p": 0}', "--horizon", "14", "--episodes", "7"]
    row = evaluate(tmp_path, *arguments)["robust-pg", 0, "return", 0.0]
    assert [float(row[k]) for k in ("mean", "low", "high", "std")] == pytest.approx(
        [*[TOY10.sum()] * 3, 0.0]
    )
    assert (row["length"], row["episodes"], row["perturbation"]) == ("14.0", "7", "none")


def test_frozen_lake_without_slipping(tmp_path):
    """Down, down, right, right, down, right: six steps to the goal."""
    pi = np.zeros((16, 4))
    path = {0: 1, 4: 1, 8: 2, 9: 2, 10: 1, 14: 2}
    for s in range(16):
        pi[s, path.get(s, 0)] = 1.0
    write_run(tmp_path / "a", pi, LAKE, env_kwargs='{"is_slippery": false}')
    rows = evaluate(tmp_path, "--episodes", "3")
    row = rows["robust-pg", 0, "return", 0.0]
    assert (row["mean"], row["length"]) == ("1.0", "6.0")
    exact = rows["robust-pg", 0, "value", 0.0]
    assert float(exact["mean"]) == pytest.approx(0.95**5, rel=1e-9)
    assert (exact["low"], exact["high"], exact["episodes"]) == (exact["mean"], exact["mean"], "0")


def test_exact_value_without_a_discount_is_the_mean_return(tmp_path, rng):
    """Of a policy that depends on the stage, in a noisy environment."""
    write_run(tmp_path / "a", rng.dirichlet(np.ones(3), size=(4, 14)), gamma=None, horizon=10)
    rows = evaluate(tmp_path, "--env-kwargs", '{"p": 0.3}', "--episodes", "1000")
    sampled = rows["robust-pg", 0, "return", 0.0]
    error = float(sampled["std"]) / np.sqrt(1000)
    exact = float(rows["robust-pg", 0, "value", 0.0]["mean"])
    assert abs(float(sampled["mean"]) - exact) < 4 * error
    assert sampled["length"] == "10.0"


def test_mixtures_play_each_policy_for_a_whole_episode(tmp_path):
    """Half of the episodes stay, half walk around: no other return exists."""
    run = write_run(tmp_path / "a", STAY, gamma=None)
    np.savez(run / "mixture.npz", pi=np.stack([STAY, RIGHT]))
    arguments = ["--env-kwargs", '{"p": 0}', "--horizon", "14", "--episodes", "400", "--mixture"]
    rows = evaluate(tmp_path, *arguments)
    # Staying pays 14 times the reward of a uniform state, walking the sum: the same mean.
    assert float(rows["robust-pg", 0, "value", 0.0]["mean"]) == pytest.approx(TOY10.sum())
    variance = 0.5 * 14**2 * TOY10.var()
    found = float(rows["robust-pg", 0, "return", 0.0]["std"]) ** 2
    assert found == pytest.approx(variance, rel=0.5)


def test_mixtures_of_networks_play_each_for_a_whole_episode(tmp_path, monkeypatch):
    """Full throttle costs 0.1 a step, and none nothing."""
    mixtures.register(monkeypatch)
    run = mixtures.write_run(tmp_path / "run", "MountainCarContinuous-v0", members=(1, 2), last=1)
    ((row,), (last,)) = (
        evaluate(run, "--episodes", "200", *more, out=tmp_path / "out").values()
        for more in (["--mixture"], [])
    )
    assert float(last["mean"]) == 0.0
    assert abs(float(row["mean"]) + 1.0) < 5.0 / np.sqrt(200)
    assert float(row["std"]) == pytest.approx(1.0, abs=0.05)
    assert float(row["length"]) == 20.0


def test_shifted_noise_is_the_exact_value_at_every_level(tmp_path):
    """V = (I - γ P)^-1 r by a dense solve, with P of the changed noise (robust §5.1)."""
    write_run(tmp_path / "a", np.eye(3)[NOMINAL_15])
    rows = evaluate(tmp_path, "--perturb", "p=0:0.4:0.1", "--episodes", "2")
    for p in (0.0, 0.1, 0.2, 0.3, 0.4):
        P = np.zeros((14, 14))
        for s, a in enumerate(NOMINAL_15):
            for shift, mass in ((-1, p), (0, 1 - 2 * p), (1, p)):
                P[s, (s + a - 1 + shift) % 14] += mass
        value = np.linalg.solve(np.eye(14) - 0.95 * P, TOY10).mean()
        found = rows["robust-pg", 0, "value", p]
        assert float(found["mean"]) == pytest.approx(value, rel=1e-8)
        assert found["perturbation"] == "p"


@pytest.mark.parametrize(
    ("p", "policy", "golden"),
    [
        (0.01, NOMINAL_01, {0.0: 71.55, 0.1: 48.71, 0.3: 25.65, 0.4: 16.18, 0.6: -0.92}),
        (0.01, BETA1_01, {0.0: 34.08, 0.1: 27.04, 0.3: 21.44, 0.4: 19.24, 0.6: 15.35}),
        (0.15, NOMINAL_15, {0.0: 16.91, 0.1: 5.05, 0.2: 0.01, 0.3: -3.89}),
    ],
)
def test_kl_balls_reproduce_the_golden_table(tmp_path, p, policy, golden):
    """Robust §8.4, whose horizon of 200 leaves out 0.95^200, or 0.004 of what follows."""
    write_run(tmp_path / "a", np.eye(3)[policy], env_kwargs=json.dumps({"p": p}))
    rows = evaluate(tmp_path, "--perturb", f"kl-ball=0:{max(golden)}:0.05")
    assert {metric for _, _, metric, _ in rows} == {"robust value"}
    for radius, value in golden.items():
        found = float(rows["robust-pg", 0, "robust value", radius]["mean"])
        assert found == pytest.approx(value, abs=0.012)


# ---------------------------------------------------------------- a neural policy


class Upright:
    """Pushes CartPole to the side the pole falls to."""

    def begin(self, index, rng):
        pass

    def act(self, observations, t, rng):
        assert observations.shape[1:] == (4,)
        return (observations[:, 2] + 0.5 * observations[:, 3] > 0).astype(np.int64)


@pytest.fixture
def cart_pole(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    module = SimpleNamespace(load_policy=lambda saved, env: Upright())
    monkeypatch.setitem(sys.modules, "upright", module)
    monkeypatch.setitem(COMMANDS, "upright", Command("upright", ""))
    run = write_run(tmp_path / "a", None, "CartPole-v1", command="upright")
    torch.save({}, run / "policy.pt")
    return tmp_path


def test_returns_of_a_neural_policy_are_those_of_single_episodes(cart_pole):
    rows = evaluate(cart_pole, "--perturb", "length=x0.5:4:0.5", "--episodes", "4", "--seed", "3")
    seeds = np.random.SeedSequence(3).generate_state(4)
    for length in (0.25, 0.5, 2.0):
        returns = []
        for seed in seeds:
            env = gymnasium.make("CartPole-v1")
            base = env.unwrapped
            base.length = length
            base.polemass_length = base.masspole * base.length
            x, over, total = env.reset(seed=int(seed))[0], False, 0.0
            while not over:
                x, r, terminated, truncated, _ = env.step(int(x[2] + 0.5 * x[3] > 0))
                over, total = terminated or truncated, total + r
            returns.append(total)
        row = rows["upright", 0, "return", length]
        assert (float(row["nominal"]), row["unit"]) == (0.5, "m")
        assert float(row["mean"]) == pytest.approx(np.mean(returns))
        assert float(row["std"]) == pytest.approx(np.std(returns, ddof=1))
        assert float(row["length"]) == pytest.approx(np.mean(returns))  # one a step
    assert {metric for _, _, metric, _ in rows} == {"return"}


def test_equal_runs_get_equal_episodes(cart_pole):
    """Common random numbers: two copies of a run agree to the bit at every point."""
    (cart_pole / "b").mkdir()
    for name in ("config.json", "policy.pt"):
        (cart_pole / "b" / name).write_bytes((cart_pole / "a" / name).read_bytes())
    summary = json.loads((cart_pole / "a/summary.json").read_text()) | {"label": "copy"}
    (cart_pole / "b/summary.json").write_text(json.dumps(summary))
    for grid in ("random_action=0:1:0.25", "observation_noise=0:0.5:0.25"):
        rows = evaluate(cart_pole, "--perturb", grid, "--episodes", "5")
        for (label, *rest), row in rows.items():
            twin = rows["copy" if label == "upright" else "upright", *rest]
            assert all(row[k] == twin[k] for k in ("mean", "std", "length"))


def test_the_seed_decides_everything(cart_pole):
    files = []
    for seed, out in (("1", "first"), ("1", "second"), ("2", "third")):
        np.random.seed(len(files))  # noqa: NPY002  (nothing may draw from it)
        grid = ["--perturb", "random_action=0:1:0.5"]
        evaluate(cart_pole, *grid, "--episodes", "5", "--seed", seed, out=out)
        names = ("evaluation.csv", "bands.csv", "areas.csv", "random_action-return.png")
        files.append([(cart_pole / out / name).read_bytes() for name in names])
    assert files[0] == files[1]
    assert files[0] != files[2]


# ---------------------------------------------------------------- several runs


def test_seeds_of_an_algorithm_are_aggregated(tmp_path, rng):
    """Bands and areas over five training seeds; a single seed has its episodes alone."""
    policies = rng.dirichlet(np.ones(3), size=(5, 14))
    for seed, pi in enumerate(policies):
        write_run(tmp_path / f"many/{seed}", pi, seed=seed)
    write_run(tmp_path / "one", STAY, label="still")
    evaluate(tmp_path, "--perturb", "p=0:0.4:0.1", "--episodes", "6")
    rows, bands = (read_csv(tmp_path / f"out/{name}.csv") for name in ("evaluation", "bands"))
    areas = read_csv(tmp_path / "out/areas.csv")
    assert [(a["label"], a["seeds"]) for a in areas if a["metric"] == "return"] == [
        ("robust-pg", "5"),
        ("still", "1"),
    ]
    for metric in ("return", "value"):
        mine = [r for r in rows if (r["label"], r["metric"]) == ("robust-pg", metric)]
        means = numbers(mine, "mean").reshape(5, 5)  # (seed, value)
        band = [b for b in bands if (b["label"], b["metric"]) == ("robust-pg", metric)]
        assert numbers(band, "value").tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
        np.testing.assert_allclose(numbers(band, "mean"), means.mean(0), atol=1e-12)
        draws = means[np.random.default_rng(5).integers(5, size=(20_000, 5))].mean(1)
        width = means.max(0) - means.min(0)
        for end, quantile in (("low", 0.025), ("high", 0.975)):
            expected = np.quantile(draws, quantile, axis=0)
            assert (np.abs(numbers(band, end) - expected) <= 0.05 * width).all()
        (found,) = (a for a in areas if (a["label"], a["metric"]) == ("robust-pg", metric))
        trapezia = (means[:, :-1] + means[:, 1:]).sum(1) / 2 * 0.1 / 0.4
        assert float(found["area"]) == pytest.approx(trapezia.mean())
        draws = trapezia[np.random.default_rng(5).integers(5, size=(20_000, 5))].mean(1)
        ends = [float(found["low"]), float(found["high"])]
        tolerance = 0.05 * np.ptp(trapezia)
        np.testing.assert_allclose(ends, np.quantile(draws, [0.025, 0.975]), atol=tolerance)
        assert float(found["worst"]) == pytest.approx(means.mean(0).min())
    alone = {b["value"]: b for b in bands if (b["label"], b["metric"]) == ("still", "return")}
    for row in (r for r in rows if (r["label"], r["metric"]) == ("still", "return")):
        band = alone[row["value"]]
        width = max(float(row["high"]) - float(row["low"]), 1e-9)
        assert abs(float(band["low"]) - float(row["low"])) <= 0.2 * width  # two bootstraps
    exact = [b for b in bands if (b["label"], b["metric"]) == ("still", "value")]
    assert all(b["low"] == "nan" for b in exact)  # one seed, nothing sampled: no interval
    for name in ("p-return.png", "p-value.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_runs_of_one_label_and_other_settings_are_told_apart(tmp_path):
    for k, (risk, out) in enumerate((("nominal", "x"), ("entropic:1", "y"))):
        settings = {"risk": risk, "out": out, "updates": 10}
        write_run(tmp_path / str(k), STAY, settings=settings)
    rows = evaluate(tmp_path, "--episodes", "1")
    labels = {label for label, *_ in rows}
    assert labels == {"robust-pg, risk=nominal", "robust-pg, risk=entropic:1"}


def test_absolute_and_relative_grids_are_one(cart_pole, capsys):
    """5 to 15 N either way; start line, table and files show newtons."""
    run, out = cart_pole / "a", cart_pole / "out"
    files = []
    for grid in ("force_mag=5:15:5", "force_mag=x0.5:1.5:0.5"):
        arguments = ["--episodes", "2", "--out", str(out), "--perturb", grid]
        assert main(["evaluate", "--run", str(run), *arguments]) == 0
        first, *table = capsys.readouterr().out.splitlines()
        assert first == "force_mag 5 to 15 N (nominal 10): 3 values, 1 run"
        assert table[1].startswith("force_mag 5 to 15 N (nominal 10)  return  upright")
        rows, bands, areas = (
            read_csv(out / f"{name}.csv") for name in ("evaluation", "bands", "areas")
        )
        for row in (*rows, *bands):
            assert (row["unit"], float(row["nominal"])) == ("N", 10.0)
        assert [float(row["value"]) for row in rows] == [5.0, 10.0, 15.0]
        assert [float(areas[0][name]) for name in ("from", "to", "nominal")] == [5.0, 15.0, 10.0]
        names = ("evaluation.csv", "bands.csv", "areas.csv", "force_mag-return.png")
        files.append([(out / name).read_bytes() for name in names])
    assert files[0] == files[1]


# ---------------------------------------------------------------- the command


def test_results_lie_in_the_run_by_default_and_are_replaced(tmp_path, capsys):
    run = write_run(tmp_path / "a", STAY)
    out = run / "evaluation"
    grid = ["--perturb", "p=0:0.2:0.1", "--perturb", "tv-ball=0:0.2:0.1"]
    assert main(["evaluate", "--run", str(run), "--episodes", "2", *grid]) == 0
    printed = capsys.readouterr().out
    assert "tv-ball" in printed
    assert str(out) in printed
    assert sorted(p.name for p in out.glob("*.png")) == [
        "p-return.png",
        "p-value.png",
        "tv-ball-robust-value.png",
    ]
    assert json.loads((out / "evaluation.json").read_text())["horizon"] == 100
    assert main(["evaluate", "--run", str(run), "--episodes", "2"]) == 0  # "out" is no run
    assert sorted(p.name for p in out.iterdir()) == [
        "bands.csv",
        "evaluation.csv",
        "evaluation.json",
    ]
    assert "exact" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--perturb", "p"], "perturb must be NAME=LO:HI:STEP or NAME=xLO:HI:STEP, got 'p'"),
        (
            ["--perturb", "p=0:x:1"],
            "perturb must be NAME=LO:HI:STEP or NAME=xLO:HI:STEP, got 'p=0:x:1'",
        ),
        (["--perturb", "p=0:inf:1"], "NAME=LO:HI:STEP or NAME=xLO:HI:STEP, got 'p=0:inf:1'"),
        (["--perturb", "p=x0.5:x1:1"], "or NAME=xLO:HI:STEP, got 'p=x0.5:x1:1'"),
        (["--perturb", "cvar=0:1:1e-12"], "perturb must have at most 1000 points, got 1e+12 in"),
        (["--perturb", "cvar=0:1:1e-7"], "perturb must have at most 1000 points, got 1e+07 in"),
        (["--perturb", "p=0:1e308:1e-308"], "perturb must have at most 1000 points, got inf in"),
        (["--perturb", "p=1:1.00000000000005:1e-14"], "must have a STEP that tells points apart"),
        (["--perturb", "random_action=x0:1:1"], "must be a value, since it is nominally 0"),
        (["--perturb", "kl-ball=x0:1:1"], "kl-ball must be LO:HI:STEP, since a measure has no"),
        (["--perturb", "p=x0:100:10"], "p must be a probability in [0, 0.5], got 1"),
        (["--perturb", "p=0.2:0.1:0.1"], "perturb must have LO <= HI and STEP > 0"),
        (["--perturb", "p=0:0.1:0"], "perturb must have LO <= HI and STEP > 0"),
        (["--perturb", "p=0:0.6:0.1"], "p must be a probability in [0, 0.5], got 0.6"),
        (
            ["--perturb", "q=0:0.1:0.1"],
            "name one of p (nominal 0.01), random_action (nominal 0), entropic, ",
        ),
        (["--perturb", "kl_ball=0:1:1"], "got 'kl_ball'; did you mean kl-ball"),
        (["--perturb", "kl-ball=-1:1:1"], "radius must be >= 0 and finite, got -1.0"),
        (["--perturb", "p=0:0:1", "--perturb", "p=0:0.1:0.1"], "must name each parameter once"),
        (["--env-id", "CartPole-v1"], "env must have Discrete(14) observations"),
        (["--env-id", "Nope-v0"], "env_id must name a gymnasium environment, got 'Nope-v0'"),
        (["--env-kwargs", '{"p": 2}'], "env_kwargs must suit rlentropy/Ring-v0"),
        (["--episodes", "0"], "episodes must be >= 1, got 0"),
        (["--horizon", "0"], "horizon must be >= 1, got 0"),
        (["--seed", "-1"], "seed must be >= 0, got -1"),
        (["--mixture"], "run must hold mixture.npz"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, capsys, arguments, message):
    write_run(tmp_path / "a", STAY)
    out = tmp_path / "out"
    assert main(["evaluate", "--run", str(tmp_path), "--out", str(out), *arguments]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1
    assert not out.exists()


def test_wrong_runs_are_one_line(tmp_path, capsys):
    def complaint(*runs):
        assert main(["evaluate", "--run", *map(str, runs), "--perturb", "kl-ball=0:1:1"]) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        return text

    assert "run must name at least one run folder" in complaint()
    assert "must be run folders or globs of them, got" in complaint(tmp_path / "none")
    ring = write_run(tmp_path / "ring", STAY)
    lake = write_run(tmp_path / "lake", np.full((16, 4), 0.25), LAKE, seed=1)
    assert "env_id must be given for runs that differ in it" in complaint(ring, lake)
    twin = write_run(tmp_path / "twin", STAY)
    assert "run must name each seed once, got seed 0 of robust-pg in" in complaint(ring, twin)
    endless = write_run(tmp_path / "endless", STAY, gamma=None)
    assert "must come with a tabular stationary policy and a discount" in complaint(endless)
    staged = write_run(tmp_path / "staged", np.stack([STAY, RIGHT]))
    assert "must come with a tabular stationary policy and a discount" in complaint(staged)
    (staged / "summary.json").unlink()
    (staged / "metrics.jsonl").write_text("")
    assert "run must be the folder of a finished run, got" in complaint(staged)


def test_measures_need_a_model(cart_pole, capsys):
    assert main(["evaluate", "--run", str(cart_pole), "--perturb", "kl-ball=0:1:1"]) == 2
    assert "whose model isn't known, got 'kl-ball'" in capsys.readouterr().err


def test_pictures_come_in_the_formats_that_are_asked_for(tmp_path):
    run, out = write_run(tmp_path / "a", STAY), tmp_path / "out"
    arguments = ["--run", str(run), "--episodes", "2", "--perturb", "p=0:0.2:0.1"]
    for kinds in (("png", "svg"), ("pdf",)):
        assert main(["evaluate", *arguments, "--out", str(out), "--format", *kinds]) == 0
        found = {path.name for path in out.iterdir() if path.suffix not in (".csv", ".json")}
        assert found == {f"p-{name}.{kind}" for name in ("return", "value") for kind in kinds}
    with pytest.raises(InputError, match="format must be of png, pdf, svg, got none"):
        command.Config(run=("a",), format=())


def test_axes_say_what_they_show():
    assert command.named("return", {0.95}) == "return of an episode"
    assert command.named("value", {0.95}) == "value (discount 0.95)"
    assert command.named("value", {None}) == "value of an episode"
    assert command.named("robust value", {0.9, 0.95}) == "robust value"
    assert command.radius_of("kl-ball") == "radius of the kl ball (nats)"
    assert command.radius_of("s-l1-ball") == "radius of the s-l1 ball"
    assert command.radius_of("chi2-penalty") == "weight of the chi2 penalty"
    assert command.radius_of("cvar") == "parameter of cvar"
    config = command.Config(run=("a",), episodes=7)
    bands = [SimpleNamespace(seeds=1, metric=metric) for metric in ("return", "value")]
    assert command.note(bands[:1], config) == "one run: mean, 95 % bootstrap over 7 episodes"
    assert command.note(bands[1:], config) == "one run, exact values"
    many = [SimpleNamespace(seeds=seeds, metric="value") for seeds in (3, 5)]
    assert command.note(many, config) == "mean, 95 % bootstrap over 3 to 5 seeds"
