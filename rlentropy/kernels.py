"""The compiled loops over sparse rows: the only file that knows numba.

Every loop runs over transition *rows*. Row ``i = (k * S + s) * A + a`` is the distribution

    p(s' | i) = uniform[i] / S + Σ_{begin[i] <= j < end[i]} p[j] 1{successor[j] = s'}

with k the stage for stage-dependent kernels and 0 for shared ones. The ``uniform`` part lets a row
that was never visited, or one smoothed over all states, cost one mean of V a stage, exactly.
Row pointers and successors share one unsigned type, which lets LLVM drop its sign extensions.

All compiled code lives in this one file because numba's cache on disk notices when the file of a
function changes, not when one that it calls does: a second file could run stale code.
The cache lies where numba's own rules put it (NUMBA_CACHE_DIR, beside this file, in the home), else
in a private folder for temporary files; where none of these can be written, there is none.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.uint32]
Count = NDArray[np.int64]

Function = TypeVar("Function", bound=Callable[..., Any])


class Cache(FunctionCache):  # type: ignore[misc]
    """Machine code on disk; what can't be read is compiled again, what can't be written is lost."""

    def load_overload(self, signature: Any, target: Any) -> Any:
        try:
            return super().load_overload(signature, target)
        except Exception:  # whatever a damaged index, or code of another machine, makes of pickle
            with suppress(Exception):
                self.flush()  # or it would stay damaged
            return None

    def save_overload(self, signature: Any, code: Any) -> None:
        with suppress(OSError):  # a full disk, a folder that can't be written any more
            super().save_overload(signature, code)


def kept(dispatcher: Any) -> Any:
    """Let a function of numba's keep its machine code on disk, if there is a place."""
    config = numba.config
    if config.DISABLE_JIT:
        return dispatcher
    try:
        dispatcher._cache = Cache(dispatcher.py_func)  # as njit(cache=True), with a class of ours
    except RuntimeError:  # no folder of numba's can be written
        folder = private_folder()
        if folder is not None and config.CACHE_DIR != str(folder):
            config.CACHE_DIR = str(folder)
            return kept(dispatcher)
    return dispatcher


def private_folder() -> Path | None:
    """A folder for temporary files that lasts, and that nobody else can put code into."""
    folder = Path(tempfile.gettempdir(), f"rlentropy-{os.getuid() if os.name == 'posix' else 0}")
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if os.name != "posix" or (status.st_uid == os.getuid() and status.st_mode == 0o40700):
            return folder
    return None


def compiled(function: Function) -> Function:
    """Compile on first call and keep the machine code on disk."""
    return cast(Function, kept(numba.njit(function)))


def inlined(function: Function) -> Function:
    """Compile into each caller, for what runs once a row: a call with arrays takes about 60 ns."""
    return cast(Function, kept(numba.njit(inline="always")(function)))


class Rows(NamedTuple):
    """Transition rows of a known or an estimated kernel."""

    begin: Index  # (R,) with R = S*A, or H*S*A when the kernel depends on the stage
    end: Index  # (R,)
    successor: Index  # (M,), increasing within a row
    p: Array  # (M,)
    uniform: Array  # (R,) mass spread evenly over all S states


class Task(NamedTuple):
    """A finite-horizon planning problem on rows: reward, optimism, temperature.

    Q_h(s, a) = offset[h] + reward_scale[h] reward[h, s, a] + width_scale[h] width[i]
                + sqrt(variance_width[i] Var_i(V_{h+1})) + growth E_i[V_{h+1}]
    V_h(s)    = min(cap[h], max_a Q_h(s, a)), or τ log Σ_a exp(Q_h(s, a) / τ) at temperature τ > 0

    An optimistic task takes the uniform part of a row for its best state: E becomes max V there.
    """

    reward: Array  # (H or 1, S, A or 1): axes of length 1 are shared by all stages, by all actions
    reward_scale: Array  # (H,)
    offset: Array  # (H,)
    width: Array  # (R,) or (0,) for none
    width_scale: Array  # (H,)
    variance_width: Array  # (R,) or (0,) for none
    cap: Array  # (H,), inf where V is not clipped
    temperature: float  # 0: greedy
    growth: float  # 1 but for bounds that widen from stage to stage
    optimistic: bool


class World(NamedTuple):
    """What the simulator needs of a known MDP."""

    begin: Index  # (S*A,)
    end: Index  # (S*A,)
    successor: Index  # (M,)
    cumulative: Array  # (M,) running sums of p within each row
    start: Array  # (S,) running sums of the initial distribution
    terminal: NDArray[np.bool_]  # (S,)


ESTIMATORS = ("add-c", "braess-sauer", "add-root-n")  # of a row from its counts


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
    estimator: int  # index into ESTIMATORS
    restricted: bool  # smoothing only over the successors listed at the start


