"""What campaigns report of themselves, against what the campaign holds."""

import gymnasium
import numpy as np
import pytest
from oracles import episodic

from rlentropy.log import Log
from rlentropy.preferences import active_preference, campaign
from rlentropy.preferences.calibration import smooth_ece

LABELS, BATCH = 24, 8


class Kept(Log):
    """A log in memory."""

    def __init__(self):
        super().__init__(None, eval_every=BATCH)
        self.curves = {}

    def scalars(self, values, step):
        for tag, value in values.items():
            self.curves.setdefault(tag, []).append((step, float(value)))


@pytest.fixture
def campaigns(monkeypatch):
    """Every campaign that is made, with the pools it chose from."""
    made, select = [], campaign.select

    class Watched(campaign.Campaign):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            self.pools = []
            made.append(self)

    def watched(rule, pool, n, *rest, **named):
        chosen = select(rule, pool, n, *rest, **named)
        made[-1].pools.append((pool, chosen))
        return chosen

    monkeypatch.setattr(campaign, "select", watched)
    monkeypatch.setattr(active_preference, "Campaign", Watched)
    return made


def play(env_id, config, **kwargs):
    log = Kept()
    env = gymnasium.make(env_id, **kwargs)
    result = active_preference.run(env, config, np.random.default_rng(5), log)
    return log, result


def test_figures_are_what_they_are_called(campaigns):
    config = active_preference.Config(
        labels=LABELS, batch_size=BATCH, pool=4, acquisition="push-value", segment_length=6
    )
    log, result = play("FrozenLake-v1", config, is_slippery=False)
    (made,) = campaigns
    for k, (pool, chosen) in enumerate(made.pools):
        last = {tag: dict(points).get(BATCH * (k + 1)) for tag, points in log.curves.items()}
        assert last["train/duplicates"] == pool.duplicates.sum()
        assert last["train/pool_score"] == pytest.approx(chosen.scores.mean())
        assert last["train/degenerate"] == float(np.ptp(chosen.scores[~pool.duplicates]) <= 1e-12)
        square = pool.weights @ pool.values**2
        assert last["train/value_scale"] == pytest.approx(max(1.0, np.sqrt(square.mean())))
        x = pool.features[chosen.indices]
        x = x[x.any(1)]
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        eigenvalues = np.linalg.eigvalsh((x @ x.T) ** 2 / len(x))
        eigenvalues = eigenvalues[eigenvalues > 1e-12]
        vendi = np.exp(episodic.shannon(eigenvalues))
        assert last["train/vendi_score"] == pytest.approx(vendi, rel=1e-6)
    losses = dict(log.curves["train/loss"])
    assert losses[BATCH] == pytest.approx(np.log(2.0))  # the policy is still its reference
    assert all(last < losses[step] for step, last in log.curves["train/final_loss"])
    first = dict(log.curves["train/belief_agreement"])[BATCH]
    assert first in (0.5, pytest.approx(0.5))  # nothing is known yet
    y = made.labelled.y
    assert result.summary["labels"] == len(y) == LABELS
    assert dict(log.curves["eval/win_rate"])[0] == 0.5  # equal policies tie


def test_held_out_pairs_are_judged_by_their_margins(campaigns, monkeypatch):
    kept = []

    class Reporter(active_preference.Reporter):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            kept.append(self)

    monkeypatch.setattr(active_preference, "Reporter", Reporter)
    config = active_preference.Config(labels=LABELS, batch_size=BATCH, oracle="bradley-terry:0.5")
    log, _ = play("FrozenLake-v1", config, is_slippery=False)
    (reporter,) = kept
    margins = reporter.subject.margins(reporter.held_out)
    y = reporter.y
    p = 1.0 / (1.0 + np.exp(-margins))
    assert log.curves["eval/calibration_error"][-1][1] == pytest.approx(smooth_ece(p, y))
    right = np.where(margins == 0.0, 0.5, (margins > 0.0) == (y > 0.5))
    assert log.curves["eval/accuracy"][-1][1] == pytest.approx(right[y != 0.5].mean())


def test_lengths_and_wins_of_networks_are_of_the_same_starts(campaigns):
    config = active_preference.Config(
        labels=4, batch_size=4, segment_length=7, hidden=(4,), evaluation_segments=8,
        final_episodes=2, acquisition="random",
    )  # fmt: skip
    log, result = play("CartPole-v1", config)
    assert log.curves["eval/length"][-1][1] == 7.0  # a pole stands for longer
    assert log.curves["eval/win_rate"][0][1] == 0.5
    assert result.summary["reference_return"] == log.curves["eval/return"][0][1] == 7.0
    assert result.summary["episode_return"] >= 8.0
