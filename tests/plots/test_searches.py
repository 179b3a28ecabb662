"""Pictures of searches: what is drawn, read from the figures."""

import numpy as np

from rlentropy import plots

TRIALS = [(0, "complete", 1.0), (1, "pruned", -3.0), (2, "complete", 0.5), (4, "complete", 2.0)]


def labelled(axes):
    return {line.get_label(): line for line in axes.lines}


def test_history():
    (axes,) = plots.history(TRIALS, "eval/return", True).axes
    lines = labelled(axes)
    np.testing.assert_array_equal(lines["complete"].get_xydata(), [[0, 1], [2, 0.5], [4, 2]])
    np.testing.assert_array_equal(lines["pruned"].get_xydata(), [[1, -3]])
    best = next(line for line in axes.lines if line.get_drawstyle() == "steps-post")
    np.testing.assert_array_equal(best.get_xydata(), [[0, 1], [2, 1], [4, 2], [4, 2]])
    (axes,) = plots.history(TRIALS, "eval/gap", False).axes
    best = next(line for line in axes.lines if line.get_drawstyle() == "steps-post")
    np.testing.assert_array_equal(best.get_ydata(), [1, 0.5, 0.5, 0.5])
    assert axes.get_ylabel() == "eval/gap"


def test_history_where_none_is_complete():
    (axes,) = plots.history([(0, "pruned", 1.0)], "eval/return", True).axes
    assert set(labelled(axes)) == {"pruned"}


def test_importance():
    (axes,) = plots.importance([("learning_rate", 0.75), ("epochs", 0.25)]).axes
    assert [bar.get_width() for bar in axes.patches] == [0.75, 0.25]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["learning rate", "epochs"]
    low, high = axes.get_ylim()
    assert low > high  # the most important on top


def test_slices():
    found = [{"a": 0.1, "b": "x"}, {"a": 1.0, "b": "y"}, {"a": 10.0, "b": "x"}]
    left, right = plots.slices(found, [1.0, 2.0, 3.0], {"a"}, "score").axes[:2]
    assert left.get_xscale() == "log"
    np.testing.assert_array_equal(left.lines[0].get_xydata(), [[0.1, 1], [1, 2], [10, 3]])
    np.testing.assert_array_equal(right.lines[0].get_xydata(), [[0, 1], [1, 2], [0, 3]])
    assert [label.get_text() for label in right.get_xticklabels()] == ["x", "y"]
