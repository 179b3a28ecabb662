"""The pictures of results/, from their tables (benchmarks/redraw.py)."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import redraw

RESULTS = Path(__file__).parents[1] / "results"


def test_tables_are_read_as_they_are_written(tmp_path):
    (tmp_path / "a.csv").write_text("# python it.py\nname,x\nentgame,'-0.5\n=2,nan\n")
    first, second = redraw.read(tmp_path / "a.csv")
    assert first == {"name": "entgame", "x": -0.5}
    assert second["name"] == "=2"
    assert math.isnan(second["x"])
    rows = [{"k": 1, "v": 2.0}, {"k": 2, "v": 5.0}, {"k": 1, "v": 4.0}]
    assert redraw.names(rows, "k") == [1, 2]
    assert redraw.column(redraw.of(rows, k=1), "v").tolist() == [2.0, 4.0]
    x, band, seeds = redraw.over_seeds(rows[:1] + rows[2:], "k", "v")
    assert (x.tolist(), float(band.value[0]), seeds) == ([1], 3.0, 2)


def test_slopes_are_of_lines_alone():
    steps = np.logspace(3, 4, 9)
    fit = {"from_step": 1000.0, "slope": -0.5}

    def rows(values):
        return [{"step": x, "value": y} for x, y in zip(steps, values, strict=True)]

    assert redraw.straight(rows(7 / np.sqrt(steps)), fit) == -0.5
    assert math.isnan(redraw.straight(rows(1 + (steps - 3000) ** 2), fit))
    assert math.isnan(redraw.straight(rows(np.ones(9)), {**fit, "slope": 0.0}))


@pytest.mark.parametrize(
    ("draw", "tables", "pictures"),
    [
        (redraw.sizes, "offline/sizes_runs.csv", ["sizes"]),
        (redraw.networks, "offline/networks.csv", ["networks"]),
        (redraw.gradient, "robust/gradient.csv", ["gradient"]),
        (redraw.robustness, "robust/robustness.csv", ["robustness-kl-ball", "robustness-noise"]),
    ],
)
def test_what_is_kept_is_what_tables_draw(tmp_path, draw, tables, pictures):
    """To the size; bytes depend on the version of matplotlib."""
    from PIL import Image

    shutil.copy(RESULTS / tables, tmp_path)
    draw(tmp_path)
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == pictures
    for name in pictures:
        kept = (RESULTS / tables).with_name(f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as new, Image.open(kept) as old:
            assert abs(new.width - old.width) <= 2
            assert abs(new.height - old.height) <= 2


def test_kept_pictures_are_small():
    large = {path.name for path in RESULTS.rglob("*.png") if path.stat().st_size > 150_000}
    assert large <= {
        "e1-curves.png",
        "e2-curves.png",
        "e3.png",
        "networks-curves.png",
    }  # of old runs
