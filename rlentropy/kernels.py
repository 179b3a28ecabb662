"""The compiled loops over sparse rows: the only file that knows numba.

Every loop runs over transition *rows*. Row ``i = (k * S + s) * A + a`` is the distribution

    p(s' | i) = uniform[i] / S + Σ_{begin[i] <= j < end[i]} p[j] 1{successor[j] = s'}

with k the stage for stage-dependent kernels and 0 for shared ones. The ``uniform`` part lets a row
that was never visited, or one smoothed over all states, cost one mean of V a stage, exactly.
Row pointers and successors share one unsigned type, which lets LLVM drop its sign extensions.

All compiled code lives in this one file because numba's cache on disk notices when the file of a
function changes, not when one that it calls does: a second file could run stale code.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.uint32]
Count = NDArray[np.int64]

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile on first call and keep the machine code on disk."""
    return cast(Function, numba.njit(cache=True)(function))


class Rows(NamedTuple):
    """Transition rows of a known or an estimated kernel."""

    begin: Index  # (R,) with R = S*A, or H*S*A when the kernel depends on the stage
    end: Index  # (R,)
    successor: Index  # (M,), increasing within a row
    p: Array  # (M,)
    uniform: Array  # (R,) mass spread evenly over all S states


class Task(NamedTuple):
    """A finite-horizon planning problem on rows: reward, optimism, temperature.

    Q_h(s, a) = offset[h] + reward[h, s, a] + width_scale[h] width[i]
                + sqrt(variance_width[i] Var_i(V_{h+1})) + E_i[V_{h+1}]
    V_h(s)    = min(cap[h], max_a Q_h(s, a)), or τ log Σ_a exp(Q_h(s, a) / τ) at temperature τ > 0
    """

    reward: Array  # (H or 1, S, A or 1): axes of length 1 are shared by all stages, by all actions
    offset: Array  # (H,)
    width: Array  # (R,) or (0,) for none
    width_scale: Array  # (H,)
    variance_width: Array  # (R,) or (0,) for none
    cap: Array  # (H,), inf where V is not clipped
    temperature: float  # 0: greedy


class World(NamedTuple):
    """What the simulator needs of a known MDP."""

    begin: Index  # (S*A,)
    end: Index  # (S*A,)
    successor: Index  # (M,)
    cumulative: Array  # (M,) running sums of p within each row
    start: Array  # (S,) running sums of the initial distribution
    terminal: NDArray[np.bool_]  # (S,)


class Counts(NamedTuple):
    """Transition counts in rows that grow: a row that is full moves to the end of the pool."""

    begin: Index  # (R,)
    end: Index  # (R,)
    capacity: Index  # (R,) places reserved for the row
    successor: Index  # (pool,)
    hits: Count  # (pool,) how often the row went to that successor
    p: Array  # (pool,)
    uniform: Array  # (R,)
    N: Count  # (R,) visits
    used: Count  # (1,) places of the pool given out
    smoothing: float  # c
    restricted: bool  # smoothing only over the successors listed at the start


# ---------------------------------------------------------------- planning


# Structs are unpacked once a stage: reading their fields in an inner loop costs reference counts.


@compiled
def _row_stride(num_rows: int, S: int, A: int) -> int:
    return 0 if num_rows == S * A else S * A


@compiled
def _expect(
    begin: Index, end: Index, successor: Index, p: Array, uniform: Array, V: Array, q: Array
) -> None:
    """q[s, a] = E[V(s')] for the rows of one stage."""
    S, A = q.shape
    mean = 0.0
    for s in range(S):
        mean += V[s]
    mean /= S
    i = 0
    for s in range(S):
        for a in range(A):
            expected = uniform[i] * mean
            for j in range(begin[i], end[i]):
                expected += p[j] * V[successor[j]]
            q[s, a] = expected
            i += 1


