"""Risk measures by name, and parameters of any kind and size."""

import numpy as np
import pytest
import scipy.sparse as sp

from rlentropy import FiniteMDP, risk
from rlentropy.planning import robust_optimum
from rlentropy.planning.nature import Nature

# ------------------------------------------------------------------------------- names and errors


@pytest.mark.parametrize(
    ("text", "measure"),
    [
        ("nominal", risk.Nominal()),
        ("worst-case", risk.WorstCase()),
        ("entropic:1.5", risk.Entropic(1.5)),
        ("cvar:0.1", risk.CVaR(0.1)),
        ("mean-cvar:0.5,0.1", risk.MeanCVaR(0.5, 0.1)),
        ("chi2-penalty:2", risk.Chi2Penalty(2.0)),
        ("l1-penalty:2", risk.L1Penalty(2.0)),
        ("burg-penalty:2", risk.BurgPenalty(2.0)),
        ("cressie-read-penalty:2,0.5", risk.CressieReadPenalty(2.0, 0.5)),
        ("contamination:0.1", risk.Contamination(0.1)),
        ("kl-ball:0.05", risk.KLBall(0.05)),
        ("burg-ball:0.05", risk.BurgBall(0.05)),
        ("chi2-ball:0.05", risk.Chi2Ball(0.05)),
        ("tv-ball:0.05", risk.TVBall(0.05)),
        ("l1-ball:0.05", risk.L1Ball(0.05)),
        ("linf-ball:0.05", risk.LinfBall(0.05)),
        ("l2-ball:0.05", risk.L2Ball(0.05)),
    ],
)
def test_parse(text, measure):
    assert risk.parse(text) == measure
    assert risk.parse(text, support="full").support in ("full", "nominal")


def test_parse_wasserstein_and_support():
    assert isinstance(risk.parse("wasserstein-ball:0.3"), risk.WassersteinBall)
    assert isinstance(risk.parse("wasserstein-penalty:0.3"), risk.WassersteinPenalty)
    assert risk.parse("tv-ball:0.1", support="full") == risk.TVBall(0.1, "full")
    assert risk.parse("contamination:0.1", support="nominal").support == "nominal"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("kl:0.1", "got 'kl'; did you mean kl-ball\\?$"),
        ("tv:0.1", "got 'tv'; did you mean tv-ball\\?$"),
        ("l1:0.1", "got 'l1'; did you mean l1-ball or l1-penalty\\?$"),
        ("kl-bal:0.1", "risk must be one of .*got 'kl-bal'; did you mean kl-ball"),
        ("kl-ball", "risk kl-ball must have 1 number after the colon, got 'kl-ball'"),
        ("kl-ball:a", "must have 1 number"),
        ("mean-cvar:0.1", "must have 2 numbers"),
        ("nominal:1", "must have 0 numbers"),
        ("kl-ball:-1", r"radius must be >= 0 and finite, got -1"),
        ("kl-ball:nan", r"radius must be >= 0"),
        ("cvar:0", r"level must be in \(0, 1\], got 0"),
        ("cvar:1.5", r"level must be in \(0, 1\], got 1.5"),
        ("mean-cvar:2,0.5", r"cvar_weight must be in \[0, 1\]"),
        ("contamination:2", r"fraction must be in \[0, 1\]"),
        ("entropic:-1", "risk_aversion must be >= 0"),
        ("chi2-penalty:0", "weight must be > 0"),
        ("cressie-read-penalty:1,inf", "order must be finite"),
    ],
)
def test_parse_refuses(text, match):
    with pytest.raises(ValueError, match=match):
        risk.parse(text)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda: risk.parse("tv-ball:1", support="half"),
            "support must be nominal, full or a list",
        ),
        (
            lambda: risk.TVBall(1, [7]).expectation([0.5, 0.5], [0, 1]),
            r"support must list states in 0\.\.1",
        ),
        (lambda: risk.TVBall(1, [0.5]).expectation([0.5, 0.5], [0, 1]), "support must be states"),
        (lambda: risk.TVBall(1, [True]).expectation([0.5, 0.5], [0, 1]), "support mask must be"),
        (lambda: risk.Nominal().expectation([0.5, 0.4], [0, 1]), "p must sum to 1"),
        (lambda: risk.Nominal().expectation([1.5, -0.5], [0, 1]), "p must be >= 0, got -0.5"),
        (lambda: risk.Nominal().expectation([np.nan, 1], [0, 1]), "p must be >= 0, got nan"),
        (lambda: risk.Nominal().expectation(1.0, [0]), "p must be"),
        (lambda: risk.Nominal().expectation([0.5, 0.5], [0, 1, 2]), r"V must be \(S,\)"),
        (lambda: risk.Nominal().expectation([0.5, 0.5], [0, np.inf]), "V must be finite, got inf"),
        (lambda: risk.Nominal().penalty([0.5, 0.5], [[0.5, 0.5]]), "q must be like p"),
        (lambda: risk.WeightedL1Ball(1, [1, 0]), "weights must be"),
        (lambda: risk.WeightedL1Ball(1, [1]).expectation([0.5, 0.5], [0, 1]), "weights must be"),
        (lambda: risk.IntervalBall([0.5], [2.0]), "upper must be"),
        (lambda: risk.IntervalBall([0.0, 0.0], [0.2, 0.2]).expectation([0.5, 0.5], [0, 1]), "room"),
        (lambda: risk.WassersteinBall(1, [[1.0]]), "metric must be"),
        (
            lambda: risk.WassersteinBall(1, [[0.0]]).expectation([0.5, 0.5], [0, 1]),
            "metric must be",
        ),
        (
            lambda: risk.WassersteinPenalty(1, [[0.0]]).expectation([0.5, 0.5], [0, 1]),
            "metric must",
        ),
        (lambda: risk.FDivergencePenalty(1, lambda t: t), "f must be 0 at 1"),
        (lambda: risk.FDivergencePenalty(1, lambda t: 1 - t**2), "f must be convex"),
        (lambda: risk.Scenarios([]), "models must hold"),
        (lambda: risk.Scenarios([[0.5, 0.5]]).expectation([1.0], [0]), "models must be"),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


