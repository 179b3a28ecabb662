"""Simulated teachers: what they judge of two segments, and how they answer (preferences §3.1).

A teacher is a few numbers, and its answers are a function of the two judged scores and of uniform
numbers. These depend on the seed, the query and how often it was asked, and on nothing else: every
acquisition rule that comes to ask the same question hears the same answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from rlentropy.errors import InputError, in_range, one_of, whole
from rlentropy.planning import Plan
from rlentropy.preferences.judges import Judge
from rlentropy.preferences.losses import sigmoid
from rlentropy.preferences.segments import Segments
from rlentropy.types import Array, Mask

Judged = Literal["return", "bootstrapped-return", "regret"]
JUDGED = ("return", "bootstrapped-return", "regret")
TIES = ("half", "coin")
ORACLES = (*JUDGED, "bradley-terry", "judge", "human")


@dataclass(frozen=True)
class Teacher:
    """A teacher that answers by what it judges, with the irrationalities of B-Pref (§3.1)."""

    judged: Judged = "return"  # of a segment, see `judged_scores`
    temperature: float = 0.0  # τ, in units of what is judged; 0 never errs, inf tosses a coin
    in_std: bool = False  # whether τ counts standard deviations, see `resolved`
    ties: Literal["half", "coin"] = "half"  # of equal scores at τ = 0
    myopic: float = 1.0  # weight of a reward against that of the next step, in (0, 1]
    mistake: float = 0.0  # probability that an answer is turned round, in [0, 1]
    skip: float = 0.0  # ε: no answer where neither return reaches ε of the usual, >= 0
    equal: float = 0.0  # ε: a tie where the returns differ by less than ε of the usual, >= 0
    left_bias: float = 0.0  # extra logit of the segment that is shown left
    drift: float = 0.0  # growth of log τ in 100 answers
    bpref_compat: bool = False  # thresholds of ε² after the first session, as B-Pref has them

    def __post_init__(self) -> None:
        one_of("judged", self.judged, JUDGED)
        one_of("ties", self.ties, TIES)
        in_range("temperature", self.temperature, "[0, inf]")
        in_range("myopic", self.myopic, "(0, 1]")
        in_range("mistake", self.mistake, "[0, 1]")
        in_range("skip", self.skip, "[0, inf)")
        in_range("equal", self.equal, "[0, inf)")
        in_range("left_bias", self.left_bias, "(-inf, inf)")
        in_range("drift", self.drift, "(-inf, inf)")
        if self.temperature == 0.0 and (self.left_bias or self.drift):
            raise InputError(
                "temperature must be > 0 for a left_bias or a drift, which are of logits, got 0"
            )
        if self.myopic < 1.0 and self.judged != "return":
            raise InputError(f"myopic must be 1 unless returns are judged, got {self.myopic}")


@dataclass(frozen=True)
class Human:
    """A person, who answers through a front end of the store."""


Spec = TypeVar("Spec", bound=Teacher | Judge)


class Thresholds(NamedTuple):
    """Below which returns a teacher skips, and within which differences it sees a tie."""

    skip: float = -np.inf
    equal: float = 0.0


# ---------------------------------------------------------------- what --oracle says


def parse_oracle(text: str) -> Teacher | Judge | Human:
    """The teacher that ``--oracle`` names: NAME, NAME:τ, NAME:τ,OPTION=VALUE,…

    τ is in units of the environment's return, or with the suffix ``std`` in standard deviations of
    the returns of the reference. Options are the other fields: ``bradley-terry:1std,mistake=0.1``.

    Raises:
        InputError: no such name or option, or a value that is out of range.
    """
    if not isinstance(text, str):
        raise InputError(f"oracle must be NAME or NAME:TEMPERATURE, got {text!r}")
    name, _, tail = text.strip().partition(":")
    one_of("oracle", name, ORACLES)
    parts = [part.strip() for part in tail.split(",")] if tail else []
    settings: dict[str, Any] = {}
    if parts and "=" not in parts[0]:
        settings = _temperature(name, parts.pop(0))
    kind = {"judge": Judge, "human": Human}.get(name, Teacher)
    settings |= _options(name, kind, parts)
    if kind is Human and settings:
        raise InputError(f"oracle human must have no parameters, got {text!r}")
    if name == "bradley-terry" and "temperature" not in settings:
        raise InputError(f"oracle bradley-terry must have a number after the colon, got {text!r}")
    if name == "return" and "temperature" in settings:
        raise InputError(f"oracle return must have no temperature, got {text!r}; see bradley-terry")
    if name in ("bootstrapped-return", "regret"):
        settings["judged"] = name
    found: Teacher | Judge | Human = kind(**settings)
    return found


def _temperature(name: str, text: str) -> dict[str, Any]:
    number = text.removesuffix("std")
    try:
        return {"temperature": float(number), "in_std": number != text}
    except ValueError:
        raise InputError(f"oracle {name} must have a number as temperature, got {text!r}") from None


def _options(name: str, kind: type, parts: Sequence[str]) -> dict[str, Any]:
    taken = ("judged", "temperature", "in_std")
    defaults: dict[str, Any] = {
        field.name: field.default for field in dataclasses.fields(kind) if field.name not in taken
    }
    found: dict[str, Any] = {}
    for part in parts:
        option, equals, value = part.partition("=")
        option = option.strip().replace("-", "_")
        if not equals:
            raise InputError(f"oracle {name} must have options OPTION=VALUE, got {part!r}")
        one_of(f"option of oracle {name}", option, defaults)
        value, kind_of_value = value.strip().lower(), type(defaults[option])
        try:
            if kind_of_value is bool:
                found[option] = {"true": True, "false": False}[value]
            else:
                found[option] = kind_of_value(value)
        except (ValueError, KeyError):
            raise InputError(f"oracle {name} must have a valid {option}, got {value!r}") from None
    return found


def resolved(teacher: Spec, std: float) -> Spec:
    """The teacher with its temperature in units of what it judges.

    Args:
        std: standard deviation of the judged scores of the reference's segments.

    Raises:
        InputError: it counts standard deviations, and these are 0.
    """
    if not teacher.in_std:
        return teacher
    if not (np.isfinite(std) and std > 0.0):
        raise InputError(
            f"oracle must have its temperature in units of return, without std, where all segments "
            f"of the reference score the same, got a standard deviation of {std}"
        )
    return dataclasses.replace(teacher, temperature=teacher.temperature * std, in_std=False)


# ---------------------------------------------------------------- what is judged


def judged_scores(
    segments: Segments, judged: str = "return", plan: Plan | None = None, myopic: float = 1.0
) -> Array:
    """What a teacher sees in each segment, (N,), whose steps are at times 0, 1, …

        return                Σ_t γ_m^{T-1-t} r_t, where T is the same for all
        bootstrapped-return   Σ_t r_t + V*_L(s_L) of the state it was cut in, 0 where it terminated
        regret                Σ_t Q*_t(s_t, a_t) - V*_t(s_t): how little was given away

    Args:
        plan: V* (H + 1, S) and Q* (H, S, A) of the true model with H >= T; not for returns.
        myopic: γ_m of returns; 1 weighs all steps alike.

    Raises:
        InputError: the plan is missing or too short.
    """
    one_of("judged", judged, JUDGED)
    mask = segments.mask
    T = mask.shape[1]
    if judged == "return":
        total: Array = np.where(mask, segments.rewards, 0.0) @ myopic ** np.arange(T)[::-1]
        return total if myopic < 1.0 else segments.returns
    if plan is None:
        raise InputError(f"oracle {judged} must have an environment with a known model, got none")
    if len(plan.Q) < T:
        raise InputError(f"plan must have at least {T} stages, got {len(plan.Q)}")
    if judged == "regret":
        t, s, a = np.arange(T), segments.states[:, :-1], segments.actions
        s, a = np.where(mask, s, 0), np.where(mask, a, 0)
        advantages: Array = np.where(mask, plan.Q[t, s, a] - plan.V[t, s], 0.0).sum(1)
        return advantages
    ahead = plan.V[segments.lengths, segments.last]
    bootstrapped: Array = segments.returns + np.where(segments.terminated, 0.0, ahead)
    return bootstrapped


def usual_return(returns: Any, T: int, episode_length: float) -> float:
    """What a segment of T steps collects at the rate of recent episodes.

    Args:
        returns: of training episodes, (n,); the last ten count.
        episode_length: their mean number of steps, > 0.

    Raises:
        InputError: there are no episodes, or they have no steps.
    """
    recent = np.asarray(returns, np.float64)[-10:]
    if not recent.size:
        raise InputError("returns must be of at least one episode, got none")
    in_range("episode_length", episode_length, "(0, inf)")
    return float(recent.mean() * T / episode_length)


def thresholds(teacher: Teacher, usual: float, session: int) -> Thresholds:
    """A teacher's thresholds in a round of questions: its ε times the usual return of a segment.

    Args:
        usual: from `usual_return`.
        session: rounds of questions that were asked before.
    """
    whole("session", session, 0)
    power = 2 if teacher.bpref_compat and session > 0 else 1
    return Thresholds(
        skip=teacher.skip**power * usual if teacher.skip else -np.inf,
        equal=teacher.equal**power * usual if teacher.equal else 0.0,
    )


# ---------------------------------------------------------------- answers


def preference(teacher: Teacher, gaps: Array, left: Any = True, asked: Any = 0) -> Array:
    """Probability that the first segment is preferred, (N,), before mistakes, skips and ties.

        σ(gap / τ ± b), and at τ = 0 whether gap > 0, or 1/2 for equal scores

    Args:
        gaps: judged score of the first less that of the second, (N,).
        left: whether the first is shown left, () or (N,).
        asked: answers that the teacher has given before, () or (N,).

    Raises:
        InputError: the temperature counts standard deviations of what nobody has said.
    """
    if teacher.in_std:
        raise InputError("oracle must be resolved: its temperature counts standard deviations")
    if teacher.temperature == 0.0:
        sign: Array = 0.5 * (1.0 + np.sign(gaps))
        return sign
    temperature = teacher.temperature * np.exp(teacher.drift * np.asarray(asked) / 100.0)
    bias = np.where(left, teacher.left_bias, -teacher.left_bias)
    return sigmoid(gaps / temperature + bias)


def answers(
    teacher: Teacher,
    judged_a: Array,
    judged_b: Array,
    uniforms: Array,
    *,
    first: Any = True,
    left: Any = True,
    asked: Any = 0,
    limits: Thresholds | None = None,
    returns: tuple[Array, Array] | None = None,
) -> Array:
    """Answers to N questions, (N,): 1 prefers a, 0 prefers b, 1/2 is a tie, NaN no answer.

    Args:
        judged_a, judged_b: (N,), from `judged_scores`.
        uniforms: (N, 2), of the choice and of the mistake, from `keyed_uniforms`.
        first: whether a is the query's own first segment, () or (N,), see `in_order`. With it both
            orders of a query get answers that add up to 1.
        left: whether a is shown left, () or (N,).
        asked: answers that the teacher has given before, () or (N,).
        limits: of skips and ties, from `thresholds`; default: neither.
        returns: undiscounted, which the limits are of; default: what is judged.
    """
    limits = limits or Thresholds()
    choice = np.where(first, uniforms[:, 0], 1.0 - uniforms[:, 0])
    probability = preference(teacher, judged_a - judged_b, left, asked)
    y = (choice < probability).astype(np.float64)
    y = np.where(uniforms[:, 1] < teacher.mistake, 1.0 - y, y)
    if teacher.temperature == 0.0 and teacher.ties == "half":
        y = np.where(judged_a == judged_b, 0.5, y)
    a, b = (judged_a, judged_b) if returns is None else returns
    y = np.where(np.abs(a - b) < limits.equal, 0.5, y)
    found: Array = np.where(np.maximum(a, b) < limits.skip, np.nan, y)
    return found


# ---------------------------------------------------------------- noise of a query


def in_order(digests_a: Sequence[str], digests_b: Sequence[str]) -> Mask:
    """Whether a is the first of the two in the order that the query's hash takes them in, (N,)."""
    return np.array([a <= b for a, b in zip(digests_a, digests_b, strict=True)], bool)


