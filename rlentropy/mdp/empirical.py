"""Models estimated from counts, updated by compiled code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlentropy.errors import InputError, shown, whole
from rlentropy.estimators import check_estimator
from rlentropy.kernels.counting import (
    ADD_C,
    ADD_ROOT_N,
    BRAESS_SAUER,
    Counts,
    first_unsupported,
    record_many,
    renormalise_all,
)
from rlentropy.kernels.rows import Rows
from rlentropy.mdp import FiniteMDP
from rlentropy.types import Count

CODES = {"add-c": ADD_C, "braess-sauer": BRAESS_SAUER, "add-root-n": ADD_ROOT_N}


class EmpiricalModel:
    """Transition frequencies, updated in place by compiled code.

    With N visits of (s, a) of which n(s') went to s', smoothing c and support B:

        p̂(s' | s, a) = (n(s') + c 1{s' in B}) / (N + c |B|),   uniform on B where N = c = 0.

    Other estimators let c depend on n(s') or on N; `rlentropy.estimators` says which is for what.

    Only observed successors (or the given support) are stored; smoothing over all S states is
    carried as one number a row.

    Args:
        num_states, num_actions: S and A.
        smoothing: c >= 0, in visits; for the estimator add-c alone.
        estimator: "add-c"; "braess-sauer", c = 1/2, 1, 3/4 where n(s') = 0, 1, more, for KL; or
            "add-root-n", c = sqrt(N) / |B|, for squared error.
        support: successors that are possible, as scipy.sparse (S*A, S) or a `FiniteMDP`; default
            all states.
        stages: number of separate kernels: 1, or H for a model that depends on the stage.

    Raises:
        ValueError: an argument is out of range, or a support is empty for some (s, a).
    """

    def __init__(
        self,
        num_states: int,
        num_actions: int,
        *,
        smoothing: float = 0.0,
        estimator: str = "add-c",
        support: Any = None,
        stages: int = 1,
    ) -> None:
        check_estimator(estimator, smoothing)
        for name, value in (("num_states", num_states), ("num_actions", num_actions)):
            whole(name, value, 1)
        whole("stages", stages, 1)
        self.num_states, self.num_actions, self.stages = num_states, num_actions, stages
        R = stages * num_states * num_actions
        if isinstance(support, FiniteMDP):
            support = support.P
        if support is None:
            length, successor = np.zeros(R, np.int64), np.empty(0, np.uint32)
        else:
            length, successor = self._support(support)
        end = np.cumsum(length)
        self.counts = Counts(
            begin=(end - length).astype(np.uint32),
            end=end.astype(np.uint32),
            capacity=length.astype(np.uint32),
            successor=successor,
            hits=np.zeros(successor.size, np.int64),
            p=np.zeros(successor.size),
            uniform=np.ones(R),  # of rows that have no support, while they have no visits
            N=np.zeros(R, np.int64),
            used=np.array([successor.size]),
            smoothing=float(smoothing),
            estimator=CODES[estimator],
            restricted=support is not None,
        )
        if support is not None:
            self.counts.uniform[:] = 0.0
            renormalise_all(self.counts, num_states)

    def __repr__(self) -> str:
        stages = f", stages={self.stages}" if self.stages > 1 else ""
        size = f"states={self.num_states}, actions={self.num_actions}{stages}"
        return f"EmpiricalModel({size}, transitions={self.counts.N.sum()} counted)"

    def _support(self, support: Any) -> tuple[Count, Any]:
        S, A = self.num_states, self.num_actions
        if not hasattr(support, "tocsr"):
            raise InputError(f"support must be scipy.sparse or a FiniteMDP, got {shown(support)}")
        if support.shape != (S * A, S):
            raise InputError(f"support must be (S*A, S) = {(S * A, S)}, got {support.shape}")
        support = support.tocsr().copy()
        support.sum_duplicates()
        support.eliminate_zeros()
        length = np.diff(support.indptr)
        if not length.all():
            i = int(np.argmin(length))
            raise InputError(f"support must not be empty, got none at (s, a) = {divmod(i, A)}")
        return (
            np.tile(length, self.stages).astype(np.int64),
            np.tile(support.indices, self.stages).astype(np.uint32),
        )

    @property
    def N(self) -> Count:
        """Visits, (S, A), or (H, S, A) when stage-dependent."""
        shape: tuple[int, ...] = (self.num_states, self.num_actions)
        return self.counts.N.reshape(shape if self.stages == 1 else (self.stages, *shape))

    @property
    def rows(self) -> Rows:
        c = self.counts
        return Rows(c.begin, c.end, c.successor, c.p, c.uniform)

    def reserve(self, transitions: int) -> None:
        """Make room so that this many transitions can be recorded without growing the pool."""
        c = self.counts
        longest = int((c.end - c.begin).max())
        # A row of length l that takes k new successors moves through at most 4 (l + k) + 8 places.
        room = int(c.used[0]) + transitions * (4 * longest + 12)
        if c.restricted or room <= c.p.size:
            return
        size = max(room, 2 * c.p.size)

        def grown(array: Any) -> Any:
            larger = np.zeros(size, array.dtype)
            larger[: array.size] = array
            return larger

        self.counts = c._replace(successor=grown(c.successor), hits=grown(c.hits), p=grown(c.p))

    def update(self, state: Any, action: Any, next_state: Any, stage: Any = 0) -> None:
        """Count transitions; arrays that broadcast together.

        Raises:
            ValueError: an index is out of range or no whole number, or a transition leaves the
                support; nothing is counted then.
        """
        arrays = np.broadcast_arrays(stage, state, action, next_state)
        limits = (self.stages, self.num_states, self.num_actions, self.num_states)
        for name, x, limit in zip(
            ("stage", "state", "action", "next_state"), arrays, limits, strict=True
        ):
            if x.size and not np.issubdtype(x.dtype, np.integer):
                raise InputError(f"{name} must be whole numbers, got {x.dtype}")
            if x.size and (x.min() < 0 or x.max() >= limit):
                raise InputError(f"{name} must be in 0..{limit - 1}, got {x.min()}..{x.max()}")
        h, s, a, s2 = (np.ascontiguousarray(x, np.int64).ravel() for x in arrays)
        i = (h * self.num_states + s) * self.num_actions + a
        if self.counts.restricted and (k := first_unsupported(self.counts, i, s2)) >= 0:
            where = (int(s[k]), int(a[k]))
            raise InputError(f"next_state must be in the support, got {s2[k]} at (s, a) = {where}")
        for k in range(0, i.size, 1024):
            self.reserve(min(1024, i.size - k))
            record_many(self.counts, i[k : k + 1024], s2[k : k + 1024], self.num_states)

    def state_dict(self) -> dict[str, Any]:
        """Counts as plain arrays, without the slack of the pool."""
        c = self.counts
        length = (c.end - c.begin).astype(np.int64)
        places = np.repeat(c.begin - (np.cumsum(length) - length), length) + np.arange(length.sum())
        places = places.astype(np.int64)
        return {"length": length, "successor": c.successor[places], "hits": c.hits[places]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict` of a model made with the same arguments."""
        length = np.asarray(state["length"])
        if length.shape != self.counts.N.shape:
            raise InputError(
                f"state must be of a model with {self.counts.N.size} rows, got {length.size}"
            )
        end = np.cumsum(length)
        hits = np.array(state["hits"], np.int64)
        owner = np.repeat(np.arange(length.size), length)
        N = np.bincount(owner, weights=hits, minlength=length.size).astype(np.int64)
        self.counts = self.counts._replace(
            begin=(end - length).astype(np.uint32),
            end=end.astype(np.uint32),
            capacity=length.astype(np.uint32),
            successor=np.array(state["successor"], np.uint32),
            hits=hits,
            p=np.zeros(hits.size),
            N=N,
            used=np.array([hits.size]),
        )
        renormalise_all(self.counts, self.num_states)
