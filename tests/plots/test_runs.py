"""Pictures: labels as they are, marks where they belong."""

import io

import numpy as np
import pytest
from examples.runs import ODD
from PIL import Image

from rlentropy import plots
from rlentropy.perturbations.grids import Grid
from rlentropy.plots import margins, mark_nominal, png, reliability, runs
from rlentropy.preferences.calibration import reliability_curve
from rlentropy.types import Film

# ---------------------------------------------------------------- odd labels and summaries


def test_pictures_show_labels_as_they_are():
    from matplotlib.figure import Figure

    from rlentropy.plots import shown

    axes = Figure().subplots()
    for label in ODD:
        axes.plot([0, 1], label=shown(label))
    axes.figure.legend()
    axes.figure.canvas.draw()
    _, drawn = axes.get_legend_handles_labels()
    assert len(drawn) == len(ODD)
    assert len(shown("z" * 9000)) <= 60
    for text in axes.figure.legends[0].get_texts():
        seen, is_formula = text._preprocess_math(text.get_text())
        assert not is_formula
        assert "\\$" not in seen


# ---------------------------------------------------------------- several runs


def axis_of(grid):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    mark_nominal(axes, grid)
    return grid.axis, [float(line.get_xdata()[0]) for line in axes.lines]


def test_axes_name_and_mark_the_nominal_value():
    values = np.array([5.0, 10.0, 15.0])
    newtons = Grid("force_mag", values, nominal=10.0, unit="N")
    assert axis_of(newtons) == ("force_mag, N (nominal 10)", [10.0])
    beyond = Grid("p", values, nominal=0.5)
    assert axis_of(beyond) == ("p (nominal 0.5)", [])
    times = Grid("engine_power", values / 10, True, 1.0, "times nominal")
    assert axis_of(times) == ("engine_power, times nominal", [1.0])
    assert str(times) == "engine_power 0.5 to 1.5 times nominal"
    assert axis_of(Grid("kl-ball", values)) == ("kl-ball", [])


# ---------------------------------------------------------------- visits of features

PLANE = (("x", -1.0, 2.0, 3), ("$y$", 0.0, 1.0, 2))
FIRST, LAST = np.array([0, 0, 3, 0, 0, 1]), np.array([9, 0, 3, 2, 0, 100])  # x by x


def test_visits_stand_where_their_cells_are(shots):
    plots.densities(Film(PLANE, ((12_345, FIRST), (500_000, LAST))))
    for (figure, title, shown), counts, step in zip(
        shots, (FIRST, LAST), ("12 345", "500 000"), strict=True
    ):
        axes, colours = figure.axes
        assert title.replace("\N{THIN SPACE}", " ").startswith(f"{step} environment steps")
        assert title.endswith(f"{np.count_nonzero(counts)} of 6 cells visited")
        for x in range(3):
            for y in range(2):  # a row of the picture is one y, the lowest at the bottom
                assert shown.mask[y, x] == (counts[2 * x + y] == 0)
                assert shown.data[y, x] == counts[2 * x + y]
        (image,) = axes.images
        assert image.origin == "lower"
        assert image.get_extent() == [-1.0, 2.0, 0.0, 1.0]
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", r"\$y\$")
        assert (image.norm.vmin, image.norm.vmax) == (1.0, 100.0)  # of the whole film
        assert image.cmap.name == "viridis"
        grey = image.cmap.get_bad()
        assert grey[0] == grey[1] == grey[2] > 0.7
        assert "visits" in colours.get_ylabel()


def test_of_many_features_the_first_two_are_drawn(shots, rng):
    axes = (*PLANE, ("z", 0.0, 1.0, 4), ("w", 0.0, 1.0, 5))
    counts = rng.integers(0, 3, size=(3, 2, 4, 5))
    plots.density(counts.ravel(), axes, 7)
    ((_, title, shown),) = shots
    np.testing.assert_array_equal(shown, counts.sum((2, 3)).T)
    assert title == "7 environment steps\n6 of 6 cells of both visited"


def test_of_one_feature_bars_are_drawn(shots):
    axes = (("speed", -0.5, 3.5, 4),)
    plots.densities(Film(axes, ((1, np.zeros(4)), (9, np.array([0, 5, 1000, 0])))))
    figure, title, heights = shots[1]
    assert heights.tolist() == [0, 5, 1000, 0]
    assert title.endswith("2 of 4 cells visited")
    (drawn,) = figure.axes
    np.testing.assert_array_equal(drawn.patches[0].get_data().edges, [-0.5, 0.5, 1.5, 2.5, 3.5])
    assert drawn.get_ylim()[1] >= 1000
    assert drawn.get_xlabel() == "speed"


@pytest.mark.parametrize("counts", [np.zeros(6), np.full(6, 4), FIRST])
def test_visits_of_any_kind_are_drawn(counts):
    assert plots.density(counts, PLANE, 0).startswith(b"\x89PNG")


