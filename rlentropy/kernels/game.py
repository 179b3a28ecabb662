"""Optimistic exploration: plan, play, count."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlentropy.kernels.cache import compiled, inlined
from rlentropy.kernels.counting import Counts, record, row_entropy
from rlentropy.kernels.rows import (
    Rows,
    Task,
    _decide,
    _expect,
    _reduce,
    _row_stride,
    add_occupancy_of_plan,
    backward,
    decide,
    decisions,
)
from rlentropy.kernels.sampling import World, _search, draw_action, draw_state
from rlentropy.types import Array, Count

# What a game is rewarded for, and the optimism that it adds: indices into these.
REWARDS = ("forecaster", "nothing", "transition-entropy", "given")


BONUSES = (
    "none", "inverse-n", "code", "hoeffding-kl", "bernstein-kl",  # EntGame, spec §2.3
    "rf-ucrl", "rf-express",  # reward-free exploration, §5.3
    "entropy-code", "linear-gap", "quadratic-gap",  # UCBVI-Ent, §3.1, §3.2, §3.3
    "unit",  # UCBVI for one reward of 1 an episode, as RF-Explore-Ent needs it, §4.1
)  # fmt: skip


class Game(NamedTuple):
    """What an optimistic explorer knows, updated in place after each episode."""

    visits: Count  # (H, S, A) per stage
    forecast: Array  # visits as the forecaster counts them, shaped like task.reward
    task: Task
    model: Counts
    width: Array  # (H, S, A) how far Q may lie above Q*, for the quadratic gap; else (0, 0, 0)
    gap: Array  # (S,) certified gap of the plan from each start state
    reward: int  # index into REWARDS
    bonus: int  # index into BONUSES
    prior: float  # n_0 of the forecaster
    bonus_scale: float
    delta: float
    clip: bool
    final_transition: bool  # count the entropy of the last transition: TE+
    frozen: bool  # the model no longer learns
    tolerance: float  # stop once the certified gap is this small; 0: never


@compiled
def begin_episode(game: Game, episode: int) -> None:
    """Set what depends on the number of episodes played so far (spec §2.2, §2.3, §3.1, §5.3)."""
    task = game.task
    H, S, A = game.visits.shape
    c = game.bonus_scale
    if game.reward == 0:
        # The forecast is (n + n_0) / (n_total + n_0 cells), so that log 1/forecast <= L.
        cells = task.reward.shape[1] * task.reward.shape[2]
        total = episode if task.reward.shape[0] == H else episode * H
        L = np.log(total / game.prior + cells)
        for h in range(H):
            task.offset[h] = np.log(total + game.prior * cells)
            if game.bonus == 1 or game.bonus == 2:
                task.width_scale[h] = c * L * (H - h)
            elif game.bonus == 3:
                task.width_scale[h] = c * L * (H - h - 1)
            elif game.bonus == 4:
                task.width_scale[h] = c * (2.0 * np.sqrt(2.0) + 2.0 / 3.0) * L * (H - h - 1)
            if game.clip:
                task.cap[h] = (H - h) * L
    elif game.reward == 1:
        for h in range(H):
            task.width_scale[h] = c * (H - h) if game.bonus == 5 else c * 15.0 * H * H
            if game.bonus == 6:
                task.cap[h] = H
            elif game.clip:
                task.cap[h] = 2.0 * (H - h)
    elif game.reward == 3:
        paid = 0.0  # once the reward has been paid, or missed, the rest is known to be worth 0
        for h in range(H):
            paid += task.reward[h].sum()
            task.width_scale[h] = c if paid == 0.0 else 0.0
            task.cap[h] = 1.0
    else:
        for h in range(H):
            counted = h < H - 1 or game.final_transition
            task.reward_scale[h] = 1.0 if counted else 0.0
            task.width_scale[h] = c * (H - h) * np.log(S * A)
            task.cap[h] = (H - h) * np.log(S * A)


@compiled
def kl_radius(N: int, S: int, log_confidence: float) -> float:
    """β with KL(p̂ ‖ p) <= β / max(N, 1) for all visit counts at once (spec §2.3)."""
    if S == 1:
        return log_confidence
    return float(log_confidence + (S - 1) * np.log(np.e * (1.0 + N / (S - 1))))


@compiled
def set_width(game: Game, i: int) -> None:
    """The part of row i's bonus that depends on its visits alone (spec §2.3, §3.1, §5.3)."""
    H, S, A = game.visits.shape
    N = game.model.N[i]
    n = max(N, 1)
    pairs = S * A * H / game.delta
    width = game.task.width
    if game.bonus == 1:
        width[i] = 1.0 / n
    elif game.bonus == 2:
        width[i] = np.sqrt(kl_radius(N, S, np.log(4.0 * pairs)) / n)
    elif game.bonus == 3:
        width[i] = np.sqrt(kl_radius(N, S, np.log(2.0 * pairs)) / (2.0 * n))
    elif game.bonus == 4:
        width[i] = kl_radius(N, S, np.log(2.0 * pairs)) / n
        game.task.variance_width[i] = 4.0 * game.bonus_scale**2 * width[i]
    elif game.bonus == 5:
        width[i] = np.sqrt(kl_radius(N, S, np.log(2.0 * pairs)) / n)
    elif game.bonus == 6:
        width[i] = (np.log(3.0 * pairs) + S * np.log(8.0 * np.e * (N + 1.0))) / n
    elif game.bonus == 7:
        width[i] = np.sqrt((np.log(4.0 * pairs) + np.log(4.0 * np.e * n * (2.0 * N + 1.0))) / n)
    elif game.bonus == 10:
        width[i] = np.sqrt(np.log(2.0 * pairs * n) / (2.0 * n))
    else:
        width[i] = kl_radius(N, S, np.log(2.0 * pairs)) / n