# ---------------------------------------------------------------- parameters of any kind and size

ONE_NUMBER = {
    "radius": (risk.KLBall, risk.BurgBall, risk.Chi2Ball, risk.TVBall, risk.L1Ball, risk.L2Ball,
               risk.LinfBall, risk.WassersteinBall, risk.SRectangular),
    "weight": (risk.Chi2Penalty, risk.L1Penalty, risk.BurgPenalty, risk.WassersteinPenalty),
    "risk_aversion": (risk.Entropic,),
    "level": (risk.CVaR,),
    "fraction": (risk.Contamination,),
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.array([0.1, 0.2]), r"an array \(2,\)"),
        ([0.1], r"an array \(1,\)"),
        ("0.1", "'0.1'"),
        (None, "None"),
        (1j, "1j"),
        (True, "True"),
        (np.array(0.1), r"array\(0\.1\)"),
    ],
)
@pytest.mark.parametrize("name", list(ONE_NUMBER))
def test_parameters_are_one_number(name, value, got):
    for measure in ONE_NUMBER[name]:
        with pytest.raises(ValueError, match=rf"^{name} must be one number, got {got}$"):
            measure(value)


def test_numbers_of_numpy_are_numbers(rng):
    mdp = FiniteMDP(rng.dirichlet(np.ones(4), (4, 2)), rng.normal(size=(4, 2)), np.full(4, 0.25))
    V = rng.normal(size=4)
    for make in (risk.TVBall, risk.KLBall, risk.Entropic, risk.CVaR, risk.L1Penalty):
        narrow, wide = make(np.float32(0.25)), make(0.25)
        np.testing.assert_array_equal(
            Nature(mdp, narrow, 0.9).backup(V), Nature(mdp, wide, 0.9).backup(V)
        )


@pytest.mark.parametrize("size", ["1e308", "1e101", "1e-101", "5e-324"])
def test_sizes_that_cannot_be_computed_with_are_refused(size):
    for name, named in risk.NAMES.items():
        if named.parameters == 1 and not (float(size) > 1.0 and name in ("cvar", "contamination")):
            with pytest.raises(ValueError, match="must be of a size between 1e-100 and 1e"):
                risk.parse(f"{name}:{size}")


