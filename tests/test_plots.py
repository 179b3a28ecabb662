"""Pictures: labels as they are, marks where they belong."""

import numpy as np
import pytest
from examples.runs import ODD

from rlentropy import plots
from rlentropy.perturbations.grids import Grid
from rlentropy.plots import margins, mark_nominal, reliability
from rlentropy.preferences.calibration import reliability_curve

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


# ---------------------------------------------------------------- preferences


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, as matplotlib has them."""
    figures = []
    monkeypatch.setattr(plots, "_png", lambda figure, dpi: figures.append(figure) or b"")
    return figures


def bars(axes):
    """Heights of the two sides, by label."""
    return {c.get_label(): [bar.get_height() for bar in c] for c in axes.containers}


def test_margins_stand_on_the_side_they_are_on(drawn, rng):
    chance = np.array([0.02, 0.47, 0.5, 0.53, 0.97, 0.97, 0.97, 0.999])
    with np.errstate(divide="ignore"):
        margin = np.log(chance / (1 - chance))
    panels = [
        ("few", np.append(margin, np.nan)),
        ("none", []),
        *[("$x_1$", rng.normal(size=50))] * 3,
    ]
    margins(panels)
    axes = [a for a in drawn[0].axes if a.get_visible()]
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
    assert [t.get_text() for t in drawn[0].legends[0].get_texts()] == ["wrong", "right"]


def test_reliability_shows_frequencies_over_densities(drawn, rng):
    p = rng.random(300)
    curve = reliability_curve(p, (rng.random(300) < p).astype(float))
    reliability([("_random", curve), ("elsewhere", curve)])
    above, below = drawn[0].axes
    diagonal, first, _ = above.lines
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    np.testing.assert_array_equal(first.get_ydata(), curve.frequency)
    np.testing.assert_array_equal(below.lines[1].get_ydata(), curve.density)
    assert [t.get_text() for t in drawn[0].legends[0].get_texts()] == [" _random", "elsewhere"]


def test_both_are_pngs(rng):
    curve = reliability_curve(rng.random(20), rng.random(20))
    for picture in (margins([("random", rng.normal(size=20))]), reliability([("random", curve)])):
        assert picture.startswith(b"\x89PNG")