@compiled
def set_entropy(game: Game, i: int) -> None:
    """The entropy of row i as a reward, with the bonus that the authors' code adds (spec §3.1)."""
    H, S, A = game.visits.shape
    entropy = row_entropy(game.model, i, S)
    if game.bonus == 7:
        N = game.model.N[i]
        n = max(N, 1)
        beta = np.log(4.0 * S * A * H / game.delta)
        beta += np.log(n) ** 2 * np.log(2.0 * n * (N + 1.0))
        entropy += game.bonus_scale * (np.sqrt(beta / n) + (kl_radius(N, S, 0.0) + 1.0) / n)
    game.task.reward.reshape(-1)[i] = entropy


@compiled
def refresh(game: Game) -> None:
    """Derive rewards and widths from the counts, with the very operations that update them.

    A resumed run must go on with the same bits, and numpy's log differs in the last one.
    """
    Hq, S, Aq = game.forecast.shape
    H, _, A = game.visits.shape
    if game.reward == 0:
        game.forecast[:] = 0.0
        for h in range(H):
            for s in range(S):
                for a in range(A):
                    k, b = h if Hq > 1 else 0, a if Aq > 1 else 0
                    game.forecast[k, s, b] += game.visits[h, s, a]
        for k in range(Hq):
            for s in range(S):
                for b in range(Aq):
                    game.task.reward[k, s, b] = -np.log(game.forecast[k, s, b] + game.prior)
    for i in range(game.model.N.size):
        _derive(game, i)


@inlined
def _derive(game: Game, i: int) -> None:
    if game.task.width.size > 0:
        set_width(game, i)
    if game.reward == 2:
        set_entropy(game, i)


@inlined
def _observe(game: Game, i: int, successor: int) -> None:
    record(game.model, i, successor, game.visits.shape[1])
    _derive(game, i)


@compiled
def learn(game: Game, states: Count, actions: Count, terminated_at: int) -> None:
    """Count an episode: states (H + 1,), actions (H,).

    `terminated_at` is the stage from which the episode rested in an absorbing state, or -1. That
    flag says the state is absorbing whatever the action: each is counted there once.
    """
    H, S, A = game.visits.shape
    stride = _row_stride(game.model.N.size, S, A)
    forecast, reward = game.forecast, game.task.reward
    if terminated_at >= 0 and not game.frozen:
        s = states[terminated_at]
        for h in range(H if stride > 0 else 1):
            for a in range(A):
                if game.model.N[h * stride + s * A + a] == 0:
                    _observe(game, h * stride + s * A + a, s)
    for h in range(H):
        s, a = states[h], actions[h]
        game.visits[h, s, a] += 1
        if game.reward == 0:
            k = h if forecast.shape[0] > 1 else 0
            b = a if forecast.shape[2] > 1 else 0
            forecast[k, s, b] += 1.0
            reward[k, s, b] = -np.log(forecast[k, s, b] + game.prior)
        if not game.frozen:
            _observe(game, h * stride + s * A + a, states[h + 1])