@compiled
def _add_deviation(
    begin: Index,
    end: Index,
    successor: Index,
    p: Array,
    uniform: Array,
    V: Array,
    width: Array,
    q: Array,
) -> None:
    """q[s, a] += sqrt(width Var[V(s')]), where q holds E[V(s')] before."""
    S, A = q.shape
    mean_square = 0.0
    for s in range(S):
        mean_square += V[s] * V[s]
    mean_square /= S
    i = 0
    for s in range(S):
        for a in range(A):
            square = uniform[i] * mean_square
            for j in range(begin[i], end[i]):
                square += p[j] * V[successor[j]] * V[successor[j]]
            q[s, a] += np.sqrt(width[i] * max(square - q[s, a] * q[s, a], 0.0))
            i += 1


@compiled
def _add_reward(reward: Array, offset: float, q: Array) -> None:
    """q[s, a] += reward[s, a] + offset, where the reward may be the same for all actions."""
    S, A = q.shape
    step = 0 if reward.shape[1] == 1 else 1
    for s in range(S):
        for a in range(A):
            q[s, a] += reward[s, a * step] + offset


@compiled
def _add_bonus(width: Array, scale: float, q: Array) -> None:
    S, A = q.shape
    for s in range(S):
        for a in range(A):
            q[s, a] += scale * width[s * A + a]


@compiled
def _reduce(q: Array, temperature: float, cap: float, V: Array) -> None:
    """V(s) = max_a q(s, a), or its log-sum-exp at a temperature, at most the cap."""
    S, A = q.shape
    for s in range(S):
        top = q[s, 0]
        for a in range(1, A):
            top = max(top, q[s, a])
        if temperature > 0.0:
            total = 0.0
            for a in range(A):
                total += np.exp((q[s, a] - top) / temperature)
            top += temperature * np.log(total)
        V[s] = min(top, cap)


@compiled
def backward(rows: Rows, task: Task, V: Array, Q: Array) -> None:
    """Backward induction: fill Q (H, S, A) and V (H + 1, S) from V's last stage, which is given."""
    H, S, A = Q.shape
    stride = _row_stride(rows.begin.size, S, A)
    for h in range(H - 1, -1, -1):
        k = h * stride
        begin, end, uniform = rows.begin[k:], rows.end[k:], rows.uniform[k:]
        _expect(begin, end, rows.successor, rows.p, uniform, V[h + 1], Q[h])
        if task.variance_width.size > 0:
            _add_deviation(
                begin, end, rows.successor, rows.p, uniform, V[h + 1], task.variance_width[k:], Q[h]
            )
        _add_reward(task.reward[0 if task.reward.shape[0] == 1 else h], task.offset[h], Q[h])
        if task.width.size > 0:
            _add_bonus(task.width[k:], task.width_scale[h], Q[h])
        _reduce(Q[h], task.temperature, task.cap[h], V[h])


@compiled
def decide(q: Array, temperature: float, p: Array) -> None:
    """Turn action values q (A,) into the probabilities p (A,) they induce.

    Greedy ties are shared evenly. Values equal in exact arithmetic may differ by rounding, which
    grows with the horizon; 1e-9 of the value covers it and stays far below any bonus.
    """
    top = q[0]
    for a in range(1, q.size):
        top = max(top, q[a])
    threshold = top - 1e-9 * (1.0 + abs(top))
    total = 0.0
    for a in range(q.size):
        if temperature > 0.0:
            p[a] = np.exp((q[a] - top) / temperature)
        else:
            p[a] = 1.0 if q[a] >= threshold else 0.0
        total += p[a]
    for a in range(q.size):
        p[a] /= total


@compiled
def decisions(Q: Array, temperature: float, pi: Array) -> None:
    """Fill pi (H, S, A) with the policy that Q (H, S, A) induces."""
    p = np.empty(Q.shape[2])
    for h in range(Q.shape[0]):
        for s in range(Q.shape[1]):
            decide(Q[h, s], temperature, p)
            for a in range(p.size):
                pi[h, s, a] = p[a]


