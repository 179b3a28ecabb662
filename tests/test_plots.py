"""Pictures: labels as they are, marks where they belong."""

import numpy as np
from examples.runs import ODD

from rlentropy.perturbations.grids import Grid
from rlentropy.plots import mark_nominal

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