# ---------------------------------------------------------------- planning


# Structs are unpacked once a stage: reading their fields in an inner loop costs reference counts.


@compiled
def _row_stride(num_rows: int, S: int, A: int) -> int:
    return 0 if num_rows == S * A else S * A


@compiled
def _expect(
    begin: Index,
    end: Index,
    successor: Index,
    p: Array,
    uniform: Array,
    V: Array,
    optimistic: bool,
    growth: float,
    reward: Array,
    scale: float,
    offset: float,
    q: Array,
) -> None:
    """q[s, a] = growth E[V(s')] + scale reward[s, a] + offset, for the rows of one stage.

    The reward may be (S, 1), the same for all actions. Optimistic: a uniform part finds max V.
    """
    S, A = q.shape
    level = V[0]
    for s in range(1, S):
        level = max(level, V[s]) if optimistic else level + V[s]
    if not optimistic:
        level /= S
    step = 0 if reward.shape[1] == 1 else 1
    i = 0
    for s in range(S):
        for a in range(A):
            expected = uniform[i] * level
            for j in range(begin[i], end[i]):
                expected += p[j] * V[successor[j]]
            q[s, a] = growth * expected + (scale * reward[s, a * step] + offset)
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
    """q[s, a] += sqrt(width Var[V(s')]) for the rows of one stage.

    Variances are taken around the mean: a difference of squares would leave 1e-7 where they vanish.
    """
    S, A = q.shape
    mean = spread = 0.0
    for s in range(S):
        mean += V[s]
    mean /= S
    for s in range(S):
        spread += (V[s] - mean) ** 2
    spread /= S
    i = 0
    for s in range(S):
        for a in range(A):
            centre = uniform[i] * mean
            for j in range(begin[i], end[i]):
                centre += p[j] * V[successor[j]]
            variance = uniform[i] * (spread + (mean - centre) ** 2)
            for j in range(begin[i], end[i]):
                variance += p[j] * (V[successor[j]] - centre) ** 2
            q[s, a] += np.sqrt(width[i] * variance)
            i += 1


@compiled
def _add_bonus(width: Array, scale: float, q: Array) -> None:
    flat = q.reshape(q.size)
    for i in range(flat.size):
        flat[i] += scale * width[i]


@compiled
def _exp(x: float) -> float:
    """e^x for x in [-708, 0], below that e^-708; within 1e-15 of it, and free of branches.

    x = k log 2 + r with |r| <= log(2) / 2, e^r by its Taylor polynomial, 2^k by its bits. A loop of
    these is vectorised, at 1 ns each against 5 ns for calls of the mathematical library.
    """
    x = max(x, -708.0)
    shifted = x * 1.4426950408889634 + 6755399441055744.0  # 1.5 * 2^52: k lands in the last bits
    k = shifted - 6755399441055744.0
    r = (x - k * 0.6931471803691238) - k * 1.9082149292705877e-10
    y = 1.0 / 6227020800.0
    y = y * r + 1.0 / 479001600.0
    y = y * r + 1.0 / 39916800.0
    y = y * r + 1.0 / 3628800.0
    y = y * r + 1.0 / 362880.0
    y = y * r + 1.0 / 40320.0
    y = y * r + 1.0 / 5040.0
    y = y * r + 1.0 / 720.0
    y = y * r + 1.0 / 120.0
    y = y * r + 1.0 / 24.0
    y = y * r + 1.0 / 6.0
    y = y * r + 0.5
    y = y * r + 1.0
    y = y * r + 1.0
    power = np.int64((np.float64(shifted).view(np.int64) + np.int64(1023)) << np.int64(52))
    return float(y * power.view(np.float64))


@compiled
def _log(x: float) -> float:
    """log x for normal x > 0, to rounding, and free of branches, as `_exp`.

    x = 2^e m with m in [√½, √2), and log m = 2 artanh t by its series in t = (m - 1) / (m + 1).
    """
    bits = np.float64(x).view(np.int64)
    e = (bits - np.int64(0x3FE6A09E667F3BCD)) >> np.int64(52)
    m = np.int64(bits - (e << np.int64(52))).view(np.float64)
    t = (m - 1.0) / (m + 1.0)
    u = t * t
    y = 1.0 / 23.0
    y = y * u + 1.0 / 21.0
    y = y * u + 1.0 / 19.0
    y = y * u + 1.0 / 17.0
    y = y * u + 1.0 / 15.0
    y = y * u + 1.0 / 13.0
    y = y * u + 1.0 / 11.0
    y = y * u + 1.0 / 9.0
    y = y * u + 1.0 / 7.0
    y = y * u + 1.0 / 5.0
    y = y * u + 1.0 / 3.0
    tail = 2.0 * t * u * y
    return float(e * 0.6931471803691238 + (2.0 * t + (tail + e * 1.9082149292705877e-10)))