@compiled
def _flow(rows: Rows, h: int, s: int, d: Array, after: Array) -> float:
    """Send the mass d (A,) of state s at stage h to its successors; returns the uniform part."""
    S, A = after.size, d.size
    i = _row_stride(rows.begin.size, S, A) * h + s * A
    spread = 0.0
    for a in range(A):
        if d[a] > 0.0:
            spread += d[a] * rows.uniform[i + a]
            for j in range(rows.begin[i + a], rows.end[i + a]):
                after[rows.successor[j]] += d[a] * rows.p[j]
    return spread / S


@compiled
def occupancy(rows: Rows, mu: Array, pi: Array, d: Array) -> None:
    """Fill d (H, S, A), the state-action occupancies of pi (H, S, A) started from mu (S,)."""
    H, S, A = pi.shape
    now, after = mu.copy(), np.empty(S)
    for h in range(H):
        after[:] = 0.0
        spread = 0.0
        for s in range(S):
            for a in range(A):
                d[h, s, a] = now[s] * pi[h, s, a]
            if now[s] > 0.0:
                spread += _flow(rows, h, s, d[h, s], after)
        for s in range(S):
            now[s] = after[s] + spread


@compiled
def add_occupancy_of_plan(rows: Rows, mu: Array, Q: Array, temperature: float, D: Array) -> None:
    """Add to D (H, S, A) the occupancies of the policy that Q (H, S, A) induces.

    The policy is formed at the states that carry mass alone, so a greedy plan costs its support.
    """
    H, S, A = D.shape
    now, after, p = mu.copy(), np.empty(S), np.empty(A)
    for h in range(H):
        after[:] = 0.0
        spread = 0.0
        for s in range(S):
            if now[s] > 0.0:
                decide(Q[h, s], temperature, p)
                for a in range(A):
                    p[a] *= now[s]
                    D[h, s, a] += p[a]
                spread += _flow(rows, h, s, p, after)
        for s in range(S):
            now[s] = after[s] + spread


# ---------------------------------------------------------------- sampling


@compiled
def _search(cumulative: Array, begin: Any, end: Any, u: float) -> int:
    """First j in [begin, end) with cumulative[j] > u, else the last: rounding can't leave it."""
    low, high = np.int64(begin), np.int64(end) - 1
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > u:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def running_sums(begin: Index, end: Index, p: Array, out: Array) -> None:
    for i in range(begin.size):
        total = 0.0
        for j in range(begin[i], end[i]):
            total += p[j]
            out[j] = total


@compiled
def draw_state(world: World, rng: np.random.Generator) -> int:
    return _search(world.start, 0, world.start.size, rng.random())


@compiled
def draw_successor(world: World, i: int, rng: np.random.Generator) -> int:
    j = _search(world.cumulative, world.begin[i], world.end[i], rng.random())
    return int(world.successor[j])


@compiled
def draw_action(p: Array, rng: np.random.Generator) -> int:
    """Draw from probabilities p (A,); a sure action costs no random number."""
    for a in range(p.size):
        if p[a] == 1.0:
            return a
    u, chosen = rng.random(), 0
    for a in range(p.size):
        if p[a] > 0.0:
            chosen = a
            if u < p[a]:
                break
            u -= p[a]
    return chosen


@compiled
def rollout(
    world: World,
    pi: Array,
    states: Count,
    actions: Count,
    lengths: Count,
    env_rng: np.random.Generator,
    policy_rng: np.random.Generator,
) -> None:
    """Fill states (n, H + 1), actions (n, H), lengths (n,) with episodes of pi (H or 1, S, A).

    After a terminal state the episode stays there; its length counts the steps really taken.
    """
    A = pi.shape[2]
    n, H = actions.shape
    for episode in range(n):
        s = draw_state(world, env_rng)
        states[episode, 0] = s
        lengths[episode] = H
        for h in range(H):
            if world.terminal[s] and lengths[episode] == H:
                lengths[episode] = h
            a = draw_action(pi[0 if pi.shape[0] == 1 else h, s], policy_rng)
            if not world.terminal[s]:
                s = draw_successor(world, s * A + a, env_rng)
            actions[episode, h] = a
            states[episode, h + 1] = s


