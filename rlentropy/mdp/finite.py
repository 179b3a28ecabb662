"""Finite Markov decision processes with sparse kernels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from rlentropy.errors import ROUNDING, InputError, shown
from rlentropy.kernels.rows import Rows
from rlentropy.kernels.sampling import World, running_sums
from rlentropy.mdp import arrays, formats, known
from rlentropy.types import Array, Count

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["ROUNDING", "FiniteMDP", "known_model", "model_or_reason", "of_observations"]


class FiniteMDP:
    """A finite MDP with a stationary sparse kernel; immutable, and valid once built.

    Row ``s * A + a`` of the kernel is the distribution of the next state. Only its nonzeros are
    stored, 12 bytes each.

    A successor of probability 0 may still be listed: by ``support``, by a zero that a sparse P
    stores, or by a line of a CSV file. The nominal model never goes there. Nature may, under any
    risk measure that has a ``support``, whatever that is; measures that force q << p (entropic,
    CVaR, KL, χ², …) take no notice. Terminal states stay where they are.

    Args:
        P: kernel, an array (S, A, S) or a scipy.sparse array or matrix (S*A, S), row s*A + a.
            Arrays with the action first, (A, S, S), are for `from_mdptoolbox`; where A = S the two
            look alike, and here the first axis is read as the state. So are the rows a*S + s of
            sparse stacks, which always look alike.
        r: reward, (S, A); or per successor, an array (S, A, S) or scipy.sparse (S*A, S), of which
            only entries where P > 0, or that are listed, count. Rewards of one (s, a) that agree
            to 12 digits are one reward.
        mu: initial distribution, (S,).
        terminal: states where an episode ends, (S,) of bool, default none. They must be absorbing
            with reward 0, which is what a terminated episode means to a planner.
        support: listed successors, of bool (S, A, S) or scipy.sparse (S*A, S); those that P enters
            anyway need not be among them.
        normalise: rescale P's rows and mu to sum 1. Float32 ones are, within their own rounding.
        state_ids, action_ids: what a file calls the states (S,) and actions (A,): whole numbers
            that ascend. Default: 0, 1, …. Messages use them.

    Raises:
        ValueError: naming the argument and the first offending (s, a): wrong shapes, text, NaN,
            negative probabilities, rows that don't sum to 1 within 1e-8, duplicate or out-of-range
            entries.
    """

    r: Array  # (S, A) expected reward
    r_successor: Array | None  # (nnz,) reward of each stored transition, if some (s, a) has several
    mu: Array  # (S,)
    terminal: np.ndarray[Any, np.dtype[np.bool_]]  # (S,)
    state_ids: Count  # (S,)
    action_ids: Count  # (A,)

    def __init__(
        self,
        P: Any,
        r: Any,
        mu: Any,
        *,
        terminal: Any = None,
        support: Any = None,
        normalise: bool = False,
        state_ids: Any = None,
        action_ids: Any = None,
    ) -> None:
        if not isinstance(normalise, bool):
            raise InputError(f"normalise must be True or False, got a {type(normalise).__name__}")
        entries = arrays.kernel_entries(P)
        S, A = entries.S, entries.A
        if S == 0 or A == 0:
            raise InputError(f"P must have at least one state and one action, got S={S}, A={A}")

        if state_ids is not None:
            state_ids = arrays.checked_ids(state_ids, S, "state_ids")
        if action_ids is not None:
            action_ids = arrays.checked_ids(action_ids, A, "action_ids")

        def place(i: int) -> tuple[int, int]:
            s, a = divmod(i, A)
            called = [(s, state_ids), (a, action_ids)]
            s, a = (k if ids is None else int(ids[k]) for k, ids in called)
            return s, a

        entries = entries._replace(p=arrays.checked_kernel(entries, normalise, place))
        if support is not None:
            entries = arrays.with_support(entries, support)
        self.terminal = arrays.terminal_flags(terminal, S)
        entries = arrays.chosen(entries, (entries.p > 0.0) | ~self.terminal[entries.row // A])
        self.num_states, self.num_actions = S, A
        self.r, each, differs = arrays.checked_rewards(r, entries, place)
        some = entries.p > 0.0
        self._rows = arrays.as_rows(arrays.chosen(entries, some))
        self.r_successor = each[some] if differs[some].any() else None
        # The listed: with the others where nature reads them, and what it pays where r doesn't say.
        self._supported = None if some.all() else arrays.as_rows(entries)
        self._supported_r = each if differs.any() and not some.all() else None
        arrays.check_absorbing(self.terminal, A, self._rows, self.r, place)
        self.mu = arrays.distribution(mu, S, "mu", normalise)
        self.state_ids = np.arange(S) if state_ids is None else state_ids
        self.action_ids = np.arange(A) if action_ids is None else action_ids
        read_only = (self.r, self.r_successor, self.mu, self.terminal)
        for array in (*read_only, self.state_ids, self.action_ids):
            if array is not None:
                array.flags.writeable = False
        self._frozen = True

    def __setattr__(self, name: str, value: object) -> None:
        if "_frozen" in self.__dict__:  # cached properties don't come through here
            raise AttributeError(f"FiniteMDP is immutable: cannot set {name}")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        text = f"states={self.num_states}, actions={self.num_actions}"
        text += f", transitions={self._rows.p.size}"
        if self._supported is not None:
            text += f", listed={self._supported.p.size - self._rows.p.size}"
        for name in ("state_ids", "action_ids"):
            ids = getattr(self, name)
            if ids[-1] != ids.size - 1:  # not 0, 1, …
                text += f", {name}={_shortened(ids)}"
        return f"FiniteMDP({text})"

    def __eq__(self, other: object) -> bool:
        """Whether all that was given is the same to the last bit, listed successors included."""
        if not isinstance(other, FiniteMDP):
            return NotImplemented
        both = (self._compared(), other._compared())
        return all(np.array_equal(one, two) for one, two in zip(*both, strict=True))

    def __hash__(self) -> int:
        return hash((self.num_states, self.num_actions, self._rows.p.size, float(self.r.sum())))

    def _compared(self) -> tuple[Any, ...]:
        (rows, rewards), names = self.supported_rows, (self.state_ids, self.action_ids)
        given = (self.r, () if rewards is None else rewards, self.mu, self.terminal)
        return (*given, *names, *rows)

    @property
    def P(self) -> sp.csr_array:
        """The kernel as a scipy.sparse CSR array (S*A, S), sharing memory; don't write to it."""
        return self._csr(self._rows)

    @cached_property
    def support(self) -> sp.csr_array | None:
        """Listed successors of probability 0, of bool, as CSR (S*A, S); None if there are none."""
        if self._supported is None:
            return None
        import scipy.sparse as sp

        P = self._csr(self._supported).tocoo()
        listed = P.data == 0.0
        places = (P.row[listed], P.col[listed])
        return sp.coo_array((np.ones(places[0].size, bool), places), shape=P.shape).tocsr()

    def _csr(self, rows: Rows) -> sp.csr_array:
        import scipy.sparse as sp

        indptr = np.append(rows.begin, rows.end[-1]).astype(np.int32)
        shape = (self.num_states * self.num_actions, self.num_states)
        return sp.csr_array((rows.p, rows.successor.view(np.int32), indptr), shape)

    @property
    def rows(self) -> Rows:
        """The kernel as the compiled loops read it; not to be written to."""
        return self._rows

    @property
    def supported_rows(self) -> tuple[Rows, Array | None]:
        """`rows` with the listed successors, and their rewards where r(s, a) doesn't tell them."""
        if self._supported is None:
            return self._rows, self.r_successor
        return self._supported, self._supported_r

    @cached_property
    def sums(self) -> Array:
        """What each row of the kernel sums to, (S*A,): 1 to rounding, or to what was accepted."""
        return np.add.reduceat(self._rows.p, self._rows.begin.astype(np.int64))

    @cached_property
    def defect(self) -> float:
        """How far a row's sum may be from 1."""
        return float(np.abs(self.sums - 1.0).max())

    @cached_property
    def largest_reward(self) -> float:
        """max |r|."""
        return max(float(self.r.max()), -float(self.r.min()))

    @cached_property
    def longest(self) -> int:
        """The most successors that a row stores."""
        return int((self._rows.end - self._rows.begin).max())

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
        running_sums(rows.begin, rows.end, rows.p, cumulative)
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

        It counts only behind passive wrappers, and while it agrees with some hundred steps of a
        copy of the environment (`rlentropy.mdp.known`); environments that do nothing but draw from
        their ``mdp`` are believed. A table's model may have one more state than the environment,
        see `from_table`.

        Raises:
            ValueError: the environment declares neither, a wrapper may change it, the table is not
                an MDP, or it isn't what `step` does.
        """
        base = known.behind(env)
        mdp, table = known.attribute(base, "mdp"), known.attribute(base, "P")
        if isinstance(mdp, cls):
            known.check_spaces(base, mdp.num_states, mdp.num_actions)
            if not known.draws_from_mdp(base):
                known.check_law(base, mdp, mdp._outcomes)
            return mdp
        if table is None:
            raise InputError(
                "env must have a known model (a FiniteMDP as env.unwrapped.mdp or a toy-text table "
                f"P), got {base}"
            )
        lines, done, A = formats.read_table(table)
        S = len(table)
        known.check_spaces(base, S, A)
        mu = known.attribute(base, "initial_state_distrib")
        model = cls._from_table(lines, done, S, A, _only_start(base, S) if mu is None else mu)
        known.check_law(base, model, lambda s, a: table[s][a])
        return model

    @classmethod
    def from_table(cls, table: Any, mu: Any) -> FiniteMDP:
        """From gymnasium's toy-text format.

        Args:
            table: ``table[s][a]`` lists (probability, next state, reward, terminated).
            mu: initial distribution, (S,).

        A state that is only ever entered with ``terminated`` becomes absorbing with reward 0. Where
        some state is entered both with and without (or is a start), one more absorbing state, the
        last, takes the place of the terminated entries into such states: the model has S + 1
        states, or S + k where k such entries of one (s, a) must be told apart. A successor listed
        twice counts with the sum of its probabilities and their mean reward; one of probability 0
        is left out, since gymnasium's own tables are full of them.

        Raises:
            ValueError: the table is not an MDP.
        """
        lines, done, A = formats.read_table(table)
        return cls._from_table(lines, done, len(table), A, mu)

    @classmethod
    def _from_table(cls, lines: formats.Lines, done: Any, S: int, A: int, mu: Any) -> FiniteMDP:
        mu = arrays.distribution(mu, S, "mu")
        ended, both = np.zeros(S, bool), np.zeros(S, bool)
        ended[lines.s2[done]] = True
        fresh = ended & (mu > 0.0)
        while True:
            both |= fresh
            s2, extra = formats.with_ends(lines, done & both[lines.s2], S)
            terminal = np.append(ended & ~both, np.ones(extra, bool))
            live = ~terminal[lines.s]
            P, r = formats.as_arguments(lines._replace(s2=s2).where(live), terminal, A)
            model = cls(P, r, np.append(mu, np.zeros(extra)), terminal=terminal)
            fresh = np.zeros(S, bool)
            fresh[lines.s2[live & ~done & model.reachable()[lines.s]]] = True
            fresh &= terminal[:S]
            if not fresh.any():
                return model

    @classmethod
    def from_mdptoolbox(cls, P: Any, R: Any, mu: Any = None, **options: Any) -> FiniteMDP:
        """From arrays with the action first, as pymdptoolbox and others keep them.

        Args:
            P: kernel, (A, S, S); a list of A arrays or scipy.sparse (S, S); or one scipy.sparse
                stack (A*S, S) in row order a*S + s. Where A = S an array (S, A, S) looks the same:
                here the first axis is read as the action.
            R: reward, (S,), (S, A), (A, S, S) or a list of A scipy.sparse (S, S).
            mu: initial distribution, (S,); default uniform, as the format has none.
            options: those of `FiniteMDP`.

        Raises:
            ValueError: a shape is none of these, or the result is not an MDP.
        """
        kernel, r = formats.read_mdptoolbox(P, R)
        S = kernel.shape[-1]
        return cls(kernel, r, np.full(S, 1.0 / S) if mu is None else mu, **options)

    @classmethod
    def from_csv(cls, path: str | Path, mu: Any = None) -> FiniteMDP:
        """From lines ``idstatefrom,idaction,idstateto,probability,reward`` under that header.

        The ids that occur are the states and actions, in ascending order: ``state_ids[s]`` and
        ``action_ids[a]`` are what the file calls them. A state that is only ever a successor is
        terminal, as is one whose only lines are loops of probability 0 and reward 0. Any other
        line of probability 0 lists a successor that nature may choose. Columns may come in any
        order, separated by commas, semicolons or tabs, in UTF-8 or UTF-16, plain or as .gz, .bz2
        or .xz.

        Args:
            mu: initial distribution, (S,) in the order of state_ids; the format has none. Default:
                uniform over all states.

        Raises:
            ValueError: naming the file: it is no such text, a column is missing, a line doesn't
                parse, an (s, a, s') comes twice; or the result is not an MDP.
        """
        lines, terminal, states, actions = formats.read_csv(path)
        P, r = formats.as_arguments(lines, terminal, actions.size)
        S = states.size
        mu = np.full(S, 1.0 / S) if mu is None else mu
        try:
            return cls(P, r, mu, terminal=terminal, state_ids=states, action_ids=actions)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def to_csv(self, path: str | Path) -> None:
        """Write the format of `from_csv`, which has no mu; all else comes back to the last bit.

        Terminal states get no lines, or, where nothing enters them, loops of probability 0.
        """
        rows, rewards = self.supported_rows
        A = self.num_actions
        i = np.repeat(np.arange(rows.begin.size), np.diff(rows.begin, append=rows.end[-1]))
        s, s2 = i // A, rows.successor.astype(np.int64)
        r = self.r.ravel()[i] if rewards is None else rewards
        live = ~self.terminal[s]
        entered = np.zeros(self.num_states, bool)
        entered[s2[live]] = True
        lost = self.terminal[s] & ~entered[s]
        p = np.where(lost, 0.0, rows.p)
        columns = (self.state_ids[s], self.action_ids[i % A], self.state_ids[s2], p, r)
        formats.write_csv(path, [column[live | lost] for column in columns])

    def _outcomes(self, s: int, a: int) -> list[known.Outcome]:
        """(probability, successor, reward, terminated) of (s, a)."""
        i = s * self.num_actions + a
        part = slice(int(self._rows.begin[i]), int(self._rows.end[i]))
        successor, p = self._rows.successor[part].astype(int), self._rows.p[part]
        r = self.r_successor
        gain = np.full(p.size, self.r[s, a]) if r is None else r[part]
        columns = (p, successor, gain, self.terminal[successor])
        return list(zip(*(column.tolist() for column in columns), strict=True))


def check_mdp(mdp: Any) -> None:
    """Refuse what is no model.

    Raises:
        InputError: says how an environment's is had.
    """
    if not isinstance(mdp, FiniteMDP):
        way = ""
        if isinstance(mdp, gymnasium.Env):
            way = "; FiniteMDP.from_env(env) is an environment's, where it is known"
        raise InputError(f"mdp must be a FiniteMDP, got {shown(mdp)}{way}")


def known_model(env: gymnasium.Env[Any, Any]) -> FiniteMDP | None:
    """The model that an environment declares, or None where it has none that can be trusted."""
    return model_or_reason(env)[0]


def model_or_reason(env: gymnasium.Env[Any, Any]) -> tuple[FiniteMDP | None, str]:
    """The model whose states are the observations, or None and why; nothing raises."""
    try:
        model = FiniteMDP.from_env(env)
        S = int(env.observation_space.n)  # type: ignore[attr-defined]
    except InputError as error:
        return None, str(error)
    except Exception as error:  # attributes of these names may hold anything
        return None, f"env's model can't be read: {type(error).__name__}: {error}"
    if model.num_states != S:
        return None, (
            "env's model must have the observations for states, got more: states that are entered "
            "both with and without termination"
        )
    return model, ""


def of_observations(env: gymnasium.Env[Any, Any], tables: Mapping[str, Array]) -> dict[str, Array]:
    """The rows of the environment's own states, of tables (S, …) of its model: see `from_table`."""
    S = int(env.observation_space.n)  # type: ignore[attr-defined]
    return {name: table[:S] for name, table in tables.items()}


def _only_start(env: gymnasium.Env[Any, Any], S: int) -> Array:
    """The one start state of an environment that declares no distribution."""
    states = known.start_states(env)
    if len(states) > 1:
        raise InputError(
            "env has a table P but no initial_state_distrib, and its start states vary: "
            f"got {states[:5]}"
        )
    only: Array = np.zeros(S)
    only[states[0]] = 1.0
    return only


def _shortened(ids: Count) -> str:
    shown = ids.tolist() if ids.size <= 6 else [*ids[:3].tolist(), "…", int(ids[-1])]
    return "[" + ", ".join(map(str, shown)) + "]"