@compiled
def _exp_all(x: Array, factor: float) -> None:
    """x = exp(factor x) for non-positive factor x, in place."""
    for i in range(x.size):
        x[i] = _exp(x[i] * factor)


@compiled
def _log_all(x: Array) -> None:
    for i in range(x.size):
        x[i] = _log(x[i])


@compiled
def _reduce(q: Array, temperature: float, cap: float, V: Array, scratch: Array) -> None:
    """V(s) = max_a q(s, a), or its log-sum-exp at a temperature, at most the cap.

    Pass by pass, each over all states, so that the exponentials and logarithms are vectorised;
    scratch is (S, A + 1).
    """
    S, A = q.shape
    for s in range(S):
        top = q[s, 0]
        for a in range(1, A):
            top = max(top, q[s, a])
        V[s] = top
    if temperature > 0.0:
        flat = scratch.reshape(scratch.size)
        shifted, total = flat[: S * A], flat[S * A : S * A + S]
        for s in range(S):
            for a in range(A):
                shifted[s * A + a] = q[s, a] - V[s]
        _exp_all(shifted, 1.0 / temperature)
        for s in range(S):
            total[s] = 0.0
            for a in range(A):
                total[s] += shifted[s * A + a]
        _log_all(total)
        for s in range(S):
            V[s] += temperature * total[s]
    for s in range(S):
        V[s] = min(V[s], cap)


@compiled
def backward(rows: Rows, task: Task, V: Array, Q: Array) -> None:
    """Backward induction: fill Q (H, S, A) and V (H + 1, S) from V's last stage, which is given."""
    H, S, A = Q.shape
    stride = _row_stride(rows.begin.size, S, A)
    scratch = np.empty((S, A + 1))
    for h in range(H - 1, -1, -1):
        k = h * stride
        begin, end, uniform = rows.begin[k:], rows.end[k:], rows.uniform[k:]
        reward = task.reward[0 if task.reward.shape[0] == 1 else h]
        _expect(
            begin, end, rows.successor, rows.p, uniform, V[h + 1], task.optimistic, task.growth,
            reward, task.reward_scale[h], task.offset[h], Q[h],
        )  # fmt: skip
        if task.variance_width.size > 0:
            _add_deviation(
                begin, end, rows.successor, rows.p, uniform, V[h + 1], task.variance_width[k:], Q[h]
            )
        if task.width.size > 0:
            _add_bonus(task.width[k:], task.width_scale[h], Q[h])
        _reduce(Q[h], task.temperature, task.cap[h], V[h], scratch)


@inlined
def _decide(q: Array, s: int, temperature: float, mass: float, d: Array) -> None:
    """d(s, a) = mass π(a|s) for the policy that the action values q (S, A) induce at s.

    Greedy ties are shared evenly. Values equal in exact arithmetic may differ by rounding, which
    grows with the horizon; 1e-9 of the value covers it and stays far below any bonus.
    """
    top = q[s, 0]
    for a in range(1, q.shape[1]):
        top = max(top, q[s, a])
    threshold = top - 1e-9 * (1.0 + abs(top))
    total = 0.0
    for a in range(q.shape[1]):
        if temperature > 0.0:
            d[s, a] = np.exp((q[s, a] - top) / temperature)
        else:
            d[s, a] = 1.0 if q[s, a] >= threshold else 0.0
        total += d[s, a]
    for a in range(q.shape[1]):
        d[s, a] *= mass / total


@compiled
def decide(q: Array, temperature: float, now: Array, d: Array) -> None:
    """d(s, a) = now(s) π(a|s), (S, A), for the policy that q (S, A) induces and masses now (S,)."""
    S, A = q.shape
    for s in range(S):
        if now[s] > 0.0:
            _decide(q, s, temperature, now[s], d)
        else:
            for a in range(A):
                d[s, a] = 0.0


@compiled
def decisions(Q: Array, temperature: float, pi: Array) -> None:
    """Fill pi (H, S, A) with the policy that Q (H, S, A) induces."""
    H, S, A = Q.shape
    ones, p = np.ones(S), np.empty((S, A))
    for h in range(H):
        decide(Q[h], temperature, ones, p)
        for s in range(S):
            for a in range(A):
                pi[h, s, a] = p[s, a]


@compiled
def _flow(
    begin: Index, end: Index, successor: Index, p: Array, uniform: Array, d: Array, after: Array
) -> None:
    """Send the masses d (S, A) of one stage to the states after (S,) of the next."""
    S, A = d.shape
    after[:] = 0.0
    spread = 0.0
    i = 0
    for s in range(S):
        for a in range(A):
            mass = d[s, a]
            if mass > 0.0:
                spread += mass * uniform[i]
                for j in range(begin[i], end[i]):
                    after[successor[j]] += mass * p[j]
            i += 1
    if spread > 0.0:
        after += spread / S


