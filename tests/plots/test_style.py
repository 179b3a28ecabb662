"""The style: series that stay apart for everyone, letters that can be read, files that repeat."""

import itertools

import numpy as np
import pytest

from rlentropy.errors import InputError
from rlentropy.plots import comparisons, style

# Machado, Oliveira, Fernandes 2009: how full dichromats see linear RGB.
EYES = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
    "grey": np.tile([0.2126729, 0.7151522, 0.0721750], (3, 1)),
}  # fmt: skip
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], EYES["grey"][0], [0.0193339, 0.119192, 0.9503041]]
)
JUST_SEEN = 2.3  # CIELAB units


def lab(colour, eye):
    """What an eye sees of an sRGB colour, in CIELAB."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = TO_XYZ @ np.clip(np.array(EYES[eye]) @ linear, 0, 1) / [0.95047, 1, 1.08883]
    f = [np.cbrt(t) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_the_oracle_knows_the_primaries():
    np.testing.assert_allclose(lab("#FFFFFF", "all cones"), [100, 0, 0], atol=0.01)
    np.testing.assert_allclose(lab("#FF0000", "all cones"), [53.24, 80.09, 67.20], atol=0.02)
    assert lab("#FF0000", "grey")[0] == pytest.approx(53.24, abs=0.01)


@pytest.mark.parametrize("eye", EYES)
def test_twelve_series_stay_apart(eye):
    """Where colours are alike, both line style and marker differ."""
    looks = [style.series(k) | style.marker(k) for k in range(12)]
    for a, b in itertools.combinations(looks, 2):
        assert (a["color"], a["ls"]) != (b["color"], b["ls"])
        assert a["marker"] != b["marker"]
        apart = float(np.linalg.norm(lab(a["color"], eye) - lab(b["color"], eye)))
        if a["color"] == b["color"]:
            assert (a["ls"], a["mfc"]) != (b["ls"], b["mfc"])
            assert a["ls"] != b["ls"]
        else:
            assert apart > (10 if eye == "grey" else 24) > 4 * JUST_SEEN
    for look in looks:  # on white
        assert lab(look["color"], eye)[0] < 76


def test_no_colour_and_style_are_met_again_before_all_are_used():
    pairs = {(look["color"], look["ls"]) for look in map(style.series, range(36))}
    assert len(pairs) == 18 or len(pairs) == 36
    assert len({(look["color"], look["ls"]) for look in map(style.series, range(18))}) == 18


# ---------------------------------------------------------------- letters


class Curve:
    """A line, as `curves` takes it."""

    def __init__(self, name, steps, values, slope=-0.5):
        self.name, self.steps, self.from_step = name, steps, steps[-1] / 10
        self.band = type("Band", (), {"value": values, "low": 0.9 * values, "high": 1.1 * values})
        self.slope = type("Fit", (), {"value": slope})


STEPS = np.array([1e2, 1e3, 1e4, 1e5])


def drawn(count):
    lines = [Curve(f"algorithm-{k}", STEPS, (k + 1) / np.sqrt(STEPS)) for k in range(count)]
    return comparisons.curves(lines, "gap (nats)", "environment steps", True, "mean of 3 seeds")


@pytest.mark.parametrize("count", [1, 6, 12])
def test_letters_are_of_seven_points_at_the_width_of_a_column(count):
    from matplotlib.text import Text

    figure = drawn(count)
    style.png(figure)
    width, height = figure.get_size_inches()
    assert width == style.COLUMN
    (axes,) = figure.axes
    beyond = {
        label
        for axis in (axes.xaxis, axes.yaxis)
        for tick, label in zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
        if not axis.get_view_interval()[0] <= tick <= axis.get_view_interval()[1]  # isn't drawn
    }
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t not in beyond]
    assert len(texts) > 8
    assert min(text.get_fontsize() for text in texts) >= 7.0
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= -1
        assert box.x1 <= width * figure.dpi + 1
    (legend,) = figure.legends
    assert axes.get_window_extent().height > 0.4 * height * figure.dpi  # the picture is the most
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_the_note_says_what_bands_are():
    assert drawn(2)._supxlabel.get_text().startswith("mean of 3 seeds; dotted: fits")
    assert style.over_seeds("mean", [10, 10]) == "mean, 95 % bootstrap over 10 seeds"
    assert (
        style.over_seeds("iqm", [8, 10]) == "interquartile mean, 95 % bootstrap over 8 to 10 seeds"
    )
    assert style.over_seeds("mean", [1]) == "one seed"
    assert style.over_seeds("mean", [20], "episode").endswith("over 20 episodes")


def test_data_of_curves_are_as_they_came():
    figure = drawn(7)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    for k in range(7):
        line = lines[f"algorithm-{k}"]
        np.testing.assert_array_equal(line.get_xdata(), STEPS)
        np.testing.assert_array_equal(line.get_ydata(), (k + 1) / np.sqrt(STEPS))
        assert line.get_color() == style.series(k)["color"]
    few = [line.get_label() for line in drawn(2).axes[0].lines]
    assert "algorithm-0 (\N{MINUS SIGN}0.50)" in few


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.003, "0.003"), (1.5, "1.5"), (200_000, "200\N{THIN SPACE}000"),
        (1e6, "$10^{6}$"), (3e7, r"$3\cdot10^{7}$"), (1e-7, "$10^{-7}$"),
        (-2500, "-2\N{THIN SPACE}500"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_numbers_on_axes_are_plain(value, text):
    assert style.number(value) == text


@pytest.mark.parametrize("ends", [(1.0, 1e6), (2.0, 90.0), (1.1, 8.0), (1e-3, 0.5), (300, 500)])
def test_log_axes_have_three_ticks_or_more(ends):
    _, ((axes,),) = style.canvas()
    axes.set(yscale="log", ylim=ends)
    style.round_ticks(axes.yaxis)
    ticks = [t for t in axes.yaxis.get_majorticklocs() if ends[0] <= t <= ends[1]]
    assert 3 <= len(ticks) <= 8 or ends == (300, 500)
    assert len(ticks) >= 2


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("kind", style.FORMATS)
def test_the_same_figure_is_the_same_bytes(kind, monkeypatch):
    first = style.encode(drawn(3), kind)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert style.encode(drawn(3), kind) == first
    begins = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[kind]
    assert first.startswith(begins)
    assert b"Date" not in first


def test_the_style_is_the_same_whatever_matplotlib_is_set_to():
    import matplotlib

    plain = style.png(drawn(2))
    with matplotlib.rc_context({"font.size": 20, "axes.grid": False, "lines.linewidth": 9}):
        assert style.png(drawn(2)) == plain
        assert matplotlib.rcParams["font.size"] == 20


def test_formats_that_were_not_asked_for_go(tmp_path):
    figure = drawn(1)
    found = style.save(figure, tmp_path / "curves.v2", ("pdf", "svg", "pdf"))
    assert [path.name for path in found] == ["curves.v2.pdf", "curves.v2.svg"]
    style.save(figure, str(tmp_path / "curves.v2"))
    assert [path.name for path in tmp_path.iterdir()] == ["curves.v2.png"]


@pytest.mark.parametrize(("formats", "got"), [((), "none"), (("png", "bmp"), "png bmp")])
def test_unknown_formats_are_refused(tmp_path, formats, got):
    with pytest.raises(InputError, match=f"format must be of png, pdf, svg, got {got}"):
        style.save(drawn(1), tmp_path / "curves", formats)
