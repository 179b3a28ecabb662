"""Grids of values of one parameter."""

from rlentropy.perturbations.grids import Grid

# ---------------------------------------------------------------- several runs


def test_grids_have_round_values_and_both_ends():
    grid = Grid.parse("force_mag=-0.8:4:0.1")
    assert (grid.name, grid.values.size) == ("force_mag", 49)
    assert grid.values.tolist() == [round(-0.8 + 0.1 * k, 1) + 0.0 for k in range(49)]
    assert Grid.parse("x=0:1:0.3").values.tolist() == [0.0, 0.3, 0.6, 0.9]
    assert Grid.parse("x=2:2:1").values.tolist() == [2.0]
    assert Grid.parse("kl-ball=0:0.3:0.05").values.tolist() == [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    assert Grid.parse("x=0:1:0.001001001").values.size == 1000
    assert Grid.parse("x=1e-9:3e-9:1e-9").values.tolist() == [1e-9, 2e-9, 3e-9]
    assert Grid.parse("x=-1e9:1e9:1e9").values.tolist() == [-1e9, 0.0, 1e9]
    relative = Grid.parse("x=x0.5:1.5:0.5")
    assert (relative.values.tolist(), relative.relative) == ([0.5, 1.0, 1.5], True)