# ---------------------------------------------------------------- counting


@compiled
def _renormalise(model: Counts, i: int, S: int) -> None:
    b, e = model.begin[i], model.end[i]
    c = model.smoothing
    if model.restricted:
        total = model.N[i] + c * (e - b)
        for j in range(b, e):
            model.p[j] = (model.hits[j] + c) / total if total > 0.0 else 1.0 / (e - b)
    else:
        total = model.N[i] + c * S
        model.uniform[i] = c * S / total if total > 0.0 else 1.0
        for j in range(b, e):
            model.p[j] = model.hits[j] / total


@compiled
def _place(model: Counts, i: int, successor: int) -> int:
    """Where the successor stands in row i, or would."""
    low, high = np.int64(model.begin[i]), np.int64(model.end[i])
    while low < high:
        middle = (low + high) // 2
        if model.successor[middle] < successor:
            low = middle + 1
        else:
            high = middle
    return int(low)


@compiled
def first_unsupported(model: Counts, rows: Count, successors: Count) -> int:
    """Index of the first transition that no row has stored, or -1."""
    for k in range(rows.size):
        j = _place(model, rows[k], successors[k])
        if j == model.end[rows[k]] or model.successor[j] != successors[k]:
            return k
    return -1


@compiled
def record(model: Counts, i: int, successor: int, S: int) -> None:
    """Count one transition of row i and renormalise that row; the pool must have room."""
    place = _place(model, i, successor)
    if place < model.end[i] and model.successor[place] == successor:
        model.hits[place] += 1
    else:
        if model.end[i] - model.begin[i] == model.capacity[i]:
            place += _relocate(model, i)
        for j in range(np.int64(model.end[i]), place, -1):
            model.successor[j] = model.successor[j - 1]
            model.hits[j] = model.hits[j - 1]
        model.successor[place] = successor
        model.hits[place] = 1
        model.end[i] += np.uint32(1)
    model.N[i] += 1
    _renormalise(model, i, S)


@compiled
def _relocate(model: Counts, i: int) -> int:
    """Double the room of row i at the end of the pool; returns how far the row moved."""
    b, length = np.int64(model.begin[i]), np.int64(model.end[i]) - np.int64(model.begin[i])
    new = model.used[0]
    room = np.int64(max(4, 2 * int(length)))
    for j in range(length):
        model.successor[new + j] = model.successor[b + j]
        model.hits[new + j] = model.hits[b + j]
    model.begin[i], model.end[i] = np.uint32(new), np.uint32(new + length)
    model.capacity[i] = np.uint32(room)
    model.used[0] = new + room
    return int(new - b)


@compiled
def renormalise_all(model: Counts, S: int) -> None:
    for i in range(model.N.size):
        _renormalise(model, i, S)


@compiled
def record_many(model: Counts, rows: Count, successors: Count, S: int) -> None:
    for k in range(rows.size):
        record(model, rows[k], successors[k], S)


# ---------------------------------------------------------------- discounted planning


@compiled
def greedy_sweep(
    rows: Rows, r: Array, gamma: float, V: Array, TV: Array, choice: Index
) -> tuple[float, float]:
    """TV = max_a r + γ P V, its greedy actions, and the extremes of TV - V."""
    S, A = r.shape
    low, high = np.inf, -np.inf
    for s in range(S):
        best = -np.inf
        for a in range(A):
            i = s * A + a
            expected = 0.0
            for j in range(rows.begin[i], rows.end[i]):
                expected += rows.p[j] * V[rows.successor[j]]
            q = r[s, a] + gamma * expected
            if q > best:
                best = q
                choice[s] = np.uint32(a)
        TV[s] = best
        low, high = min(low, best - V[s]), max(high, best - V[s])
    return low, high