@compiled
def plan_episode(game: Game, episode: int, V: Array, Q: Array) -> None:
    """Plan V (H + 1, S) and Q (H, S, A) for the episode after `episode` played ones."""
    begin_episode(game, episode)
    m = game.model
    rows = Rows(m.begin, m.end, m.successor, m.p, m.uniform)
    if game.bonus == 8 or game.bonus == 9:
        confident_plan(game, rows, V, Q)
    else:
        backward(rows, game.task, V, Q)
        for s in range(game.gap.size):
            if game.bonus == 5:
                game.gap[s] = 2.0 * V[0, s]
            elif game.bonus == 6:
                game.gap[s] = 2.0 * (3.0 * np.e * np.sqrt(V[0, s]) + V[0, s])


@compiled
def confident_plan(game: Game, rows: Rows, V: Array, Q: Array) -> None:
    """Upper and lower soft values on the event KL(p̂ ‖ p) <= κ, and a certified gap (§3.2, §3.3).

    V (H + 1, S) and Q (H, S, A) are the upper values, whose softmax is played. ``game.gap`` becomes
    the bound on V* - V^π: linear in the widths, or quadratic for bonus "quadratic-gap".
    """
    H, S, A = Q.shape
    stride = _row_stride(rows.begin.size, S, A)
    log_SA, log_S, c = np.log(S * A), np.log(S), game.bonus_scale
    quadratic = game.bonus == 9
    kappa, widths, R = game.task.width, game.width, game.task.width.size
    entropy_widths, transition_widths = np.empty(R), np.empty(R)
    for i in range(R):
        entropy_widths[i] = c * entropy_width(kappa[i], S)
        transition_widths[i] = c * np.sqrt(kappa[i] / 2.0)
    lower, gap, ones = np.zeros(S), np.zeros(S), np.ones(S)
    below, after, pi = np.empty((S, A)), np.empty((S, A)), np.empty((S, A))
    scratch = np.empty((S, A + 1))
    for h in range(H - 1, -1, -1):
        k = h * stride
        begin, end, uniform = rows.begin[k:], rows.end[k:], rows.uniform[k:]
        entropy = game.task.reward[0 if game.task.reward.shape[0] == 1 else h]
        for values, expected in ((V[h + 1], Q[h]), (lower, below), (gap, after)):
            _expect(
                begin, end, rows.successor, rows.p, uniform, values, False, 1.0,
                entropy, 0.0, 0.0, expected,
            )  # fmt: skip
        counted = game.task.reward_scale[h]
        rest = (H - h - 1) * log_SA
        above = Q[h]
        for s in range(S):
            widest = 0.0
            for a in range(A):
                i = k + s * A + a
                w_p, w_H = rest * transition_widths[i], counted * entropy_widths[i]
                H_hat = counted * entropy[s, a]
                above[s, a] = min(H_hat + w_H + above[s, a] + w_p, counted * log_S + rest)
                below[s, a] = max(max(H_hat - w_H, 0.0) + below[s, a] - w_p, 0.0)
                widest = max(widest, above[s, a] - below[s, a])
                if quadratic:
                    after[s, a] *= 1.0 + 1.0 / H
                    after[s, a] += (H + 4.0) * rest * c * kappa[i]
                else:
                    after[s, a] = min(2.0 * (w_H + w_p) + after[s, a], rest + log_SA)
            gap[s] = 0.5 * widest * widest if quadratic else 0.0
        if quadratic:
            widths[h] = above - below
        decide(above, 1.0, ones, pi)
        for s in range(S):
            for a in range(A):
                gap[s] += pi[s, a] * after[s, a]
            gap[s] = min(gap[s], rest + log_SA)
        _reduce(above, 1.0, rest + log_SA, V[h], scratch)
        _reduce(below, 1.0, np.inf, lower, scratch)
    game.gap[:] = gap