def keyed_uniforms(seed: int, query_ids: Sequence[str], repeats: Any = 0, k: int = 2) -> Array:
    """Uniform numbers in (0, 1) that depend on these arguments alone, (N, k).

    Each is the hash of its key by the mixing function of SplitMix64 (Steele, Lea and Flood, 2014).

    Args:
        seed: of the teacher, 0..2^64 - 1.
        query_ids: 32 hexadecimal digits each, (N,).
        repeats: how often each query has been asked before, () or (N,).

    Raises:
        InputError: the seed is out of range, or an id is none.
    """
    whole("seed", seed, 0, 2**64 - 1)
    try:
        words = np.frombuffer(bytes.fromhex("".join(query_ids)), ">u8").astype(np.uint64)
        words = words.reshape(len(query_ids), 2)
    except ValueError:
        raise InputError(
            f"query_ids must be of 32 hexadecimal digits each, got {list(query_ids)[:1]}"
        ) from None
    key = _mix(words[:, 0] ^ _mix(np.array([seed], np.uint64) + _STEP))
    key = _mix(key + words[:, 1])
    key = _mix(key ^ _mix(np.atleast_1d(repeats).astype(np.uint64) + _STEP))
    bits = _mix(key[:, None] + _STEP * np.arange(1, k + 1, dtype=np.uint64))
    uniforms: Array = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return uniforms


_STEP = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: Any) -> Any:
    """The finaliser of SplitMix64, a bijection of 64 bits, of an array."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