@compiled
def occupancy(rows: Rows, mu: Array, pi: Array, d: Array) -> None:
    """Fill d (H, S, A), the state-action occupancies of pi (H, S, A) started from mu (S,)."""
    H, S, A = pi.shape
    stride = _row_stride(rows.begin.size, S, A)
    now = mu.copy()
    for h in range(H):
        for s in range(S):
            for a in range(A):
                d[h, s, a] = now[s] * pi[h, s, a]
        k = h * stride
        begin, end, uniform = rows.begin[k:], rows.end[k:], rows.uniform[k:]
        _flow(begin, end, rows.successor, rows.p, uniform, d[h], now)


@compiled
def add_occupancy_of_plan(rows: Rows, mu: Array, Q: Array, temperature: float, D: Array) -> None:
    """Add to D (H, S, A) the occupancies of the policy that Q (H, S, A) induces.

    The policy is formed at the states that carry mass alone, so a greedy plan costs its support.
    """
    H, S, A = D.shape
    stride = _row_stride(rows.begin.size, S, A)
    now, d = mu.copy(), np.empty((S, A))
    for h in range(H):
        decide(Q[h], temperature, now, d)
        total = D[h]
        for s in range(S):
            for a in range(A):
                total[s, a] += d[s, a]
        k = h * stride
        begin, end, uniform = rows.begin[k:], rows.end[k:], rows.uniform[k:]
        _flow(begin, end, rows.successor, rows.p, uniform, d, now)


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
    return int(low)


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
def pick_action(p: Array, s: int, u: float) -> int:
    """The action at u in [0, 1) of the probabilities p (S, A) of state s, laid end to end."""
    chosen = 0
    for a in range(p.shape[1]):
        if p[s, a] > 0.0:
            chosen = a
            if u < p[s, a]:
                break
            u -= p[s, a]
    return chosen


@compiled
def draw_action(p: Array, s: int, rng: np.random.Generator) -> int:
    """Draw from the probabilities p (S, A) of state s; a sure action costs no random number."""
    for a in range(p.shape[1]):
        if p[s, a] == 1.0:
            return a
    return pick_action(p, s, rng.random())


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
            a = draw_action(pi[0 if pi.shape[0] == 1 else h], s, policy_rng)
            if not world.terminal[s]:
                s = draw_successor(world, s * A + a, env_rng)
            actions[episode, h] = a
            states[episode, h + 1] = s


# ---------------------------------------------------------------- counting


@compiled
def _renormalise(model: Counts, i: int, S: int) -> None:
    # All in one function: a call with these arrays would take half as long as the whole.
    b, e = model.begin[i], model.end[i]
    c = model.smoothing
    if model.estimator == 2:
        c = np.sqrt(model.N[i]) / (e - b if model.restricted else S)
    if model.estimator == 1:
        unseen = 0.0 if model.restricted else 0.5  # carried by the uniform part
        total = unseen * S
        for j in range(b, e):
            hits = model.hits[j]
            model.p[j] = hits + (0.5 if hits == 0 else 1.0 if hits == 1 else 0.75) - unseen
            total += model.p[j]
        model.uniform[i] = unseen * S / total
        for j in range(b, e):
            model.p[j] /= total
    elif model.restricted:
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


@inlined
def _dot(successor: Index, p: Array, V: Array, begin: int, end: int) -> float:
    """Σ_j p[j] V[successor[j]] in four sums, which the processor adds side by side."""
    one = two = three = four = 0.0
    j, last = np.uint64(begin), np.uint64(end)
    whole = last - (last - j) % np.uint64(4)
    while j < whole:
        one += p[j] * V[successor[j]]
        two += p[j + np.uint64(1)] * V[successor[j + np.uint64(1)]]
        three += p[j + np.uint64(2)] * V[successor[j + np.uint64(2)]]
        four += p[j + np.uint64(3)] * V[successor[j + np.uint64(3)]]
        j += np.uint64(4)
    while j < last:
        one += p[j] * V[successor[j]]
        j += np.uint64(1)
    return (one + two) + (three + four)


@compiled
def greedy_sweep(
    rows: Rows, r: Array, gamma: float, V: Array, Q: Array, TV: Array, choice: Index
) -> tuple[float, float]:
    """Q = r + γ P V, TV = max_a Q, its greedy actions, and the extremes of TV - V."""
    S, A = r.shape
    begin, end, successor, p = rows.begin, rows.end, rows.successor, rows.p
    low, high = np.inf, -np.inf
    for s in range(S):
        best = -np.inf
        for a in range(A):
            i = s * A + a
            q = r[s, a] + gamma * _dot(successor, p, V, begin[i], end[i])
            Q[s, a] = q
            if q > best:
                best = q
                choice[s] = np.uint32(a)
        TV[s] = best
        low, high = min(low, best - V[s]), max(high, best - V[s])
    return low, high


