"""Optima of visitation entropy: three solvers, and the table of §6.4 (spec §9: 6, 9, 17, 18)."""

import numpy as np
import pytest

from rlentropy import FiniteMDP, entropy, planning

OBJECTIVES = ["VE", "VE_S", "AVE", "AVE_S"]


def check_result(m, best, horizon, objective, oracles, tolerance) -> None:
    """The value is that of the policy, and the certificate is as small as promised."""
    np.testing.assert_allclose(best.pi.sum(2), 1.0, atol=1e-12)
    assert best.pi.shape == (horizon, *m.sizes)
    assert best.iterations >= 1
    achieved = oracles.visitation_entropy(oracles.occupancy(m, best.pi), objective)
    assert abs(best.value - achieved) <= 1e-10
    assert 0.0 <= best.certificate <= tolerance


# ---------------------------------------------------------------- three solvers


@pytest.mark.parametrize("seed", range(4))
def test_three_solvers_agree(oracles, seed) -> None:
    """Test 17: the dual, a conic program and Frank-Wolfe, each with its own bound."""
    m = oracles.random_mdp(np.random.default_rng(seed), 5, 3, start=None if seed % 2 else 0)
    best = planning.max_visitation_entropy(FiniteMDP(*m.args), 4)
    check_result(m, best, 4, "VE", oracles, 1e-8)
    conic = oracles.visitation_entropy(oracles.occupancy(m, oracles.conic(m, 4, "VE")), "VE")
    assert abs(best.value - conic) <= 1e-5
    d, gap = oracles.frank_wolfe(m, 4, iterations=400)
    walk = oracles.visitation_entropy(d, "VE")
    assert abs(best.value - walk) <= 1e-5
    assert -1e-8 <= best.value - walk <= gap + 1e-8


def test_three_solvers_agree_on_the_double_chain(oracles) -> None:
    """Test 17. Frank-Wolfe keeps the policy entropy exact here, or it would need an hour."""
    m = oracles.double_chain()
    best = planning.max_visitation_entropy(FiniteMDP(*m.args), 20)
    conic = oracles.visitation_entropy(oracles.occupancy(m, oracles.conic(m, 20, "VE")), "VE")
    assert abs(best.value - conic) <= 1e-5
    d, gap = oracles.frank_wolfe(m, 20, iterations=300, soft=True)
    walk = oracles.visitation_entropy(d, "VE")
    assert abs(best.value - walk) <= 1e-5
    assert -1e-8 <= best.value - walk <= gap + 1e-8


@pytest.mark.parametrize("objective", ["VE_S", "AVE", "AVE_S"])
@pytest.mark.parametrize("seed", range(4))
def test_the_other_objectives_agree_with_the_conic_program(oracles, seed, objective) -> None:
    rng = np.random.default_rng(seed)
    m = oracles.random_mdp(rng, 6, 2, successors=1 + seed, start=None if seed % 2 else 0)
    best = planning.max_visitation_entropy(FiniteMDP(*m.args), 5, objective)
    check_result(m, best, 5, objective, oracles, 1e-5)
    pi = oracles.conic(m, 5, objective)
    conic = oracles.visitation_entropy(oracles.occupancy(m, pi), objective)
    assert abs(best.value - conic) <= 1e-5 + 1e-6
    assert conic <= best.value + best.certificate + 1e-9


@pytest.mark.parametrize("temperature", [0.0, 0.05, 0.5, 1.0])
def test_the_regularised_family_agrees_with_the_conic_program(oracles, temperature) -> None:
    m = oracles.random_mdp(np.random.default_rng(7), 5, 3, successors=3)
    best = planning.max_visitation_entropy(FiniteMDP(*m.args), 4, "VE", temperature)

    def value(pi):
        d = oracles.occupancy(m, pi)
        return oracles.visitation_entropy(d, "VE_S") + temperature * oracles.policy_entropy(d, pi)

    conic = value(oracles.conic(m, 4, "VE", temperature))
    assert abs(best.value - value(best.pi)) <= 1e-10
    assert abs(best.value - conic) <= 2e-5
    assert conic <= best.value + best.certificate + 1e-9


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_policy_beats_value_plus_certificate(oracles, rng, objective) -> None:
    """Also with a certificate that is far from 0."""
    m = oracles.random_mdp(rng, 5, 3)
    mdp = FiniteMDP(*m.args)
    tight = planning.max_visitation_entropy(mdp, 4, objective)
    loose = planning.max_visitation_entropy(mdp, 4, objective, tolerance=0.3)
    assert loose.certificate <= 0.3
    assert tight.value <= loose.value + loose.certificate + 1e-12
    for _ in range(200):
        d = entropy.visitation(mdp, oracles.random_policy(rng, 4, 5, 3), 4)
        assert entropy.visitation_entropy(d, objective) <= tight.value + tight.certificate


