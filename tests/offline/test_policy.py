"""What networks see of a dataset, and the policies that their files hold."""

import gymnasium
import numpy as np
import pytest
import torch
from examples.offline import SMALL, Bandit, Coin, boxed, dataset, learnt

from rlentropy.data import Transitions
from rlentropy.envs.ring import RingEnv
from rlentropy.offline import fqi
from rlentropy.offline.policy import Features, load_policy, unlikely


def test_a_run_keeps_the_policies_of_all_its_seeds():
    data, options = boxed(), {"updates": 20, "support": 0.2, **SMALL}
    states = data.observations[:200]
    together = dict(learnt(fqi, data, seed=4, seeds=3, **options).network)
    for k in range(3):
        policy = load_policy(together, Coin(), k)
        alone = load_policy(dict(learnt(fqi, data, seed=4 + k, **options).network), Coin())
        for name in ("network", "behaviour"):
            output, expected = (getattr(p, name)(p.features(states)) for p in (policy, alone))
            np.testing.assert_allclose(output.detach(), expected.detach(), atol=1e-5)
    with pytest.raises(ValueError, match=r"member must be in 0..2, got 3"):
        load_policy(together, Coin(), 3)


def test_a_policy_refuses_other_spaces():
    result = learnt(fqi, boxed(), updates=1, **SMALL)
    with pytest.raises(ValueError, match="env must have observations like"):
        fqi.load_policy(dict(result.network), gymnasium.make("rlentropy/Ring-v0"))
    with pytest.raises(ValueError, match="env must have"):
        fqi.load_policy(dict(result.network), Bandit())


def test_observations_are_standardised_by_the_dataset(rng):
    """In chunks, and in single precision; a column that does not vary is only shifted."""
    o = rng.normal(5.0, 3.0, (40_000, 2))
    o[:, 1] = 250.0
    ends = np.ones(len(o), bool)
    data = Transitions.from_arrays(o, np.zeros(len(o), int), o[:, 0], o, ends, ~ends)
    features = Features.of(data, "one-hot")
    assert features.width == 2
    want = np.stack([(o[:, 0] - o[:, 0].mean()) / o[:, 0].std(), np.zeros(len(o))], axis=1)
    np.testing.assert_allclose(features(o), want, atol=1e-5)
    stored = Features(None, features.table)
    assert torch.equal(stored(o[:9]), features(o[:9]))


@pytest.mark.parametrize("embedding", ["one-hot", "fourier"])
def test_states_are_rows_of_a_table(embedding):
    features = Features.of(dataset(RingEnv().mdp, 400, seed=0), embedding)
    states = np.array([3, 0, 13])
    assert torch.equal(features(states), features.table[states])
    assert torch.equal(Features(5, features.table)(states + 5), features.table[states])


def test_unlikely_actions():
    """Less than a tenth as likely as the likeliest of their state."""
    p = torch.tensor([[0.5, 0.04, 0.46], [0.9, 0.08, 0.02]])
    assert unlikely(p.log() + 3.0, 0.1).tolist() == [[False, True, False], [False, True, True]]
