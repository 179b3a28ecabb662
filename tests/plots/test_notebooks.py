"""Pictures for notebooks: the data drawn against what went in."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

import rlentropy
from rlentropy import FiniteMDP, planning, plots
from rlentropy.errors import InputError
from rlentropy.intervals.seeds import estimate
from rlentropy.plots.figure import Picture

RIGHT, DOWN, STAY = (0, 1), (1, 0), (0, 0)


@pytest.fixture(scope="module")
def lake():
    return gymnasium.make("FrozenLake-v1")


def arrows(figure):
    """Where each arrow begins, and where it leads: {(row, column): [(down, right), ...]}."""
    from matplotlib.quiver import Quiver

    (quiver,) = figure.findobj(Quiver)
    found = {}
    for (x, y), u, v in zip(quiver.get_offsets(), quiver.U, quiver.V, strict=True):
        found.setdefault((int(y), int(x)), []).append((float(v), float(u)))
    return found


# ---------------------------------------------------------------- values and policies


def test_values_stand_in_their_cells():
    V = np.array([1.0, 2.0, np.nan, 4.0, 5.0, 6.5])
    figure = plots.grid_values((2, 3), V, label="value", title="mine")
    axes, bar = figure.axes
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array().filled(np.nan), V.reshape(2, 3))
    assert image.get_array().mask.tolist() == [[False, False, True], [False] * 3]
    assert (image.norm.vmin, image.norm.vmax) == (1.0, 6.5)
    red, green, blue, _ = image.cmap.get_bad()
    assert red == green == blue > 0.8
    assert bar.get_ylabel() == "value"
    assert figure.get_suptitle() == "mine"


def test_arrows_are_as_long_as_actions_are_likely():
    pi = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]])
    figure = plots.grid_values((2, 2), pi=pi, moves=[RIGHT, (3, 0), STAY])
    found = arrows(figure)
    assert found.keys() == {(0, 0), (0, 1), (1, 0)}
    np.testing.assert_allclose(found[0, 0], [(0.0, 0.45)])
    np.testing.assert_allclose(found[0, 1], [(0.0, 0.45), (0.45, 0.0)])
    np.testing.assert_allclose(found[1, 0], [(0.0, 0.225), (0.225, 0.0)])
    dots = figure.axes[0].collections[-1].get_offsets()
    assert dots.tolist() == [[0.0, 1.0], [1.0, 1.0]]


def test_arrows_go_where_the_model_goes(lake):
    """FrozenLake: left, down, right, up, all slippery; nothing leaves holes and the goal."""
    found = arrows(plots.grid_values(lake, np.arange(16.0), np.arange(16) % 4))
    ends = {5, 7, 11, 12, 15}
    assert found.keys() == {divmod(s, 4) for s in range(16) if s not in ends}
    ways = [(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)]
    for (row, column), (way,) in found.items():
        np.testing.assert_allclose(way, 0.45 * np.array(ways[(4 * row + column) % 4]), atol=1e-9)


def test_an_environment_of_ours_knows_its_grid():
    env = gymnasium.make("rlentropy/GridWorld-v0")
    mdp = FiniteMDP.from_env(env)
    uniform = np.full((mdp.num_states, mdp.num_actions), 1 / mdp.num_actions)
    figure = plots.grid_values(env, np.zeros(mdp.num_states), uniform)
    assert figure.axes[0].images[0].get_array().shape == (21, 21)
    assert len(arrows(figure)) == 441


def test_axes_of_ones_own_are_drawn_in(lake):
    from matplotlib.figure import Figure

    own = Figure().subplots(1, 2)
    for ax, given in zip(own, ({"V": np.ones(16)}, {"pi": np.zeros(16)}), strict=True):
        assert plots.grid_values(lake, **given, ax=ax, title="here") is ax.figure
        assert (len(ax.images), ax.get_title()) == (1, "here")


def test_the_plan_of_a_lake_is_drawn_as_it_is(lake):
    plan = planning.optimum(FiniteMDP.from_env(lake), 0.99)
    figure = plots.grid_values(lake, plan.V, plan.pi)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array().ravel(), plan.V)
    assert isinstance(figure, Picture)
    assert figure._repr_png_().startswith(b"\x89PNG")


CASES = {
    "V or pi must be given": lambda lake: plots.grid_values(lake),
    r"V must be \(16,\), got shape \(3,\)": lambda lake: plots.grid_values(lake, np.ones(3)),
    "V must be numbers": lambda lake: plots.grid_values(lake, "high"),
    "where must be an environment whose states": lambda _: plots.grid_values(
        gymnasium.make("CartPole-v1"), [1.0]
    ),
    r"where must be an environment or \(rows, columns\), got 'lake'": lambda _: plots.grid_values(
        "lake", [1.0]
    ),
    r"pi must be \(16, A\) or \(16,\), one stage at a time": lambda lake: plots.grid_values(
        lake, pi=np.ones((5, 16, 4)) / 4
    ),
    "pi must be probabilities": lambda lake: plots.grid_values(lake, pi=np.ones((16, 4))),
    "moves must be .* where no model tells": lambda _: plots.grid_values((1, 2), pi=[0, 1]),
    r"moves must be \(2, 2\)": lambda _: plots.grid_values((1, 2), pi=[0, 1], moves=[1, 2]),
    "d must be >= 0 and not all 0": lambda _: plots.occupancy(None, [0.0, 0.0]),
    r"d must be \(S,\), \(S, A\) or": lambda _: plots.occupancy(None, 3.0),
    "d and optimal must be of one size": lambda _: plots.occupancy(None, [1, 2], [1, 2, 3]),
    "d and optimal must be of 2 x 2 states": lambda _: plots.occupancy((2, 2), [1, 2]),
    "runs must be what rlentropy.load_run returns": lambda _: plots.gap_curves("runs/a"),
    "runs must hold one run or more": lambda _: plots.gap_curves([]),
    "tag must be a metric of every run": lambda _: plots.gap_curves(run_of([1, 2], [3, 4]), "x"),
    "statistic must be": lambda _: plots.gap_curves(run_of([1], [1]), statistic="median"),
    "values must be .* and increase": lambda _: plots.robustness_curves([2, 1], {"a": [1, 2]}),
    "scores must be arrays by name": lambda _: plots.robustness_curves([1, 2], [1, 2]),
    r"scores\['a'\] must be \(n, 2\)": lambda _: plots.robustness_curves([1, 2], {"a": [1]}),
    r"predictions must be pairs \(p, y\)": lambda _: plots.reliability_diagram({"a": 0.5}),
}  # fmt: skip


@pytest.mark.parametrize("message", CASES)
def test_wrong_input_is_one_line(lake, message):
    with pytest.raises(InputError, match=message) as error:
        CASES[message](lake)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- occupancy


def test_occupancies_are_shares_on_one_scale(rng):
    counts, optimal = rng.random((5, 6, 2)), rng.random(6)
    figure = plots.occupancy((2, 3), counts, optimal, title="a run")
    first, second, _ = figure.axes
    shares = counts.sum((0, 2)) / counts.sum()
    np.testing.assert_allclose(first.images[0].get_array().ravel(), shares)
    np.testing.assert_allclose(second.images[0].get_array().ravel(), optimal / optimal.sum())
    assert first.images[0].norm is second.images[0].norm or (
        first.images[0].get_clim() == second.images[0].get_clim()
    )
    assert [a.get_title() for a in (first, second)] == ["visited", "optimal"]


def test_states_without_a_grid_are_lines():
    figure = plots.occupancy(None, [[1, 1], [0, 2], [4, 0]], [1, 1, 2])
    (axes,) = figure.axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_allclose(lines["visited"], [0.25, 0.25, 0.5])
    np.testing.assert_allclose(lines["optimal"], [0.25, 0.25, 0.5])


# ---------------------------------------------------------------- runs


def run_of(steps, values, label="entgame", tag="eval/gap"):
    curves = {tag: (np.array(steps, float), np.array(values, float))}
    return SimpleNamespace(label=label, metrics=curves, axis="env_steps")


def test_gap_curves_are_means_over_seeds_with_bands():
    steps, rows = [1, 10, 100], np.array([[5.0, 3, 1], [7, 2, 0.5], [6, 1, 0.3]])
    runs = [run_of(steps, row) for row in rows] + [run_of(steps, [9, 9, 9], "random-policy")]
    figure = plots.gap_curves(runs, ylabel="gap (nats)")
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(lines["entgame"].get_xdata(), steps)
    np.testing.assert_allclose(lines["entgame"].get_ydata(), rows.mean(0))
    np.testing.assert_allclose(lines["random-policy"].get_ydata(), 9.0)
    band = estimate(rows, "mean", np.random.default_rng(0))
    edges = axes.collections[0].get_paths()[0].vertices
    for k, step in enumerate(steps):
        at = edges[edges[:, 0] == step, 1]
        assert (at.min(), at.max()) == pytest.approx((band.low[k], band.high[k]))
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("environment steps", "gap (nats)")
    assert figure._supxlabel.get_text() == "mean, 95 % bootstrap over 1 to 3 seeds"


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("eval/gap", "gap of the returned policy (nats)"),
        ("eval/mixture_gap", "gap of the mixture played (nats)"),
        ("eval/certified_gap", "certified gap"),
    ],
)
def test_an_axis_says_whose_gap_it_shows(tag, said):
    one = run_of([1, 10], [2, 1], tag=tag)
    one.summary = {"objective": "VE"}
    assert plots.gap_curves(one, tag).axes[0].get_ylabel() == said


def test_curves_may_be_named_and_of_any_metric():
    one = run_of([0, 10, 20], [1, -2, 3], tag="eval/return")
    figure = plots.gap_curves({"a": one, "b": [one, one]}, "eval/return", statistic="iqm")
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["a", "b"]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [10, 20])  # 0 has no logarithm
    assert axes.get_yscale() == "linear"
    assert axes.get_ylabel() == "return"


def test_a_run_that_was_loaded_is_drawn(tmp_path):
    from rlentropy.cli import main

    folder = tmp_path / "run"
    arguments = ["--env-id", "FrozenLake-v1", "--horizon", "5", "--episodes", "10", "--quiet"]
    assert main(["random-policy", *arguments, "--out", str(folder)]) == 0
    run = rlentropy.load_run(folder)
    (line,) = plots.gap_curves(run).axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), run.metrics["eval/gap"][1])
    assert line.get_label() == "random-policy"


# ---------------------------------------------------------------- robustness, reliability


def test_robustness_curves_are_means_over_seeds(rng):
    x, many = np.linspace(5, 15, 5), rng.random((4, 5))
    figure = plots.robustness_curves(x, {"FQI": many, "RFZI": many[0]}, nominal=10, xlabel="force")
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(lines["FQI"].get_xdata(), x)
    np.testing.assert_allclose(lines["FQI"].get_ydata(), many.mean(0))
    np.testing.assert_array_equal(lines["RFZI"].get_ydata(), many[0])
    (nominal,) = (line for label, line in lines.items() if label.startswith("_"))
    assert list(nominal.get_xdata()) == [10, 10]
    note = figure._supxlabel.get_text()
    assert note == "mean, 95 % bootstrap over 1 to 4 seeds; dashed: nominal, 10"


def test_reliability_of_an_oracle_is_the_diagonal(rng):
    p = rng.random(100_000)
    y = (rng.random(p.size) < p).astype(float)
    figure = plots.reliability_diagram({"oracle": (p, y), "upside down": (1 - p, y)})
    _, right, wrong = figure.axes[0].lines
    x = right.get_xdata()
    use = (x > 0.1) & (x < 0.9)
    assert np.abs(right.get_ydata() - x)[use].max() < 0.03
    assert (np.diff(wrong.get_ydata()[use]) < 0).all()  # the surer, the more often wrong


def test_the_package_names_its_pictures_without_loading_matplotlib():
    import subprocess
    import sys

    script = "import sys, rlentropy; dir(rlentropy.plots); rlentropy.plots.grid_values; " \
        "sys.exit('matplotlib' in sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