def test_an_unreachable_state_changes_nothing(oracles) -> None:
    m = oracles.random_mdp(np.random.default_rng(1), 4, 2, start=0)
    P = np.zeros((5, 2, 5))
    P[:4, :, :4], P[4, :, 0] = m.P, 1.0
    larger = FiniteMDP(P, np.zeros((5, 2)), np.append(m.mu, 0.0))
    for objective in OBJECTIVES:
        one = planning.max_visitation_entropy(FiniteMDP(*m.args), 4, objective)
        two = planning.max_visitation_entropy(larger, 4, objective)
        slack = one.certificate + two.certificate + 1e-9
        assert abs(one.value - two.value) <= slack
        assert np.isfinite(two.pi).all()


# ---------------------------------------------------------------- closed forms


def test_the_tree_can_be_filled_evenly(oracles) -> None:
    """Test 6: max VE = Σ h log A, and every objective has its closed form."""
    m = oracles.tree(3, 4)
    mdp = FiniteMDP(*m.args)
    best = planning.max_visitation_entropy(mdp, 4)
    assert best.value == pytest.approx(10 * np.log(3), abs=1e-8)
    assert best.value == pytest.approx(10.986123, abs=5e-7)
    states = planning.max_visitation_entropy(mdp, 4, "VE_S")
    assert abs(states.value - 6 * np.log(3)) <= 1e-9 + states.certificate
    average = planning.max_visitation_entropy(mdp, 4, "AVE")  # levels are disjoint
    assert abs(average.value - (np.log(4) + 10 * np.log(3) / 4)) <= 1e-9 + average.certificate


def test_the_noisy_chain(oracles) -> None:
    """Test 9."""
    m = oracles.noisy_chain()
    mdp = FiniteMDP(*m.args)
    assert planning.max_visitation_entropy(mdp, 10).value == pytest.approx(25.143779, abs=1e-5)
    uniform = entropy.visitation(mdp, oracles.uniform_policy(10, 10, 3), 10)
    assert entropy.visitation_entropy(uniform) == pytest.approx(22.5019, abs=5e-5)


# ---------------------------------------------------------------- the table of §6.4

slow = pytest.mark.slow
TABLE = [  # environment, objective, optimum, tolerance: §9's, and for _S the digits printed
    ("double_chain", "VE", 53.7249578547, 1e-6),
    ("double_chain", "VE_S", 42.32244, 1.5e-5),
    ("double_chain", "AVE", 3.99353136, 1e-5),
    ("double_chain", "AVE_S", 3.426402, 1e-5),
    ("grid_world", "VE", 108.5401265520, 1e-6),
    pytest.param("grid_world", "VE_S", 84.6712, 1e-4, marks=slow),
    pytest.param("grid_world", "AVE", 7.05539, 1e-5, marks=slow),
    ("grid_world", "AVE_S", 5.867922, 1e-5),
]


@pytest.mark.parametrize(("name", "objective", "optimum", "tolerance"), TABLE)
def test_visitation_optima(oracles, name, objective, optimum, tolerance) -> None:
    """Test 18."""
    m = getattr(oracles, name)()
    best = planning.max_visitation_entropy(FiniteMDP(*m.args), 20, objective)
    check_result(m, best, 20, objective, oracles, 1e-8 if objective == "VE" else 1e-5)
    assert abs(best.value - optimum) <= tolerance
    if objective == "VE":  # the optimum is unique, so its other entropies are in the table too
        averaged, joint = {
            "double_chain": (3.760935, 18.342769),
            "grid_world": (6.747381, 29.558847),
        }[name]
        d = oracles.occupancy(m, best.pi)
        assert oracles.visitation_entropy(d, "AVE") == pytest.approx(averaged, abs=1e-4)
        te = entropy.trajectory_entropy(FiniteMDP(*m.args), best.pi, 20)
        assert te == pytest.approx(joint, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "final", "optimum"),
    [
        ("double_chain", False, 20.0395201056),
        ("double_chain", True, 20.3646030790),
        ("grid_world", False, 32.5409509257),
        ("grid_world", True, 32.7941954566),
    ],
)
def test_trajectory_optima(oracles, name, final, optimum) -> None:
    """Test 18; to the digits printed."""
    mdp = FiniteMDP(*getattr(oracles, name)().args)
    best = planning.max_trajectory_entropy(mdp, 20, final_transition=final)
    assert best.value == pytest.approx(optimum, abs=5e-10)
    achieved = entropy.trajectory_entropy(mdp, best.pi, 20, final_transition=final)
    assert achieved == pytest.approx(best.value, abs=1e-10)
