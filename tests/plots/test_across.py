"""Pictures of several tasks."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from rlentropy import plots


def scores(value, width=0.1, name="x"):
    row = {"algorithm": name, "tasks": 3, "runs": 9}
    for statistic in ("iqm", "mean", "optimality_gap"):
        row |= {
            statistic: value,
            f"{statistic}_low": value - width,
            f"{statistic}_high": value + width,
        }
    return row


def test_scores_have_a_panel_a_statistic_and_stay_in_range():
    rows = [scores(0.5), scores(-40.0, name="$far$"), scores(0.1, np.nan, "alone")]
    figure = plots.scores(rows)
    panels = figure.axes
    assert [axes.get_title() for axes in panels] == ["IQM", "mean", "optimality gap"]
    for axes in panels:
        assert axes.get_xlim()[0] > -2.0
        assert len(axes.lines) == 1  # the triangle of what is beyond
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert labels == ["x", r"\$far\$", "alone"]
    assert plots.png(figure).startswith(b"\x89PNG")


def test_profiles_fall_as_given():
    rows = [
        {"algorithm": name, "score": s, "share": 1 - s, "low": 0.9 - s, "high": 1.0 - s / 2}
        for name in ("b", "a")
        for s in (0.0, 0.5, 1.0)
    ]
    figure = plots.profiles(rows)
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["b", "a"]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1.0, 0.5, 0.0])
    assert plots.png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("width", [0.1, np.nan])
def test_improvement_has_a_line_a_pair(width):
    rows = [
        {"algorithm": "a", "less": str(k), "better": b, "better_low": b - width, "better_high": b}
        for k, b in enumerate((0.2, 0.5, 1.0))
    ]
    figure = plots.improvement(rows)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a > 0", "a > 1", "a > 2"]
    assert axes.get_xlim()[0] <= 0.0 < 1.0 <= axes.get_xlim()[1]
    assert plots.png(figure).startswith(b"\x89PNG")


def test_an_algorithm_looks_the_same_where_others_are_absent():
    def profile(*names):
        row = {"score": 0.0, "share": 1.0, "low": 1.0, "high": 1.0}
        rows = [row | {"algorithm": name} for name in names]
        (axes,) = plots.profiles(rows, among=["a", "b", "c"]).axes
        return {line.get_label(): line.get_color() for line in axes.lines}

    every = profile("a", "b", "c")
    assert len(set(every.values())) == 3
    assert profile("c", "b") == {"c": every["c"], "b": every["b"]}
    (axes,) = plots.final([final("c"), final("a")], "gap", False, among=["a", "b", "c"]).axes
    colours = {to_hex(bar.get_facecolor()) for bar in axes.patches}
    assert colours == {every["c"].lower(), every["a"].lower()}


def final(name):
    return {"algorithm": name, "mean": 1.0, "low": 0.9, "high": 1.2, "seeds": 3}