@compiled
def evaluation_sweeps(
    rows: Rows, r: Array, gamma: float, choice: Index, V: Array, sweeps: int, target: float
) -> float:
    """Sweeps V = r + γ P V of a fixed policy; returns how far apart the last one's changes are.

    Stops early when they are within `target`; adding a constant brings V close to the fixed point.
    """
    S, A = r.shape
    begin, end, successor, p = rows.begin, rows.end, rows.successor, rows.p
    after, width = np.empty(S), np.inf
    for _ in range(sweeps):
        low, high = np.inf, -np.inf
        for s in range(S):
            a = np.int64(choice[s])
            i = s * A + a
            after[s] = r[s, a] + gamma * _dot(successor, p, V, begin[i], end[i])
            low, high = min(low, after[s] - V[s]), max(high, after[s] - V[s])
        V[:] = after
        width = high - low
        if width <= target:
            break
    return width


@compiled
def in_place_sweeps(
    rows: Rows, r: Array, gamma: float, V: Array, backwards: bool, sweeps: int, target: float
) -> None:
    """A greedy sweep that uses new values at once, then such sweeps of the policy it chose.

    They solve self-loops exactly, v = (r + γ Σ_{s' ≠ s} p V) / (1 - γ p(s)), and alternate in
    direction. Stops early when one changes all states by amounts within `target` of each other.
    """
    S, A = r.shape
    begin, end, successor, p = rows.begin, rows.end, rows.successor, rows.p
    # The policy's chain without self-loops: reward + Σ weight V, rows in the order of the sweep.
    chain_begin, chain_end = np.empty(S, np.uint32), np.empty(S, np.uint32)
    chain_successor, weight = np.empty_like(successor), np.empty_like(p)
    reward = np.empty(S)
    n = np.uint32(0)
    for k in range(S):
        s = S - 1 - k if backwards else k
        best, chosen, stretch = -np.inf, 0, 1.0
        for a in range(A):
            stay = expected = 0.0
            for j in range(begin[s * A + a], end[s * A + a]):
                if successor[j] == s:
                    stay += p[j]
                else:
                    expected += p[j] * V[successor[j]]
            q, scale = r[s, a] + gamma * expected, 1.0
            if stay > 0.0:
                scale = 1.0 / (1.0 - gamma * stay)
                q *= scale
            if q > best:
                best, chosen, stretch = q, a, scale
        V[s] = best
        reward[s] = stretch * r[s, chosen]
        chain_begin[s] = n
        for j in range(begin[s * A + chosen], end[s * A + chosen]):
            if successor[j] != s:
                chain_successor[n] = successor[j]
                weight[n] = stretch * gamma * p[j]
                n += np.uint32(1)
        chain_end[s] = n
    solve_chain(
        chain_begin, chain_end, chain_successor, weight, reward, V, not backwards, sweeps, target
    )


@compiled
def solve_chain(
    begin: Index,
    end: Index,
    successor: Index,
    weight: Array,
    reward: Array,
    x: Array,
    backwards: bool,
    sweeps: int,
    target: float,
) -> float:
    """Sweeps x(s) = reward(s) + Σ weight x in place, in alternating directions, from x on.

    Stops early when one sweep changes all states by amounts within `target` of each other; returns
    how far apart those of the last one are.
    """
    S, width = x.size, np.inf
    for _ in range(sweeps):
        low, high = np.inf, -np.inf
        for k in range(S):
            s = S - 1 - k if backwards else k
            v = reward[s]
            for j in range(begin[s], end[s]):
                v += weight[j] * x[successor[j]]
            low, high = min(low, v - x[s]), max(high, v - x[s])
            x[s] = v
        width = high - low
        if width <= target:
            break
        backwards = not backwards
    return width


# ---------------------------------------------------------------- robust expectations


# Measures whose worst case has compiled loops (robust spec §1.4, §1.5): indices into these.
TILTS = ("entropic", "worst-case", "l1-penalty", "contamination", "kl-ball")
FILLS = ("tv-ball", "mean-cvar", "linf-ball")  # these need a row's values in order


@compiled
def expect_rows(
    begin: Index, end: Index, successor: Index, p: Array, x: Array, index: Index, out: Array
) -> None:
    """out[k] = Σ p x over row index[k]."""
    for k in range(index.size):
        i = index[k]
        out[k] = _dot(successor, p, x, begin[i], end[i])


@compiled
def log_all(x: Array) -> None:
    """x = log x for normal x > 0, in place."""
    _log_all(x)