@compiled
def entropy_width(kappa: float, S: int) -> float:
    """How far H(p̂) may lie from H(p) when KL(p̂ ‖ p) <= κ (Pinsker, then Fannes–Audenaert)."""
    t = min(np.sqrt(kappa / 2.0), 1.0 - 1.0 / S)
    if t <= 0.0:
        return 0.0
    binary = -t * np.log(t) - (1.0 - t) * np.log(1.0 - t) if t < 1.0 else 0.0
    return float(min(np.log(S), t * np.log(max(S - 1, 1)) + binary))


@compiled
def mean_gap(game: Game) -> float:
    """The certified gap from the start states seen so far; inf before any."""
    S, A = game.visits.shape[1:]
    total, count = 0.0, 0
    for s in range(S):
        for a in range(A):
            total += game.visits[0, s, a] * game.gap[s]
            count += game.visits[0, s, a]
    return total / count if count > 0 else np.inf


@compiled
def before_episode(
    game: Game,
    episode: int,
    V: Array,
    Q: Array,
    truth: Rows,
    mu: Array,
    D: Array,
    mixture: NDArray[np.float32],
    mixture_rng: np.random.Generator,
) -> bool:
    """Plan, then book the planned policy: its exact occupancies, and a place in the reservoir.

    D (H, S, A) sums the occupancies in `truth`; it may be empty, as may the mixture (K, H, S, A),
    which is a uniform sample without replacement of the policies played so far (Vitter, 1985).
    Returns False, and books nothing, when the plan is certified to be good enough.
    """
    plan_episode(game, episode, V, Q)
    if game.tolerance > 0.0 and mean_gap(game) <= game.tolerance:
        return False
    if D.size > 0:
        add_occupancy_of_plan(truth, mu, Q, game.task.temperature, D)
    K = mixture.shape[0]
    if K > 0:
        place = episode if episode < K else int(mixture_rng.random() * (episode + 1))
        if place < K:
            decisions(Q, game.task.temperature, mixture[place])
    return True


@compiled
def deviation_stage(game: Game, rng: np.random.Generator) -> int:
    """The stage at which an episode takes its least certain action (spec §3.3), or -1 for none."""
    return int(rng.random() * game.visits.shape[0]) if game.bonus == 9 else -1


@compiled
def sample_episode(
    game: Game,
    Q: Array,
    world: World,
    states: Count,
    actions: Count,
    p: Array,
    env_rng: np.random.Generator,
    policy_rng: np.random.Generator,
) -> int:
    """Fill states (H + 1,) and actions (H,); returns the stage of termination, or -1."""
    begin, end, successor = world.begin, world.end, world.successor
    cumulative, terminal = world.cumulative, world.terminal
    width, temperature, A = game.width, game.task.temperature, p.shape[1]
    deviation = deviation_stage(game, policy_rng)
    s = draw_state(world, env_rng)
    states[0] = s
    terminated_at = -1
    for h in range(actions.size):
        if terminated_at < 0 and terminal[s]:
            terminated_at = h
        if h == deviation:
            a = int(np.argmax(width[h, s]))
        else:
            _decide(Q[h], s, temperature, 1.0, p)
            a = draw_action(p, s, policy_rng)
        if terminated_at < 0:
            i = s * A + a
            s = int(successor[_search(cumulative, begin[i], end[i], env_rng.random())])
        actions[h] = a
        states[h + 1] = s
    return actions.size if terminated_at < 0 and terminal[s] else terminated_at


@compiled
def play(
    game: Game,
    episode: int,
    episodes: int,
    V: Array,
    Q: Array,
    world: World,
    truth: Rows,
    mu: Array,
    D: Array,
    mixture: NDArray[np.float32],
    env_rng: np.random.Generator,
    policy_rng: np.random.Generator,
    mixture_rng: np.random.Generator,
) -> tuple[int, int]:
    """Plan, play and learn in the simulator; returns the episodes and the steps it took.

    Fewer episodes than asked are played when the plan is certified before.
    """
    H, S, A = game.visits.shape
    states, actions, p = np.empty(H + 1, np.int64), np.empty(H, np.int64), np.empty((S, A))
    steps = 0
    for t in range(episode, episode + episodes):
        if not before_episode(game, t, V, Q, truth, mu, D, mixture, mixture_rng):
            return t - episode, steps
        end = sample_episode(game, Q, world, states, actions, p, env_rng, policy_rng)
        learn(game, states, actions, end)
        steps += H if end < 0 else end
    return episodes, steps