@compiled
def evaluation_sweeps(
    rows: Rows, r: Array, gamma: float, choice: Index, V: Array, sweeps: int, target: float
) -> None:
    """In-place sweeps of a fixed policy in alternating directions, self-loops solved exactly.

    Stops early when a sweep changes all states by amounts within `target` of each other.
    """
    S, A = r.shape
    for sweep in range(sweeps):
        low, high = np.inf, -np.inf
        for k in range(S):
            s = k if sweep % 2 == 0 else S - 1 - k
            i = s * A + np.int64(choice[s])
            stay = expected = 0.0
            for j in range(rows.begin[i], rows.end[i]):
                if rows.successor[j] == s:
                    stay += rows.p[j]
                else:
                    expected += rows.p[j] * V[rows.successor[j]]
            v = (r[s, np.int64(choice[s])] + gamma * expected) / (1.0 - gamma * stay)
            low, high = min(low, v - V[s]), max(high, v - V[s])
            V[s] = v
        if high - low <= target:
            break


# ---------------------------------------------------------------- forecaster against sampler


class Game(NamedTuple):
    """What the game of forecaster and sampler updates in place after each episode."""

    visits: Count  # (H, S, A) per stage
    forecast: Array  # visits as the forecaster counts them, shaped like task.reward
    task: Task  # reward = -log(forecast + prior)
    model: Counts
    prior: float  # n_0
    bonus: int  # index into BONUSES
    bonus_scale: float
    delta: float
    clip: bool


BONUSES = ("none", "inverse-n", "code", "hoeffding-kl", "bernstein-kl")


@compiled
def begin_episode(game: Game, episode: int) -> None:
    """Set what depends on the number of episodes played so far (spec §2.2, §2.3).

    The forecast is (n + n_0) / (n_total + n_0 cells), and log 1/forecast <= L.
    """
    task, H = game.task, game.task.offset.size
    cells = task.reward.shape[1] * task.reward.shape[2]
    total = episode if task.reward.shape[0] == H else episode * H
    L = np.log(total / game.prior + cells)
    for h in range(H):
        task.offset[h] = np.log(total + game.prior * cells)
        if game.bonus == 1 or game.bonus == 2:
            task.width_scale[h] = game.bonus_scale * L * (H - h)
        elif game.bonus == 3:
            task.width_scale[h] = game.bonus_scale * L * (H - h - 1)
        elif game.bonus == 4:
            task.width_scale[h] = (
                game.bonus_scale * (2.0 * np.sqrt(2.0) + 2.0 / 3.0) * L * (H - h - 1)
            )
        if game.clip:
            task.cap[h] = (H - h) * L


@compiled
def set_width(game: Game, i: int) -> None:
    """The part of row i's bonus that depends on its visits alone (spec §2.3)."""
    H, S, A = game.visits.shape
    N = game.model.N[i]
    n = max(N, 1)
    if game.bonus == 1:
        game.task.width[i] = 1.0 / n
    elif game.bonus >= 2:
        beta = np.log((4.0 if game.bonus == 2 else 2.0) * S * A * H / game.delta)
        if S > 1:
            beta += (S - 1) * np.log(np.e * (1.0 + N / (S - 1)))
        if game.bonus == 2:
            game.task.width[i] = np.sqrt(beta / n)
        elif game.bonus == 3:
            game.task.width[i] = np.sqrt(beta / (2.0 * n))
        else:
            game.task.width[i] = beta / n
            game.task.variance_width[i] = 4.0 * game.bonus_scale**2 * beta / n