@compiled
def greedy(Q: Array, V: Array, TV: Array, choice: Index) -> tuple[float, float]:
    """TV = max_a Q, its first greedy actions, and the extremes of TV - V."""
    low, high = np.inf, -np.inf
    S, A = Q.shape
    for s in range(S):
        best, chosen = Q[s, 0], 0
        for a in range(1, A):
            if Q[s, a] > best:
                best, chosen = Q[s, a], a
        TV[s], choice[s] = best, np.uint32(chosen)
        low, high = min(low, best - V[s]), max(high, best - V[s])
    return low, high


@inlined
def _outsider(
    outside: Index, successor: Index, first: Any, n: Any, paid: bool, V: Array, low: float
) -> int:
    """The first state of `outside` below `low` that the row doesn't store, -1 for none.

    Where rewards don't depend on the successor a state that is stored is never below the row's low.
    """
    for k in range(outside.size):
        s = outside[k]
        if not V[s] < low:
            return -1
        stored = False
        if paid:
            for j in range(n):
                stored |= successor[first + j] == s
        if not stored:
            return int(s)
    return -1


@inlined
def _mean_exp(z: Array, p: Array, n: Any, top: float, b: float, e: Array) -> tuple[float, float]:
    """e = exp(-b z), and log Σ p e, Σ p z e / Σ p e; z in [0, top] with its least at 0.

    Below b z = 0.01 the logarithm is taken of 1 + Σ p (e - 1) with the differences by their series,
    so that it keeps its digits relative to b (robust spec §1.7, form 2).
    """
    total = first = 0.0
    if b * top < 1e-2:
        for j in range(n):
            x = -b * z[j]
            tail = x * (1.0 / 24.0 + x * (1.0 / 120.0 + x / 720.0))
            e[j] = x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + tail)))
        for j in range(n):
            total += p[j] * e[j]
            first += p[j] * z[j] * (1.0 + e[j])
        for j in range(n):
            e[j] += 1.0
        return np.log1p(total), first / (1.0 + total)
    for j in range(n):
        e[j] = _exp(-b * z[j])
    for j in range(n):
        weight = p[j] * e[j]
        total += weight
        first += weight * z[j]
    return _log(total), first / total


@inlined
def _kl_ball(
    z: Array, p: Array, n: Any, delta: float, guess: float, e: Array
) -> tuple[float, float]:
    """min E_q z over KL(q ‖ p) <= δ, and the b at which q = p e^{-b z} / Z attains it; z in [0, 1].

    The dual W(b) = -(log Z + δ) / b has W'(b) = (δ - KL(b)) / b². Newton on √KL, which is nearly
    linear in b, inside a bracket. W is flat at its maximum: with a last step of s, the trapezoid
    W + W' s / 2 is off by no more than s³. Less than e^-δ of p lies at z = 0, and KL <= b² / 8.
    """
    least = np.sqrt(8.0 * delta)
    b = guess
    if not b > least:
        mean = square = 0.0
        for j in range(n):
            mean += p[j] * z[j]
        for j in range(n):
            square += p[j] * (z[j] - mean) ** 2
        b = np.sqrt(2.0 * delta / square) if square > 0.0 else 1.0
    low, high, value, root = 0.5 * least, np.inf, 0.0, np.sqrt(delta)
    for _ in range(200):
        log_z, tilted = _mean_exp(z, p, n, 1.0, b, e)
        kl = max(-b * tilted - log_z, 0.0)
        total = spread = 0.0
        for j in range(n):
            weight = p[j] * e[j]
            total += weight
            spread += weight * (z[j] - tilted) ** 2
        if kl > delta:
            high = b
        else:
            low = b
        value = -(log_z + delta) / b
        size = np.sqrt(kl)
        step = np.inf
        if kl > 0.0 and b * spread > 0.0:
            step = 2.0 * size * (root - size) * total / (b * spread)
        if abs(step) <= 3e-5 * b:
            value += 0.5 * step * (delta - kl) / (b * b)
            b += step
            break
        if not low < b + step < high:
            step = np.sqrt(low * high) - b if high < np.inf else b
        if (high < np.inf and high - low <= 1e-12 * high) or low > 1e18:
            break
        b += step
    return value, b


