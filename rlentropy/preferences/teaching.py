"""The teacher of a campaign: an oracle's numbers, the model it judges by, and its noise."""

from __future__ import annotations

import numpy as np

from rlentropy.planning import Plan
from rlentropy.preferences import oracles
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.types import Array, Count, Mask

DIGITS = 9  # of judged scores: sums that differ by rounding alone are ties


class SimulatedTeacher:
    """Answers as `--oracle` says, or as `--person` does behind a judge (preferences §3.1).

    Args:
        spec: from `oracles.parse_oracle`, neither a person nor a judge.
        reference: segments of the reference, whose scores are the unit of temperatures in std.
        plan: V* and Q* of the model, where it is known: of T stages for regrets, of more than T
            for bootstrapped returns.
        seed: of the noise, which belongs to a query and not to who asks it.

    Raises:
        InputError: what is judged needs a known model, or temperatures in std have no unit.
    """

    def __init__(
        self,
        spec: oracles.Teacher,
        reference: Segments,
        plan: Plan | None,
        seed: int,
    ) -> None:
        self.plan, self.seed, self.spec = plan, seed, spec
        self.spec = oracles.resolved(spec, float(self.judged(reference).std()))

    def judged(self, segments: Segments) -> Array:
        """Scores of segments, (N,)."""
        kind, myopic = self.spec.judged, self.spec.myopic
        return oracles.judged_scores(segments, kind, self.plan, myopic).round(DIGITS)

    def __call__(
        self,
        pairs: Pairs,
        ids: list[str],
        repeats: Count,
        left: Mask,
        session: int = 0,
        asked: int = 0,
    ) -> Array:
        """Answers to N questions, (N,): 1, 0, 1/2, or NaN for none.

        Args:
            ids: of the queries.
            repeats: how often each was asked before, (N,).
            left: whether the first segment is shown left, (N,).
            session: rounds of questions before this one.
            asked: questions before these.
        """
        first = oracles.in_order(pairs.a.digests(), pairs.b.digests())
        u = oracles.keyed_uniforms(self.seed, ids, repeats)
        returns = pairs.a.returns, pairs.b.returns
        usual = float(np.concatenate(returns).mean())
        return oracles.answers(
            self.spec,
            self.judged(pairs.a),
            self.judged(pairs.b),
            u,
            first=first,
            left=left,
            asked=asked + np.arange(len(pairs)),
            limits=oracles.thresholds(self.spec, usual, session),
            returns=returns,
        )