LARGE, SMALL = (1e100, 1e60, 1e20), (1e-20, 1e-60, 1e-100)
NEUTRAL_AT = {name: SMALL for name in risk.NAMES if name.endswith("-ball")}
NEUTRAL_AT |= {name: LARGE for name in risk.NAMES if name.endswith("-penalty")}
NEUTRAL_AT |= {"entropic": SMALL, "contamination": SMALL}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize("name", list(NEUTRAL_AT))
def test_extreme_parameters_are_the_nominal_model_or_the_worst(rng, name, paid):
    """Where a set shrinks to p, or a penalty grows, W = E V; at the other end, min V."""
    shape = (4, 2, 4) if paid else (4, 2)
    mdp = FiniteMDP(rng.dirichlet(np.ones(4), (4, 2)), rng.normal(size=shape), np.full(4, 0.25))
    if paid and name.startswith("s-"):
        pytest.skip("s-rectangular sets take rewards of state and action")
    nominal = robust_optimum(mdp, risk.Nominal(), 0.9).V
    worst = robust_optimum(mdp, risk.WorstCase(), 0.9).V
    for size in LARGE + SMALL:
        if name == "contamination" and size > 1.0:
            continue
        support = "nominal" if risk.NAMES[name].supported else None
        extra = ",0.5" if name.startswith("cressie") else ""
        measure = risk.parse(f"{name}:{size!r}{extra}", support)
        expected = nominal if size in NEUTRAL_AT[name] else worst
        np.testing.assert_allclose(robust_optimum(mdp, measure, 0.9).V, expected, atol=5e-8)


@pytest.mark.filterwarnings("error")
def test_entropic_of_huge_values(rng):
    p = rng.dirichlet(np.ones(4))
    V = np.array([1.0, 2.0, 1e250, 3.0])
    measure = risk.Entropic(1e100)
    assert measure.expectation(p, V) == pytest.approx(1.0)
    np.testing.assert_array_equal(measure.worst_case(p, V), [1.0, 0.0, 0.0, 0.0])


def test_tiny_chi2_balls_lose_a_standard_deviation_times_the_root(rng):
    """W = E V - sqrt(δ Var V), exactly while no mass vanishes (robust §1.5)."""
    p, V = rng.dirichlet(np.ones(5)), rng.normal(size=5)
    mean = p @ V
    deviation = np.sqrt(p @ (V - mean) ** 2)
    for radius in (1e-6, 1e-10, 1e-14, 1e-18, 1e-22, 1e-30):
        lost = mean - risk.Chi2Ball(radius).expectation(p, V)
        assert lost == pytest.approx(np.sqrt(radius) * deviation, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: risk.TVBall(0.1).expectation(np.array([0.5, 0.5j]), [0, 1]), "p must be real"),
        (lambda: risk.TVBall(0.1).expectation(["0.5", "0.5"], [0, 1]), "p must be real numbers"),
        (lambda: risk.TVBall(0.1).expectation([0.5, 0.5], ["0", "1"]), "V must be real numbers"),
        (lambda: risk.TVBall(0.1).expectation([[0.5, 0.5], [1]], [0, 1]), "p must be .* ragged"),
        (lambda: risk.TVBall(0.1, [[1], [2, 3]]).expectation([1.0], [0]), "support must be states"),
        (lambda: risk.WeightedL1Ball(1, [[1], [2, 3]]), "weights must be numbers .* ragged"),
        (lambda: risk.WassersteinBall(1, "ab"), r"metric must be numbers \(S, S\), got str"),
        (lambda: risk.IntervalBall(None, [1.0]), "lower must be numbers"),
        (lambda: risk.parse(3), "risk must be NAME or NAME:PARAMETER, got 3"),
    ],
)
def test_nonsense_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_float32_distributions_are_taken_at_their_rounding():
    p, V = np.full(3, 1 / 3, np.float32), np.array([0.0, 1.0, 2.0])
    for law in (p, sp.csr_array(p[None])):
        assert risk.Nominal().expectation(law, V) == pytest.approx(1.0, abs=1e-15)
    with pytest.raises(ValueError, match="p must sum to 1"):
        risk.Nominal().expectation(p * np.float32(1.1), V)
