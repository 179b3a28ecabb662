import numpy as np
import pytest

from rlentropy.envs.picture import (
    AGENT,
    GAIN,
    HEADER,
    LOSS,
    background,
    circle,
    fan,
    frame,
    lattice,
)

LAYOUTS = [lattice(6, 6), lattice(10, 4), lattice(1, 1), circle(3), circle(14), fan(1), fan(6)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cells_lie_inside_and_apart(layout) -> None:
    x, radius = layout.centres, layout.radius
    assert (x - radius >= 0).all()
    assert (x + radius <= layout.size).all()
    apart = np.abs(x[:, None] - x[None])
    apart = np.hypot(*np.moveaxis(apart, 2, 0)) if layout.round else apart.max(axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (apart >= 2 * radius - 1e-9).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_agent_is_where_its_state_is(layout) -> None:
    S = len(layout.centres)
    empty = background(layout, np.zeros(S), np.array([0]))
    for s in range(S):
        picture = frame(layout, empty, None, s, "")
        x, y = np.argwhere((picture == AGENT).all(axis=2)).mean(axis=0)[::-1]
        # Half a pixel of rounding, and the number on the disc, shift the mean of its pixels.
        np.testing.assert_allclose([x, y - HEADER], layout.centres[s], atol=2.0)


def test_colours_are_signed_rewards() -> None:
    layout = lattice(3, 3)
    picture = np.array(background(layout, np.array([-2.0, 0.0, 2.0]), np.array([], int)))
    (left, middle, right), y = layout.centres[:, 0].astype(int) - 20, HEADER + 20
    assert tuple(picture[y, left]) == LOSS
    assert len(set(picture[y, middle])) == 1
    assert tuple(picture[y, right]) == GAIN


def test_large_models_fit_the_screen() -> None:
    for layout in (lattice(90_000, 300), lattice(100_000, 317), lattice(1000, 32), circle(1000)):
        width, height = layout.size
        assert width <= 640
        assert height <= 600
        assert layout.radius > 0
        assert not layout.numbered