@compiled
def tilt_rows(
    kind: int,
    parameter: float,
    begin: Index,
    end: Index,
    successor: Index,
    p: Array,
    bonus: Array,
    V: Array,
    outside: Index,
    index: Index,
    W: Array,
    multiplier: Array,
    start: Index,
    state: Index,
    q: Array,
) -> None:
    """Robust expectations W (K,) of rows index[k], and their worst cases where q has room.

    Args:
        kind: into TILTS.
        parameter: of the measure; the entropic one's is > 0.
        bonus: what is added to V(s') at each stored transition, (M,); or (0,) for nothing.
        outside: states where mass may go that a row doesn't store, by ascending V; as many as the
            longest row has transitions and one, or fewer if there are no more.
        multiplier: (R,) where KL balls start their search, and leave what they found.
        start: (K + 1,) places in state and q: a row's transitions, then one outside. Or (0,).
    """
    longest: Any = 1
    for k in range(index.size):
        longest = max(longest, np.int64(end[index[k]]) - np.int64(begin[index[k]]))
    z, e, weight = np.empty(longest), np.empty(longest), np.empty(longest)
    wanted, paid = start.size > 0, bonus.size > 0
    for k in range(index.size):
        i = index[k]
        first = np.int64(begin[i])
        n = np.int64(end[i]) - first
        for j in range(n):
            z[j] = V[successor[first + j]]
        if paid:
            for j in range(n):
                z[j] += bonus[first + j]
        low = top = z[0]
        for j in range(1, n):
            low, top = min(low, z[j]), max(top, z[j])
        other = -1
        if outside.size > 0:
            other = _outsider(outside, successor, first, n, paid, V, low)
            if other >= 0:
                low = V[other]
        value = 0.0
        if kind == 2:
            for j in range(n):
                value += p[first + j] * min(z[j] - low, 2.0 * parameter)
        elif kind == 3:
            for j in range(n):
                value += p[first + j] * (z[j] - low)
            value *= 1.0 - parameter
        if 1 <= kind <= 3 and not wanted:  # the rest is for the others
            W[k] = low + value
            continue
        for j in range(n):
            weight[j] = p[first + j]
        top -= low
        for j in range(n):
            z[j] -= low
        if kind == 0:
            if top > 0.0:
                log_z, _ = _mean_exp(z, weight, n, top, parameter, e)
                value = -log_z / parameter
            else:
                e[:n] = 1.0
        elif kind == 4:
            lowest = 0.0
            for j in range(n):
                lowest += weight[j] if z[j] == 0.0 else 0.0
            if parameter <= 0.0 or top <= 0.0:
                e[:n] = 1.0
                for j in range(n):
                    value += weight[j] * z[j]
            elif parameter >= -_log(lowest):
                for j in range(n):
                    e[j] = 1.0 if z[j] == 0.0 else 0.0
            else:
                unit = 1.0 / top if top > 1e-300 else 1e300
                for j in range(n):
                    z[j] *= unit  # so that the multiplier fits V of every scale
                value, b = _kl_ball(z, weight, n, parameter, multiplier[i], e)
                value /= unit
                multiplier[i] = b
                if wanted:
                    _mean_exp(z, weight, n, 1.0, b, e)
        W[k] = low + value
        if wanted:
            at = np.int64(start[k])
            total, least = 0.0, -1
            for j in range(n):
                state[at + j] = successor[first + j]
                stay = weight[j]
                if kind == 0 or kind == 4:
                    stay *= e[j]
                elif kind == 1 or (kind == 2 and z[j] > 2.0 * parameter):
                    stay = 0.0
                elif kind == 3:
                    stay *= 1.0 - parameter
                q[at + j] = stay
                total += stay
                if z[j] == 0.0 and least < 0:
                    least = j
            state[at + n], q[at + n] = successor[first], 0.0
            if kind == 0 or kind == 4:
                for j in range(n):
                    q[at + j] /= total
            elif other >= 0:
                state[at + n], q[at + n] = other, max(1.0 - total, 0.0)
            else:
                q[at + least] += max(1.0 - total, 0.0)


@compiled
def _sort_row(z: Array, successor: Index, p: Array, bonus: Array, first: Any, n: Any) -> None:
    """Rearrange a row by its values z (n,)."""
    order = np.argsort(z[:n], kind="mergesort")
    z[:n] = z[:n][order]
    successor[first : first + n] = successor[first : first + n][order]
    p[first : first + n] = p[first : first + n][order]
    if bonus.size > 0:
        bonus[first : first + n] = bonus[first : first + n][order]