def test_a_film_shows_its_pictures_one_by_one():
    pictures = plots.densities(Film(PLANE, ((10, FIRST), (20, LAST), (30, 2 * LAST))))
    film = plots.animation(pictures, 300)
    with Image.open(io.BytesIO(film)) as gif:
        assert (gif.format, gif.n_frames, gif.info["loop"]) == ("GIF", 3, 0)
        times = []
        for k, picture in enumerate(pictures):
            gif.seek(k)
            times.append(gif.info["duration"])
            wanted = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), int)
            off = np.abs(np.asarray(gif.convert("RGB"), int) - wanted)
            assert off.mean() < 6.0  # of 255: 256 colours are not all
    assert times == [300, 300, 1500]


# ---------------------------------------------------------------- preferences


@pytest.fixture
def shots(monkeypatch):
    """What the axes showed at each picture: title, array of the map or heights of the bars."""
    seen = []

    def take(figure, pixels):
        axes = figure.axes[0]
        shown = axes.images[0].get_array() if axes.images else axes.patches[0].get_data().values
        seen.append((figure, axes.get_title(), shown.copy()))
        return b""

    monkeypatch.setattr(runs, "encoded", take)
    return seen


def bars(axes):
    """Heights of the two sides, by label."""
    return {c.get_label(): [bar.get_height() for bar in c] for c in axes.containers}


def test_margins_stand_on_the_side_they_are_on(rng):
    chance = np.array([0.02, 0.47, 0.5, 0.53, 0.97, 0.97, 0.97, 0.999])
    with np.errstate(divide="ignore"):
        margin = np.log(chance / (1 - chance))
    panels = [
        ("few", np.append(margin, np.nan)),
        ("none", []),
        *[("$x_1$", rng.normal(size=50))] * 3,
    ]
    figure = margins(panels)
    axes = [a for a in figure.axes if a.get_visible()]
    assert len(axes) == 5
    found = bars(axes[0])
    assert np.flatnonzero(found["wrong"]).tolist() == [0, 9]
    assert np.flatnonzero(found["right"]).tolist() == [0, 9]
    assert found["right"][9] == 0.5
    assert sum(found["wrong"]) + sum(found["right"]) == pytest.approx(1.0)
    assert axes[0].get_title() == "few\n69% right of 8"
    assert found["wrong"][9] == found["right"][0] == 1.5 / 8  # half of what is undecided
    assert sum(map(sum, bars(axes[1]).values())) == 0.0
    assert axes[1].get_title() == "none\nno answers"
    wrong, right = axes[0].containers
    assert wrong[0].get_facecolor() != right[0].get_facecolor()
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["wrong", "right"]


def test_reliability_shows_frequencies_over_densities(rng):
    p = rng.random(300)
    curve = reliability_curve(p, (rng.random(300) < p).astype(float))
    figure = reliability([("_random", curve), ("elsewhere", curve)])
    above, below = figure.axes
    diagonal, first, _ = above.lines
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    np.testing.assert_array_equal(first.get_ydata(), curve.frequency)
    np.testing.assert_array_equal(below.lines[1].get_ydata(), curve.density)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [" _random", "elsewhere"]


def test_both_are_pngs(rng):
    curve = reliability_curve(rng.random(20), rng.random(20))
    for picture in (margins([("random", rng.normal(size=20))]), reliability([("random", curve)])):
        assert png(picture).startswith(b"\x89PNG")


# ---------------------------------------------------------------- visits of states


def test_states_on_a_grid_stand_as_they_lie(shots):
    counts = np.array([0, 3, 0, 1, 100, 0])
    plots.densities(Film((), ((20, counts),), (2, 3)), "entgame on $x$")
    ((figure, title, shown),) = shots
    (image,) = figure.axes[0].images
    assert image.origin == "upper"
    np.testing.assert_array_equal(shown.filled(0), counts.reshape(2, 3))
    np.testing.assert_array_equal(shown.mask, counts.reshape(2, 3) == 0)
    assert title == "entgame on \\$x\\$\n20 environment steps\n3 of 6 states visited"
    assert "visits" in figure.axes[1].get_ylabel()


def test_states_without_a_grid_are_bars(shots):
    counts = np.array([0, 3, 0, 1, 100, 0])
    assert plots.visits(counts, None) == b""
    ((figure, title, heights),) = shots
    assert heights.tolist() == counts.tolist()
    assert (figure.axes[0].get_xlabel(), title) == ("state", "3 of 6 states visited")


def test_frames_show_their_own_counts_and_titles():
    """Pixels: what is drawn again on a kept background is what a fresh figure shows."""
    frames = ((10, np.array([5, 0, 0, 0, 0, 1])), (2000, np.array([9, 1, 0, 0, 8, 1])))
    film = plots.densities(Film((), frames, (2, 3)), "a run")
    alone = plots.densities(Film((), frames[1:], (2, 3)), "a run")[0]
    second, fresh = (
        np.asarray(Image.open(io.BytesIO(p)).convert("RGB"), int) for p in (film[1], alone)
    )
    assert np.abs(second - fresh).mean() < 1.0
    first = np.asarray(Image.open(io.BytesIO(film[0])).convert("RGB"), int)
    assert np.abs(second - first).mean() > 2.0
