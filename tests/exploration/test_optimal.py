"""The exact optimum as a command; its values are tested in `planning/test_entropies.py`."""

import gymnasium
import numpy as np
import pytest

import rlentropy  # noqa: F401  (registers the environments)
from rlentropy.exploration import entgame, optimal, scoring
from rlentropy.log import Log


def solved(**options):
    env = gymnasium.make("rlentropy/DoubleChain-v0")
    config = optimal.Config(horizon=8, **options)
    return optimal.run(env, config, np.random.default_rng(0), Log(None)).summary


@pytest.mark.parametrize("objective", ["VE", "AVE"])
def test_passes_bound_the_search_and_the_certificate_says_what_that_costs(objective) -> None:
    short, full = solved(objective=objective, max_passes=3), solved(objective=objective)
    assert short["iterations"] < full["iterations"]
    assert full["certificate"] < 1e-5 < short["certificate"]
    assert short["value"] <= full["value"] + full["certificate"]
    assert short["value"] + short["certificate"] >= full["value"]


def test_passes_are_whole_numbers() -> None:
    with pytest.raises(ValueError, match="max_passes must be >= 1, got 0"):
        optimal.Config(max_passes=0)


def test_learners_search_for_their_optimum_within_bounds(monkeypatch) -> None:
    """Where the search is too short, the certificate says what the optimum may lack."""
    env = gymnasium.make("rlentropy/DoubleChain-v0")

    def learnt():
        config = entgame.Config(horizon=8, episodes=5)
        return entgame.run(env, config, np.random.default_rng(0), Log(None)).summary

    full = learnt()
    monkeypatch.setattr(scoring, "WORK", 1)
    short = learnt()
    assert full["certificate"] < 1e-8 < short["certificate"]
    assert short["value"] == full["value"]
    assert short["optimum"] <= full["optimum"] + 1e-8
    assert short["optimum"] + short["certificate"] >= full["optimum"]
