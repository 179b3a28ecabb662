"""A campaign: rounds of candidates, choice, questions, answers and training, within a budget.

In a round the policy rolls out a pool of pairs, an acquisition rule chooses some, a teacher
answers, and the policy learns (preferences §1.5). Answers are durable before they are used. Each
purpose has a generator of its own, so that two campaigns that differ in the rule alone meet the
same start states, the same noise of actions and the same noise of answers.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from rlentropy.diversity import query_kernel, vendi_score
from rlentropy.errors import InputError, one_of
from rlentropy.preferences.acquisition import (
    RULES,
    Pool,
    Rule,
    Selection,
    filter_prompts,
    push_value,
    select,
)
from rlentropy.preferences.beliefs import Belief, Prior, variances
from rlentropy.preferences.routing import Router
from rlentropy.preferences.scores import value_scale
from rlentropy.preferences.segments import Pairs, joined_pairs
from rlentropy.preferences.store import IMPORTED, Reply, Store
from rlentropy.types import Array, Count, Mask, State

DRAWS = 64  # rewards that stand for the posterior where values differ from gaps
ATTEMPTS = 100  # pools of a round, while a teacher leaves questions unanswered
WAIT = 0.2  # seconds between looks for a person's answers

Generator = np.random.Generator
# Pairs, their ids, how often each was asked before, whether the first is shown left, rounds and
# questions before → answers.
Teach = Callable[[Pairs, list[str], Count, Mask, int, int], Array]


class Subject(Protocol):
    """What is aligned: a policy that can roll out pairs from shared starts, be scored and learn."""

    groups: Mapping[str, slice]  # of features, by name; "features" are those of the reward

    def prompts(self, n: int, rng: Generator) -> Count: ...
    def prompt_scores(self, prompts: Count, rng: Generator) -> Array: ...  # entropy, (n,)
    def roll_out(self, prompts: Count, rng: Generator) -> Pairs: ...
    def margins(self, pairs: Pairs) -> Array: ...  # (N,)
    def duplicates(self, pairs: Pairs) -> Mask: ...  # (N,)
    def features(self, pairs: Pairs) -> Array: ...  # x, (N, D)
    # Gaps (J, N) and weights (J,) of an ensemble of its own; None: by the campaign's belief.
    def gaps(self, pairs: Pairs) -> tuple[Array, Array] | None: ...
    def observe(self, pairs: Pairs) -> None: ...  # transitions, free of labels
    @property
    def saw_chance(self) -> bool: ...  # whether something random was seen, so that ΔA is not ΔR
    def values(self, pairs: Pairs, x: Array, w: Array) -> Array: ...  # ΔA (J, N)
    def learn(self, pairs: Pairs, y: Array, newest: int, rng: Generator) -> dict[str, float]: ...
    def digest(self) -> str: ...  # a hash of the policy that rolls out
    def score(self) -> dict[str, float]: ...  # of the policy as it is, once a round
    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State) -> None: ...


@dataclass(frozen=True)
class Plan:
    """How labels are bought."""

    labels: int  # the budget
    batch_size: int = 16  # labels a round
    schedule: tuple[int, ...] = ()  # labels at which rounds end, before those of batch_size
    pool: int = 16  # candidate pairs a label
    prompts: int = 8  # start states scored for each that an entropy filter keeps
    acquisition: str = "random"
    random_share: float | None = None  # of a batch; None: the rule's own
    power: float | None = None  # of scores in soft draws; None: the rule's own
    diversity: str | None = None
    keep_identical: bool = False  # whether pairs of identical segments are chosen like others
    alpha: float | None = None  # of push-value; None: the rule's own
    prior_scales: tuple[float, ...] = ()  # nats; empty: the rule's own
    grace: float = 0.0  # seconds in which a person's last answer of a round can be taken back


@dataclass
class Labelled:
    """All pairs that were answered, in the order in which they were asked."""

    parts: list[Pairs] = field(default_factory=list)
    answers: list[Array] = field(default_factory=list)

    @property
    def pairs(self) -> Pairs:
        if len(self.parts) > 1:
            self.parts = [joined_pairs(self.parts)]
        return self.parts[0]

    @property
    def y(self) -> Array:
        return np.concatenate(self.answers)


@dataclass
class Asked:
    """A batch of questions that is out."""

    pairs: Pairs
    margins: Array
    x: Array | None
    first: int  # position in the round


class Campaign:
    """Spends a budget of labels on a subject; an agent of `rlentropy.log.drive`."""

    stopped = False

    def __init__(
        self,
        subject: Subject,
        plan: Plan,
        teach: Teach | None,
        store: Store,
        rng: Generator,
        front: Callable[[Store, int], int] | None = None,
        router: Router | None = None,
    ) -> None:
        """Start at the reference.

        Args:
            teach: a simulated teacher; None leaves the answers to people.
            front: shows a person the questions of a round, as `console.Front` does, and
                says how many were answered; the store may be filled by any other front end as well.
            router: a judge, who leaves to teacher or people what it is in doubt about.
        """
        self.subject, self.plan, self.teach, self.store = subject, plan, teach, store
        self.front, self.router = front, router
        self.rule: Rule = RULES[plan.acquisition]
        if plan.alpha is not None:
            one_of("acquisition of alpha", plan.acquisition, ("push-value",))
            self.rule = push_value(plan.alpha)
        self.rngs = dict(zip(STREAMS, rng.spawn(len(STREAMS)), strict=True))
        self.round = self.labels = 0  # finished rounds; labels in them
        self.labelled = Labelled()
        self.belief: Belief | None = None
        self.curve: list[dict[str, float]] = [subject.score()]  # at 0 labels, then after each round
        self.at = [0]  # labels at the points of the curve
        self.costs = {"candidates": 0, "env_steps": 0, "skipped": 0}
        self.margins: Array = np.zeros(0)  # of the labelled pairs when they were chosen
        self.asked: Asked | None = None
        self.imported = 0  # pairs that were labelled elsewhere, once they are learnt from
        self.bought = 0  # answered in this round
        self.positions = 0  # asked in this round
        self.figures: dict[str, float] = {}
        self.before: State | None = None  # of the round, while a person is asked
        self.grace = 0.0  # seconds that the last answer must be old before it is learnt from

    # ---------------------------------------------------------------- what drive needs

    @property
    def done(self) -> int:
        return self.labels

    @property
    def step(self) -> int:
        return self.labels

    def advance(self, units: int) -> Mapping[str, float] | None:
        """A round; less where a person has not answered yet."""
        self._learn_imported()
        while True:
            if self.asked is None:
                if self.positions == 0 and self.teach is None:
                    self.before = self._state(copy.deepcopy(self.rngs))
                self._ask(self._target() - self.labels - self.bought)
            if (answers := self._answers()) is None:
                time.sleep(WAIT)
                return None
            self._take(answers)
            if self.labels + self.bought >= self._target():
                return self._finish()

    def _target(self) -> int:
        """Labels at which the present round ends."""
        for total in self.plan.schedule:
            if total > self.labels:
                return min(total, self.plan.labels)
        return min(self.labels + self.plan.batch_size, self.plan.labels)

    # ---------------------------------------------------------------- a round

    def _learn_imported(self) -> None:
        """Learn from what was labelled elsewhere, before the first question."""
        known = self.store.answers(IMPORTED)
        if self.labels or self.positions or self.imported or np.isnan(known).all():
            return
        pairs, y = self.store.labelled(IMPORTED)
        self.imported = len(y)
        self.labelled = Labelled([pairs], [y])
        self.subject.learn(pairs, y, len(y), self.rngs["training"])

    def _ask(self, n: int) -> None:
        """Choose n pairs and write them down as questions."""
        if self.positions >= ATTEMPTS * (n + self.bought):
            raise InputError(
                f"oracle must answer some of {self.positions} questions of a round, got "
                f"{self.bought} answers"
            )
        prompts = self._prompts(n)
        pairs = self.subject.roll_out(prompts, self.rngs["rollouts"])
        self.costs["candidates"] += len(pairs)
        self.costs["env_steps"] += int(pairs.a.lengths.sum() + pairs.b.lengths.sum())
        pool = self._pool(pairs, prompts)
        chosen = select(
            self.rule,
            pool,
            n,
            self.rngs["choice"],
            random_share=self.plan.random_share,
            power=self.plan.power,
            diversity=self.plan.diversity,
        )
        asked = pairs.take(chosen.indices)
        margins = pool.margins[chosen.indices]
        x = None if pool.features is None else pool.features[chosen.indices]
        self._diagnose(pool, chosen, self.subject.features(asked) if x is None else x)
        self.asked = Asked(asked, margins, x, self.positions)
        self.store.ask(
            self.round,
            asked,
            first=self.positions,
            score=chosen.scores[chosen.indices],
            margin=margins,
            propensity=chosen.propensities[chosen.indices],
            entropy=None if pool.entropies is None else pool.entropies[chosen.indices],
            policy=self.subject.digest(),
            replies=self._by_judge(asked, margins),
        )
        self.positions += len(asked)

    def _by_judge(self, pairs: Pairs, margins: Array) -> Sequence[Reply]:
        """What a judge says of questions: answers, and opinions of what it leaves to a person."""
        if self.router is None:
            return ()
        place, bought = (self.round, self.positions), self.labels + self.bought
        return self.router.replies(self.store, place, pairs, margins, bought, self.plan.labels)

    def _prompts(self, n: int) -> Count:
        """Start states of the pool, those of highest entropy where the rule filters them."""
        pool = n * (1 if self.plan.acquisition == "entropy" else self.plan.pool)
        if not self.rule.filters_prompts or self.plan.prompts == 1:
            return self.subject.prompts(pool, self.rngs["prompts"])
        drawn = self.subject.prompts(pool * self.plan.prompts, self.rngs["prompts"])
        scores = self.subject.prompt_scores(drawn, self.rngs["estimates"])
        return drawn[filter_prompts(scores, pool, self.rngs["choice"])]

    def _pool(self, pairs: Pairs, prompts: Count) -> Pool:
        """What the rule may look at."""
        needs, subject = self.rule.needs, self.subject
        margins, duplicates = subject.margins(pairs), subject.duplicates(pairs)
        found: dict[str, Any] = {"prompts": prompts}
        if needs & LEARNT or self.plan.diversity is not None:
            subject.observe(pairs)
            x = found["features"] = subject.features(pairs)
            belief = self._belief(x[~duplicates])
            found["covariance"] = belief.covariance() if "covariance" in needs else None
            if "gaps" in needs:
                ensemble = subject.gaps(pairs)
                found |= self._gaps(belief, pairs, x) if ensemble is None else of(ensemble)
        if "entropies" in needs:
            found["entropies"] = subject.prompt_scores(prompts, self.rngs["estimates"])
        if "true_gaps" in needs:
            found["true_gaps"] = pairs.gaps
        return Pool(margins, None if self.plan.keep_identical else duplicates, **found)

    def _gaps(self, belief: Belief, pairs: Pairs, x: Array) -> dict[str, Array]:
        """Beliefs about return gaps, and about values where luck parts the two."""
        if "values" in self.rule.needs and self.subject.saw_chance:
            w = belief.draws(DRAWS, self.rngs["estimates"])
            values, weights = self.subject.values(pairs, x, w), np.full(DRAWS, 1.0 / DRAWS)
            return {"gaps": w @ x.T, "weights": weights, "values": values}
        gaps, weights = belief.gaps(x)
        return {"gaps": gaps, "weights": weights, "values": gaps}

    def _belief(self, x: Array) -> Belief:
        """The belief; the first pool sets the units of its priors."""
        if self.belief is None:
            self.belief = Belief(variances(self.priors, self.subject.groups, x))
            if self.imported:
                self.belief.update(self.subject.features(self.labelled.pairs), self.labelled.y)
        return self.belief

    @property
    def priors(self) -> list[Prior]:
        """Models of the reward."""
        if self.plan.prior_scales:
            return [Prior(nats, ALL) for nats in self.plan.prior_scales]
        return PRIORS.get(self.plan.acquisition, [Prior(3.0, ALL)])

    def _answers(self) -> Array | None:
        """Answers to the questions that are out, (n,); None while some are missing."""
        assert self.asked is not None
        first, n = self.asked.first, len(self.asked.pairs)
        if self.teach is None:
            if not self._people():
                return None
        elif self.store.pending(self.round):
            ids, repeats = self.store.identities(self.round, first)
            left, _ = self.store.sides(self.round, first)
            before = self.labels + self.bought + self.costs["skipped"]
            found = self.teach(self.asked.pairs, ids, repeats, left, self.round, before)
            person = "" if self.router is None else self.router.person
            self.store.answer_all(self.round, first, found, person)
        return self.store.answers(self.round)[first : first + n]

    def _people(self) -> bool:
        """Whether people have answered what is out, and can take nothing of it back.

        What our own front end asked is final when it returns; others may undo for a while.
        """
        if self.store.pending(self.round):
            given = 0 if self.front is None else self.front(self.store, self.round)
            self.grace = 0.0 if given else self.plan.grace
        return self.store.settle(self.round, self.grace)

    def _take(self, answers: Array) -> None:
        """Keep the pairs that were answered, and let the belief know."""
        assert self.asked is not None
        asked, self.asked = self.asked, None
        decided = np.flatnonzero(~np.isnan(answers))
        self.costs["skipped"] += len(answers) - decided.size
        if not decided.size:
            return
        y, margins = answers[decided], asked.margins[decided]
        self.labelled.parts.append(asked.pairs.take(decided))
        self.labelled.answers.append(y)
        self.margins = np.append(self.margins, margins)
        self.bought += decided.size
        said = y != 0.5
        agree = np.where(margins == 0.0, 0.5, (margins > 0.0) == (y > 0.5))[said]
        self.figures["train/ties"] = float((~said).mean())
        self.figures["train/agreement"] = float(agree.mean()) if said.any() else 0.5
        self.figures["train/margin"] = float(np.abs(margins).mean())
        if self.belief is not None and asked.x is not None:
            x = asked.x[decided]
            guess = (x @ self.belief.mean())[said]
            right = np.where(guess == 0.0, 0.5, (guess > 0.0) == (y[said] > 0.5))
            self.figures["train/belief_agreement"] = float(right.mean()) if said.any() else 0.5
            self.belief.update(x, y)

    def _finish(self) -> dict[str, float]:
        """Train on the round, and close it."""
        newest, self.bought, self.positions = self.bought, 0, 0
        if self.router is not None:
            self.router.listen(self.store, self.round)
        self.labels += newest
        self.round += 1
        labelled = self.labelled
        figures = self.subject.learn(labelled.pairs, labelled.y, newest, self.rngs["training"])
        self.curve.append(self.subject.score())
        self.at.append(self.labels)
        self.before = None
        figures, self.figures = {**self.figures, **figures}, {}
        return figures

    def _diagnose(self, pool: Pool, chosen: Selection, x: Array) -> None:
        """Figures of the choice, whose features are x (n, D)."""
        names = {"duplicates", "degenerate", "pool_score", "batch_score"}
        self.figures |= {f"train/{k}": v for k, v in chosen.diagnostics.items() if k in names}
        if pool.values is not None and pool.weights is not None:
            self.figures["train/value_scale"] = value_scale(pool.values, pool.weights)
        if (distinct := x.any(1)).any():
            self.figures["train/vendi_score"] = vendi_score(query_kernel(x[distinct]))

    # ---------------------------------------------------------------- checkpoints

    def _state(self, rngs: Mapping[str, Generator]) -> State:
        names = STATE
        return {name: copy.copy(getattr(self, name)) for name in names} | {
            "rngs": dict(rngs),
            "subject": self.subject.state_dict(),
            "belief": None if self.belief is None else self.belief.state_dict(),
        }

    def state_dict(self) -> State:
        """The state after the last finished round; answers since then are in the store."""
        return self._state(self.rngs) if self.before is None else self.before

    def load_state_dict(self, state: State) -> None:
        for name in (*STATE, "rngs"):
            setattr(self, name, state[name])
        self.subject.load_state_dict(state["subject"])
        if (stored := state["belief"]) is not None:
            self.belief = Belief(stored["variances"])
            self.belief.load_state_dict(stored)
        for k in range(-1 if self.imported else 0, self.round):
            pairs, y = self.store.labelled(k)
            self.labelled.parts.append(pairs)
            self.labelled.answers.append(y)
            if self.router is not None:
                self.router.listen(self.store, k)


ALL = {"features": 1.0}
PRIORS = {
    "push-value": [Prior(3.0, ALL), Prior(12.0, ALL)],
    "value-information": [
        Prior(12.0, {"features": 0.8, "reference": 0.2}),
        Prior(12.0, {"entered": 0.8, "reference": 0.2}),
        Prior(0.35, {"entered": 0.2, "reference": 0.8}),
    ],
}
# what checkpoints hold as it is
STATE = ("round", "labels", "imported", "curve", "at", "costs", "margins")
STREAMS = ("prompts", "rollouts", "estimates", "choice", "training")
LEARNT = {"gaps", "values", "features", "covariance"}  # what a belief is needed for


def of(ensemble: tuple[Array, Array]) -> dict[str, Array]:
    """A pool's beliefs from an ensemble, for which values are gaps."""
    gaps, weights = ensemble
    return {"gaps": gaps, "weights": weights, "values": gaps}
