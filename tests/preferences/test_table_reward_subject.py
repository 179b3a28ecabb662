"""Tables by way of a reward: soft plans against dense recursions, and campaigns on them."""

import gymnasium
import numpy as np
import pytest
import scipy.sparse as sp
from oracles.models import random_mdp
from scipy.special import logsumexp

from rlentropy import FiniteMDP
from rlentropy.log import Log
from rlentropy.preferences.beliefs import LaplacePosterior
from rlentropy.preferences.campaign import Campaign, Plan
from rlentropy.preferences.oracles import parse_oracle
from rlentropy.preferences.store import Store
from rlentropy.preferences.table_reward_subject import PlannedLogits, TableRewardSubject
from rlentropy.preferences.table_rewards import TableFeatures, soft_plan
from rlentropy.preferences.tables import TablePolicy, TabularTask, noisy_expert, state_features
from rlentropy.preferences.teaching import SimulatedTeacher
from rlentropy.preferences.training import Training

S, A, T = 5, 3, 6


@pytest.mark.parametrize("beta", [0.05, 1.0])
def test_a_soft_plan_is_the_recursion_stage_by_stage(beta, rng):
    P, r, entered = random_mdp(rng, S, A).P, rng.normal(size=(S, A)), rng.normal(size=S)
    reference, ended = rng.dirichlet(np.ones(A), size=S), np.arange(S) == S - 1
    V = np.zeros(S)
    for _ in range(T):
        Q = r + np.einsum("sat,t->sa", P, entered + V)
        V = np.where(ended, 0.0, beta * logsumexp(Q / beta, axis=1, b=reference))
    found = soft_plan(sp.csr_array(P.reshape(S * A, S)), ended, r, entered, reference, beta, T)
    np.testing.assert_allclose(found, Q, rtol=1e-10, atol=1e-10)


def test_a_soft_plan_is_optimal_against_its_penalty(rng):
    """With one step left: no other policy has more reward less β KL."""
    r, reference, beta = rng.normal(size=(1, A)), rng.dirichlet(np.ones(A), size=1), 0.3
    Q = soft_plan(sp.csr_array(np.ones((A, 1))), np.zeros(1, bool), r, np.zeros(1), reference,
                  beta, 1)  # fmt: skip
    pi = reference * np.exp(Q / beta)
    pi /= pi.sum()

    def value(p):
        return (p * (r - beta * np.log(p / reference))).sum()

    assert all(value(p) <= value(pi) for p in rng.dirichlet(np.ones(A), size=(500, 1)))


def task_of(slippery):
    env = gymnasium.make("FrozenLake-v1", map_name="4x4", is_slippery=slippery)
    return TabularTask.of(FiniteMDP.from_env(env), 8, (4, 4))


def campaign_of(store=None, slippery=False, rule="label-information", labels=64):
    task = task_of(slippery)
    A, phi = task.mdp.num_actions, state_features(task, "rbf")
    reference = noisy_expert(task, np.random.default_rng(1))
    policy = TablePolicy(reference, PlannedLogits(task.mdp.num_states, A))
    features = TableFeatures(phi, task.starts, reference, True)
    subject = TableRewardSubject(task, policy, features, Training(beta=0.5))
    rng = np.random.default_rng(2)
    sample = task.roll_out(reference, task.prompts(400, rng), rng)
    teach = SimulatedTeacher(parse_oracle("bradley-terry:0.3"), sample, task.optimum, 5)
    plan = Plan(labels=labels, batch_size=8, pool=4, acquisition=rule)
    return Campaign(subject, plan, teach, store or Store(None), np.random.default_rng(0))


def test_the_policy_is_planned_for_the_mean_reward_on_what_was_seen():
    campaign = campaign_of()
    subject, reference = campaign.subject, campaign.subject.original
    first = subject.policy.pi.copy()
    np.testing.assert_array_equal(first, reference)
    seen = []
    roll_out = subject.roll_out
    subject.roll_out = lambda x, rng: seen.append(roll_out(x, rng)) or seen[-1]
    for _ in range(3):
        campaign.advance(1)
    S, A = first.shape
    counts = np.zeros((S * A, S))
    for pairs in seen:
        for part in (pairs.a, pairs.b):
            for i, length in enumerate(part.lengths):
                for t in range(length):
                    row = part.states[i, t] * A + part.actions[i, t]
                    counts[row, part.states[i, t + 1]] += 1
    np.testing.assert_allclose(
        subject.seen.kernel().toarray(),
        np.where(
            counts.sum(1, keepdims=True) > 0,
            counts / np.maximum(counts.sum(1, keepdims=True), 1),
            np.repeat(np.eye(S), A, axis=0),
        ),
    )
    pairs, y = campaign.labelled.pairs, campaign.labelled.y
    x = subject.features(pairs)
    variance = np.zeros(x.shape[1])
    square = (x[:8, : subject.psi.size - 1] ** 2).mean(0).sum()  # of the first round
    variance[: subject.psi.size - 1] = 9.0 / square
    model = LaplacePosterior(x.shape[1], variance)
    for k in range(0, 24, 8):
        model.update(x[k : k + 8], y[k : k + 8])
    np.testing.assert_allclose(subject.margins(pairs), x @ model.mean(), atol=1e-8)
    r, entered = subject.psi.rewards(model.mean()[None])
    Q = soft_plan(subject.seen.kernel(), subject.seen.ended, r[:, :, 0], entered[:, 0], reference,
                  0.5, 8)  # fmt: skip
    pi = reference * np.exp((Q - Q.max(1, keepdims=True)) / 0.5)
    np.testing.assert_allclose(subject.policy.pi, pi / pi.sum(1, keepdims=True), atol=1e-8)


def test_before_any_label_all_margins_are_0(rng):
    subject = campaign_of().subject
    pairs = subject.roll_out(subject.prompts(10, rng), rng)
    assert not subject.margins(pairs).any()


@pytest.mark.parametrize(("slippery", "gain"), [(False, 0.2), (True, 0.03)])
def test_labels_make_it_better(slippery, gain):
    """Less so where answers are about returns, which luck decides."""
    campaign = campaign_of(slippery=slippery, labels=160)
    while campaign.labels < 160:
        campaign.advance(1)
    curve = [point["normalised_return"] for point in campaign.curve]
    assert curve[0] == 0.0
    assert np.mean(curve[-5:]) > gain


@pytest.mark.parametrize("rule", ["label-information", "push-value"])
def test_a_campaign_goes_on_to_the_same_bits(rule, tmp_path):
    store = Store(None)
    whole, one = campaign_of(rule=rule, slippery=True), campaign_of(store, True, rule)
    while whole.labels < 64:
        whole.advance(1)
        one.advance(1)
        log = Log(tmp_path)
        log.checkpoint(one.state_dict())
        log.close()
        state = Log(tmp_path).restore()
        one = campaign_of(store, True, rule)
        one.load_state_dict(state)
    np.testing.assert_array_equal(one.subject.policy.pi, whole.subject.policy.pi)
    assert one.curve == whole.curve
    np.testing.assert_array_equal(one.margins, whole.margins)


def test_planned_logits_take_no_gradient():
    logits = PlannedLogits(2, 2)
    with pytest.raises(NotImplementedError, match="planned logits take no gradient steps"):
        logits.descend(np.zeros((2, 2)))
    logits.values = np.ones((2, 2))
    logits.reset()
    assert not logits.table().any()
