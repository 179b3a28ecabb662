"""Finite Markov decision processes with sparse kernels, and models estimated from counts."""

from __future__ import annotations

import csv
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from rlentropy import kernels
from rlentropy.errors import InputError
from rlentropy.kernels import Array, Count, Rows, World

if TYPE_CHECKING:
    import scipy.sparse as sp

CSV_HEADER = ["idstatefrom", "idaction", "idstateto", "probability", "reward"]
ROUNDING = 1e-8  # how far a distribution may sum from 1


class FiniteMDP:
    """A finite MDP with a stationary sparse kernel; immutable, and valid once built.

    Row ``s * A + a`` of the kernel is the distribution of the next state. Only its nonzeros are
    stored, 12 bytes each.

    Args:
        P: kernel, an array (S, A, S) or a scipy.sparse array or matrix (S*A, S).
        r: reward, (S, A); or per successor, an array (S, A, S) or scipy.sparse (S*A, S), of which
            only the entries where P > 0 count.
        mu: initial distribution, (S,).
        terminal: states where an episode ends, (S,) of bool, default none. They must be absorbing
            with reward 0, which is what a terminated episode means to a planner.

    Raises:
        ValueError: naming the argument and the first offending (s, a): wrong shapes, NaN, negative
            probabilities, rows that don't sum to 1 within 1e-8, duplicate or out-of-range entries.
    """

    r: Array  # (S, A) expected reward
    r_successor: Array | None  # (nnz,) reward of each stored transition, if some (s, a) has several
    mu: Array  # (S,)
    terminal: np.ndarray[Any, np.dtype[np.bool_]]  # (S,)

    def __init__(self, P: Any, r: Any, mu: Any, *, terminal: Any = None) -> None:
        S, A, row, column, p = _entries(P)
        if S == 0 or A == 0:
            raise InputError(f"P must have at least one state and one action, got S={S}, A={A}")
        _check_kernel(S, A, row, column, p)
        keep = p > 0.0
        row, column, p = row[keep], column[keep], p[keep]
        indptr = np.zeros(S * A + 1, np.uint32)
        np.cumsum(np.bincount(row, minlength=S * A), out=indptr[1:])
        # The compiled loops take writable arrays (read-only ones are another type to numba, and a
        # second compilation); users get read-only views.
        self._rows = Rows(indptr[:-1], indptr[1:], column.astype(np.uint32), p, np.zeros(S * A))
        self.num_states, self.num_actions = S, A
        self.r, self.r_successor = _rewards(r, S, A, row, column, p)
        self.mu = _distribution(mu, S, "mu")
        self.terminal = _terminals(terminal, S, A, self._rows, self.r)
        for array in (self.r, self.r_successor, self.mu, self.terminal):
            if array is not None:
                array.flags.writeable = False
        self._frozen = True

    def __setattr__(self, name: str, value: object) -> None:
        if "_frozen" in self.__dict__:  # cached properties don't come through here
            raise AttributeError(f"FiniteMDP is immutable: cannot set {name}")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return (
            f"FiniteMDP(states={self.num_states}, actions={self.num_actions}, "
            f"transitions={self._rows.p.size})"
        )

    @property
    def P(self) -> sp.csr_array:
        """The kernel as a scipy.sparse CSR array (S*A, S), sharing memory; don't write to it."""
        import scipy.sparse as sp

        indptr = np.append(self._rows.begin, self._rows.end[-1]).astype(np.int32)
        shape = (self.num_states * self.num_actions, self.num_states)
        return sp.csr_array((self._rows.p, self._rows.successor.view(np.int32), indptr), shape)

    @property
    def rows(self) -> Rows:
        """The kernel as the compiled loops read it; not to be written to."""
        return self._rows

    @cached_property
    def transition_entropy(self) -> Array:
        """H(P(· | s, a)) in nats, (S, A)."""
        p = self._rows.p
        H = np.add.reduceat(-p * np.log(p), self._rows.begin.astype(np.int64))
        H = np.maximum(H, 0.0).reshape(self.num_states, self.num_actions)
        H.flags.writeable = False
        return H

    @cached_property
    def world(self) -> World:
        """Tables for the compiled simulator."""
        rows = self._rows
        cumulative = np.empty_like(rows.p)
        kernels.running_sums(rows.begin, rows.end, rows.p, cumulative)
        start = np.cumsum(self.mu)
        start[np.flatnonzero(self.mu)[-1] :] = np.inf  # rounding can't start past the last state
        return World(
            rows.begin,
            rows.end,
            rows.successor,
            cumulative,
            start,
            self.terminal.copy(),
        )

    def reachable(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """States that some policy visits with positive probability, (S,)."""
        seen = self.mu > 0.0
        frontier = np.flatnonzero(seen)
        P = self.P
        while frontier.size:
            rows = (frontier[:, None] * self.num_actions + np.arange(self.num_actions)).ravel()
            after = np.unique(P[rows].indices)
            frontier = after[~seen[after]]
            seen[frontier] = True
        return seen

    @classmethod
    def from_env(cls, env: gymnasium.Env[Any, Any]) -> FiniteMDP:
        """The known model of an environment: its ``mdp``, or its toy-text table ``P``.

        Raises:
            ValueError: the environment declares neither, or the table is not an MDP.
        """
        base = env.unwrapped
        if isinstance(mdp := getattr(base, "mdp", None), cls):
            return mdp
        if (table := getattr(base, "P", None)) is not None:
            mu = getattr(base, "initial_state_distrib", None)
            return cls.from_table(table, _initial_distribution(env, len(table), mu))
        raise InputError(
            "env must have a known model (a FiniteMDP as env.unwrapped.mdp or a toy-text table P), "
            f"got {base}"
        )

    @classmethod
    def from_table(cls, table: Any, mu: Any) -> FiniteMDP:
        """From gymnasium's toy-text format.

        Args:
            table: ``table[s][a]`` lists (probability, next state, reward, terminated).
            mu: initial distribution, (S,).

        A state entered with ``terminated`` becomes absorbing with reward 0. A successor listed
        twice counts with the sum of its probabilities and their mean reward.

        Raises:
            ValueError: the table is not an MDP, or a reachable state is entered both with and
                without termination, which no state-based model can express.
        """
        S = len(table)
        A = len(table[0])
        entries = []
        for i in range(S):
            if len(table[i]) != A:
                raise InputError(f"P[{i}] must have {A} actions like P[0], got {len(table[i])}")
            for j in range(A):
                entries += [(i, j, s2, p, r, done) for p, s2, r, done in table[i][j] if p != 0]
        s, a, s2, p, r, done = (np.array(x) for x in zip(*entries, strict=True))
        if outside := [k for k in range(len(s)) if not 0 <= s2[k] < S]:
            k = outside[0]
            raise InputError(
                f"P: successor of (s, a) = ({s[k]}, {a[k]}) must be in 0..{S - 1}, got {s2[k]}"
            )
        terminal = np.zeros(S, bool)
        terminal[s2[done.astype(bool)]] = True
        live = ~terminal[s]
        model = cls._from_transitions(s[live], a[live], s2[live], p[live], r[live], mu, terminal, A)
        both = np.zeros(S, bool)
        both[s2[live & ~done.astype(bool) & model.reachable()[s]]] = True
        both &= terminal
        if both.any():
            raise InputError(
                f"P: state {np.flatnonzero(both)[0]} must be entered either always or never with "
                "termination, got both"
            )
        return model

    @classmethod
    def _from_transitions(
        cls, s: Any, a: Any, s2: Any, p: Any, r: Any, mu: Any, terminal: Any, A: int
    ) -> FiniteMDP:
        """Merge repeated transitions, and let terminal states stay where they are."""
        import scipy.sparse as sp

        S, ends = terminal.size, np.flatnonzero(terminal)
        rows = np.concatenate([s * A + a, (ends[:, None] * A + np.arange(A)).ravel()])
        columns = np.concatenate([s2, np.repeat(ends, A)])
        p = np.concatenate([p, np.ones(ends.size * A)]).astype(np.float64)
        r = np.concatenate([r, np.zeros(ends.size * A)]).astype(np.float64)
        if (bad := np.flatnonzero(~(p >= 0.0))).size:  # before sums can hide it
            k = bad[np.argmin(rows[bad])]
            raise InputError(
                f"P[s, a] must be probabilities, got {p[k]} at (s, a) = {divmod(int(rows[k]), A)}"
            )
        rows, columns, p, r = (x[p > 0.0] for x in (rows, columns, p, r))
        P = sp.coo_array((p, (rows, columns)), shape=(S * A, S)).tocsr()
        gain = sp.coo_array((p * r, (rows, columns)), shape=(S * A, S)).tocsr()
        reward = sp.csr_array((gain.data / P.data, P.indices, P.indptr), shape=P.shape)
        return cls(P, reward, mu, terminal=terminal)

    @classmethod
    def from_csv(cls, path: str | Path, mu: Any = None) -> FiniteMDP:
        """From lines ``idstatefrom,idaction,idstateto,probability,reward`` under that header.

        A state that is only ever a successor is terminal. The format has no initial distribution:
        ``mu`` defaults to uniform.

        Raises:
            ValueError: the header differs, a line doesn't parse, an (s, a, s') comes twice, or the
                result is not an MDP.
        """
        with open(path, newline="") as file:
            header = next(csv.reader(file), [])
            if [name.strip() for name in header] != CSV_HEADER:
                raise InputError(f"{path}: header must be {','.join(CSV_HEADER)}, got {header}")
            try:
                table = np.loadtxt(file, delimiter=",", ndmin=2)
            except ValueError as error:
                raise InputError(f"{path}: every line must hold five numbers: {error}") from None
        if table.shape[1:] != (5,) or not table.size:
            raise InputError(f"{path}: every line must hold five numbers, got {table.shape}")
        ids = table[:, :3]
        whole = ((ids >= 0) & (ids < 2**31) & (ids == np.floor(ids))).all(1)
        if not whole.all():
            got = ids[np.argmin(whole)].tolist()
            raise InputError(f"{path}: ids must be whole numbers >= 0, got {got}")
        index = ids.astype(np.int64)
        s, a, s2 = index.T
        S, A = int(max(s.max(), s2.max())) + 1, int(a.max()) + 1
        order = np.lexsort((s2, s * A + a))
        same = (np.diff(index[order], axis=0) == 0).all(1)
        if same.any():
            k = order[np.flatnonzero(same)[0]]
            raise InputError(f"{path}: duplicate entry at (s, a) = ({s[k]}, {a[k]}), s' = {s2[k]}")
        mu = np.full(S, 1.0 / S) if mu is None else mu
        terminal = np.ones(S, bool)
        terminal[s] = False
        return cls._from_transitions(s, a, s2, table[:, 3], table[:, 4], mu, terminal, A)

    def to_csv(self, path: str | Path) -> None:
        """Write the format of `from_csv`, which has no mu.

        Terminal states get no lines; one that nothing enters gets loops, or it would be lost.
        """
        rows = self._rows
        i = np.repeat(np.arange(rows.begin.size), np.diff(rows.begin, append=rows.end[-1]))
        s, a = np.divmod(i, self.num_actions)
        r = self.r[s, a] if self.r_successor is None else self.r_successor
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(CSV_HEADER)
            entered = np.zeros(self.num_states, bool)
            entered[rows.successor[rows.successor != s]] = True
            live = ~self.terminal[s] | ~entered[s]
            columns = (s, a, rows.successor, rows.p, r)
            writer.writerows(zip(*(c[live].tolist() for c in columns), strict=True))


def known_model(env: gymnasium.Env[Any, Any]) -> FiniteMDP | None:
    """The model that an environment declares, or None."""
    base = env.unwrapped
    declared = isinstance(getattr(base, "mdp", None), FiniteMDP)
    if declared or isinstance(getattr(base, "P", None), dict | list):
        with suppress(InputError):  # a table that is no model of what step does
            return FiniteMDP.from_env(env)
    return None  # an attribute of that name may hold anything


def _entries(P: Any) -> tuple[int, int, Count, Count, Array]:
    """S, A and the entries of P as (row, column, probability), ordered by row, then column."""
    if hasattr(P, "tocoo"):
        if P.ndim != 2 or P.shape[1] == 0 or P.shape[0] % P.shape[1]:
            raise InputError(f"sparse P must be (S*A, S), got {P.shape}")
        S, A = P.shape[1], P.shape[0] // P.shape[1]
        return S, A, *_sparse_entries(P, "P", A)
    P = np.asarray(P, np.float64)
    if P.ndim != 3 or P.shape[0] != P.shape[2]:
        raise InputError(f"P must be (S, A, S), or scipy.sparse (S*A, S), got {P.shape}")
    S, A = P.shape[:2]
    flat = P.reshape(S * A, S)
    row, column = np.nonzero(flat)  # NaN counts as nonzero, and is refused later
    return S, A, row, column, flat[row, column]


def _sparse_entries(M: Any, name: str, A: int) -> tuple[Count, Count, Array]:
    """The entries of a sparse (S*A, S), ordered; refuses what scipy would sum or trip over."""
    S = M.shape[1]
    if M.format == "csr":  # as it is stored: scipy's own conversion may crash on bad indices
        row = np.repeat(np.arange(M.shape[0]), np.diff(M.indptr))
        column, values = M.indices.astype(np.int64), M.data.astype(np.float64)
    else:
        coo = M.tocoo()
        row, column = coo.row.astype(np.int64), coo.col.astype(np.int64)
        values = coo.data.astype(np.float64)
    if (bad := np.flatnonzero((column < 0) | (column >= S))).size:
        k = bad[np.argmin(row[bad])]
        raise InputError(
            f"{name}: successors must be in 0..{S - 1}, got {column[k]} at (s, a) = "
            f"{divmod(int(row[k]), A)}"
        )
    key = row * S + column
    if (np.diff(key) <= 0).any():
        order = np.argsort(key, kind="stable")
        row, column, values, key = row[order], column[order], values[order], key[order]
        if (same := np.flatnonzero(np.diff(key) == 0)).size:
            k = same[0]
            raise InputError(
                f"{name}: duplicate entry at (s, a) = {divmod(int(row[k]), A)}, s' = {column[k]}"
            )
    return row, column, values


def _check_kernel(S: int, A: int, row: Count, column: Count, p: Array) -> None:
    bad = np.zeros(S * A, bool)
    bad[row[~(np.isfinite(p) & (p >= 0.0))]] = True
    total = np.bincount(row, weights=p, minlength=S * A)
    bad |= ~(np.abs(total - 1.0) <= ROUNDING)
    if bad.any():
        i = int(np.argmax(bad))
        entries = p[row == i]
        what = f"sum {total[i]}" if (entries >= 0.0).all() else f"entry {entries.min()}"
        raise InputError(
            f"P[s, a] must be a distribution (entries >= 0, sum 1 within {ROUNDING}), "
            f"got {what} at (s, a) = {divmod(i, A)}"
        )


def _rewards(
    r: Any, S: int, A: int, row: Count, column: Count, p: Array
) -> tuple[Array, Array | None]:
    """Expected reward (S, A), and the reward of each stored transition where r depends on it."""
    successor = None
    if hasattr(r, "tocoo"):
        if r.shape != (S * A, S):
            raise InputError(f"sparse r must be (S*A, S) = {(S * A, S)}, got {r.shape}")
        r_row, r_column, values = _sparse_entries(r, "r", A)
        key = np.append(r_row * S + r_column, S * A * S)  # the last stands for "no such entry"
        wanted = row * S + column
        k = np.searchsorted(key, wanted)
        successor = np.where(key[k] == wanted, np.append(values, 0.0)[k], 0.0)
    else:
        r = np.asarray(r, np.float64)
        if r.shape == (S, A, S):
            successor = r.reshape(S * A, S)[row, column]
        elif r.shape != (S, A):
            raise InputError(f"r must be (S, A) = {(S, A)} or (S, A, S), got {r.shape}")
    if successor is not None:
        begin = np.searchsorted(row, np.arange(S * A))
        least, most = (f.reduceat(successor, begin) for f in (np.minimum, np.maximum))
        if (least == most).all():
            r, successor = least.reshape(S, A), None
        else:
            r = np.bincount(row, weights=p * successor, minlength=S * A).reshape(S, A)
    if not np.isfinite(r).all():
        s, a = np.argwhere(~np.isfinite(r))[0].tolist()
        raise InputError(f"r must be finite, got {r[s, a]} at (s, a) = {(s, a)}")
    return np.array(r), successor


def _distribution(given: Any, S: int, name: str) -> Array:
    mu: Array = np.array(given, np.float64)
    if mu.shape != (S,):
        raise InputError(f"{name} must be (S,) = {(S,)}, got {mu.shape}")
    if not ((mu >= 0.0).all() and abs(mu.sum() - 1.0) <= ROUNDING):
        raise InputError(
            f"{name} must be a distribution (entries >= 0, sum 1 within {ROUNDING}), "
            f"got least entry {mu.min()}, sum {mu.sum()}"
        )
    return mu


def _terminals(terminal: Any, S: int, A: int, rows: Rows, r: Array) -> Any:
    flags = np.zeros(S, bool) if terminal is None else np.array(terminal)
    if flags.shape != (S,) or flags.dtype != bool:
        raise InputError(f"terminal must be (S,) of bool, got {flags.shape} of {flags.dtype}")
    i = (np.flatnonzero(flags)[:, None] * A + np.arange(A)).ravel()
    stays = (rows.end[i] - rows.begin[i] == 1) & (rows.successor[rows.begin[i]] == i // A)
    if (bad := i[~stays | (r.ravel()[i] != 0.0)]).size:
        raise InputError(
            "terminal states must be absorbing with reward 0, got a state that is not at (s, a) = "
            f"{divmod(int(bad[0]), A)}"
        )
    return flags


def _initial_distribution(env: gymnasium.Env[Any, Any], S: int, declared: Any) -> Array:
    """The declared distribution, or the one start state of an environment that declares none."""
    if declared is not None:
        distribution: Array = np.asarray(declared, np.float64)
        return distribution
    start = int(getattr(env.observation_space, "start", 0))
    states = {int(env.reset(seed=seed)[0]) - start for seed in range(100)}
    if len(states) > 1:
        raise InputError(
            "env has a table P but no initial_state_distrib, and its start states vary: "
            f"got {sorted(states)[:5]}"
        )
    only: Array = np.eye(S)[states.pop()]
    return only