@compiled
def refresh(game: Game) -> None:
    """Derive rewards and widths from the counts, with the very operations that update them.

    A resumed run must go on with the same bits, and numpy's log differs in the last one.
    """
    Hq, S, Aq = game.forecast.shape
    H, _, A = game.visits.shape
    game.forecast[:] = 0.0
    for h in range(H):
        for s in range(S):
            for a in range(A):
                game.forecast[h if Hq > 1 else 0, s, a if Aq > 1 else 0] += game.visits[h, s, a]
    for k in range(Hq):
        for s in range(S):
            for b in range(Aq):
                game.task.reward[k, s, b] = -np.log(game.forecast[k, s, b] + game.prior)
    for i in range(game.task.width.size):
        set_width(game, i)


@compiled
def _observe(game: Game, i: int, successor: int) -> None:
    record(game.model, i, successor, game.visits.shape[1])
    if game.task.width.size > 0:
        set_width(game, i)


@compiled
def learn(game: Game, states: Count, actions: Count, terminated_at: int) -> None:
    """Count an episode: states (H + 1,), actions (H,).

    `terminated_at` is the stage from which the episode rested in an absorbing state, or -1. That
    flag says the state is absorbing whatever the action: each is counted there once.
    """
    H, S, A = game.visits.shape
    stride = _row_stride(game.model.N.size, S, A)
    forecast, reward = game.forecast, game.task.reward
    if terminated_at >= 0:
        s = states[terminated_at]
        for h in range(H if stride > 0 else 1):
            for a in range(A):
                if game.model.N[h * stride + s * A + a] == 0:
                    _observe(game, h * stride + s * A + a, s)
    for h in range(H):
        s, a = states[h], actions[h]
        game.visits[h, s, a] += 1
        k = h if forecast.shape[0] > 1 else 0
        b = a if forecast.shape[2] > 1 else 0
        forecast[k, s, b] += 1.0
        reward[k, s, b] = -np.log(forecast[k, s, b] + game.prior)
        _observe(game, h * stride + s * A + a, states[h + 1])


@compiled
def plan_episode(game: Game, episode: int, V: Array, Q: Array) -> None:
    """Plan V (H + 1, S) and Q (H, S, A) for the episode after `episode` played ones."""
    begin_episode(game, episode)
    m = game.model
    backward(Rows(m.begin, m.end, m.successor, m.p, m.uniform), game.task, V, Q)


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
) -> None:
    """Plan, then book the planned policy: its exact occupancies, and a place in the reservoir.

    D (H, S, A) sums the occupancies in `truth`; it may be empty, as may the mixture (K, H, S, A),
    which is a uniform sample without replacement of the policies played so far (Vitter, 1985).
    """
    plan_episode(game, episode, V, Q)
    if D.size > 0:
        add_occupancy_of_plan(truth, mu, Q, game.task.temperature, D)
    K = mixture.shape[0]
    if K > 0:
        place = episode if episode < K else int(mixture_rng.random() * (episode + 1))
        if place < K:
            decisions(Q, game.task.temperature, mixture[place])


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
) -> int:
    """Plan, play and learn for a number of episodes in the simulator; returns the steps taken."""
    H, _, A = game.visits.shape
    states, actions, p = np.empty(H + 1, np.int64), np.empty(H, np.int64), np.empty(A)
    steps = 0
    for t in range(episode, episode + episodes):
        before_episode(game, t, V, Q, truth, mu, D, mixture, mixture_rng)
        s = draw_state(world, env_rng)
        states[0] = s
        terminated_at = -1
        for h in range(H):
            if terminated_at < 0 and world.terminal[s]:
                terminated_at = h
            decide(Q[h, s], game.task.temperature, p)
            a = draw_action(p, policy_rng)
            if terminated_at < 0:
                s = draw_successor(world, s * A + a, env_rng)
                steps += 1
            actions[h] = a
            states[h + 1] = s
        if terminated_at < 0 and world.terminal[s]:
            terminated_at = H
        learn(game, states, actions, terminated_at)
    return steps