@compiled
def fill_rows(
    kind: int,
    parameter: float,
    level: float,
    begin: Index,
    end: Index,
    successor: Index,
    p: Array,
    bonus: Array,
    V: Array,
    outside: Index,
    index: Index,
    W: Array,
    start: Index,
    state: Index,
    q: Array,
) -> None:
    """As `tilt_rows`, for measures that pour mass into the lowest values first.

    A row's transitions are kept in the order of its values: successor, p and bonus are rearranged
    in place, which costs little while that order changes little from call to call.

    Args:
        kind: into FILLS.
        parameter: radius of TV (the mass that moves) or L∞, or the weight of CVaR in the mean.
        level: of CVaR.
    """
    longest: Any = 1
    for k in range(index.size):
        longest = max(longest, np.int64(end[index[k]]) - np.int64(begin[index[k]]))
    z, mass = np.empty(longest), np.empty(longest)
    wanted, paid = start.size > 0, bonus.size > 0
    for k in range(index.size):
        i = index[k]
        first = np.int64(begin[i])
        n = np.int64(end[i]) - first
        for j in range(n):
            z[j] = V[successor[first + j]]
        if paid:
            for j in range(n):
                z[j] += bonus[first + j]
        moves = 0  # by insertion: cheap while nearly sorted
        for j in range(1, n):
            v = z[j]
            if v < z[j - 1]:
                s, w, here = successor[first + j], p[first + j], j
                extra = bonus[first + j] if paid else 0.0
                while here > 0 and v < z[here - 1]:
                    z[here] = z[here - 1]
                    successor[first + here] = successor[first + here - 1]
                    p[first + here] = p[first + here - 1]
                    if paid:
                        bonus[first + here] = bonus[first + here - 1]
                    here -= 1
                z[here], successor[first + here], p[first + here] = v, s, w
                if paid:
                    bonus[first + here] = extra
                moves += j - here
                if moves > 8 * n:
                    _sort_row(z, successor, p, bonus, first, n)
                    break
        low, value, other = z[0], 0.0, -1
        if kind == 0:
            if outside.size > 0:
                other = _outsider(outside, successor, first, n, paid, V, low)
                if other >= 0:
                    low = V[other]
            for j in range(n):
                value += p[first + j] * (z[j] - low)
            left, j = parameter, int(n - 1)
            kept: Any = -1 if other >= 0 else 0  # the state that receives gives nothing
            while j > kept and left > 0.0:
                take = min(left, p[first + j])
                value -= take * (z[j] - low)
                left -= take
                j -= 1
            if wanted:
                moved = parameter - max(left, 0.0)
                for j in range(n):
                    mass[j] = p[first + j]
                left, j = moved, int(n - 1)
                while j > kept and left > 0.0:
                    take = min(left, mass[j])
                    mass[j] -= take
                    left -= take
                    j -= 1
                if other < 0:
                    mass[0] += moved
        else:
            left = parameter if kind == 1 else 1.0
            for j in range(n):
                w = p[first + j]
                mass[j] = (1.0 - parameter) * w if kind == 1 else max(w - parameter, 0.0)
                value += mass[j] * (z[j] - low)
                if kind == 2:
                    left -= mass[j]
            j = 0
            while j < n and left > 0.0:
                w = p[first + j]
                if kind == 1:
                    room = parameter * min(w / level, 1.0)
                else:
                    room = min(w + parameter, 1.0) - mass[j]
                take = min(room, left)
                mass[j] += take
                value += take * (z[j] - low)
                left -= take
                j += 1
        W[k] = low + value
        if wanted:
            at, total = np.int64(start[k]), 0.0
            for j in range(n):
                state[at + j], q[at + j] = successor[first + j], mass[j]
                total += mass[j]
            state[at + n], q[at + n] = successor[first], 0.0
            if other >= 0:
                state[at + n], q[at + n] = other, max(1.0 - total, 0.0)


@compiled
def link_chain(
    gamma: float,
    start: Index,
    state: Index,
    q: Array,
    residual: Array,
    begin: Index,
    end: Index,
    successor: Index,
    weight: Array,
    reward: Array,
) -> None:
    """The chain x = residual + γ q x, for `solve_chain`: self-loops and zeros taken out."""
    n = np.uint32(0)
    for s in range(residual.size):
        stay = 0.0
        for j in range(start[s], start[s + 1]):
            if state[j] == s:
                stay += q[j]
        scale = 1.0 / (1.0 - gamma * stay)
        reward[s] = scale * residual[s]
        begin[s] = n
        for j in range(start[s], start[s + 1]):
            if state[j] != s and q[j] > 0.0:
                successor[n], weight[n] = state[j], scale * gamma * q[j]
                n += np.uint32(1)
        end[s] = n


# ---------------------------------------------------------------- optimistic exploration


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
def row_entropy(model: Counts, i: int, S: int) -> float:
    """H(p̂(· | row i)) in nats."""
    if model.uniform[i] == 1.0:
        return float(np.log(S))
    H = 0.0
    spread = model.uniform[i] / S
    for j in range(model.begin[i], model.end[i]):
        p = model.p[j] + spread
        if p > 0.0:
            H -= p * np.log(p)
    if spread > 0.0:
        H -= (S - (np.int64(model.end[i]) - np.int64(model.begin[i]))) * spread * np.log(spread)
    return float(H)


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
def decide_at(q: Array, s: int, temperature: float, p: Array) -> None:
    """Write into p (S, A) the policy that q (S, A) induces at state s."""
    _decide(q, s, temperature, 1.0, p)


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
