"""What a campaign reports: tags on the way, figures and policy at the end (preferences §6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from rlentropy.log import Log, drive
from rlentropy.preferences.calibration import reliability_curve, smooth_ece
from rlentropy.preferences.campaign import Campaign, Subject
from rlentropy.preferences.evaluation import LEVEL, labels_to
from rlentropy.preferences.losses import sigmoid
from rlentropy.preferences.segments import Pairs
from rlentropy.types import Array, Count, Mask, Result

LUCKY = (
    "labels of returns reward luck where dynamics are random, and what is learnt from them does; "
    "--oracle regret with --loss cpl doesn't, push-value and value-information ask less about it"
)
PANELS = 4  # of the picture of margins, from the first labels to the last
HELD_OUT = 512  # pairs of the reference, never asked about, by which margins are judged


class Settings(Protocol):
    """What a report repeats of a campaign's options."""

    @property
    def acquisition(self) -> str: ...
    @property
    def oracle(self) -> str: ...
    @property
    def loss(self) -> str: ...


class Reported(Subject, Protocol):
    """A subject that can be evaluated and saved."""

    @property
    def luck_is_judged(self) -> bool: ...  # whether returns depend on more than actions
    def judged_by(self, spec: object) -> Any: ...  # plan of a known model for a teacher, or None
    def held_out(self, n: int, rng: np.random.Generator) -> Pairs: ...  # of the reference
    def figures(self) -> dict[str, float]: ...  # eval tags without their prefix
    def final(self, config: Any) -> dict[str, Any]: ...  # keys of the summary
    def saved(self) -> dict[str, Any]: ...  # what a Result takes: policy or network


class Reporter:
    """Evaluates a campaign without changing it.

    Args:
        held_out: pairs of segments of the reference.
        teacher: None for a person, who is not asked about them.
    """

    def __init__(
        self,
        campaign: Campaign,
        subject: Reported,
        held_out: Pairs,
        teacher: Callable[[Pairs, list[str], Count, Mask], Array] | None,
    ) -> None:
        self.campaign, self.subject, self.held_out = campaign, subject, held_out
        self.y: Array | None = None
        if teacher is not None:
            ids = held_out.query_ids()
            left = np.arange(len(ids)) % 2 == 0
            self.y = teacher(held_out, ids, np.zeros(len(ids), np.int64), left)

    def predictions(self) -> tuple[Array, Array] | None:
        """σ(margin) of the held-out pairs that were answered, and the answers."""
        if self.y is None or not (answered := ~np.isnan(self.y)).any():
            return None
        return sigmoid(self.subject.margins(self.held_out))[answered], self.y[answered]

    def evaluate(self) -> tuple[dict[str, float], dict[str, float]]:
        """Tags of the policy as it is now, which are its scores, too."""
        found = self.subject.figures()
        if (both := self.predictions()) is not None:
            found["calibration_error"] = smooth_ece(*both)
            decided = both[1] != 0.5
            right = np.where(both[0] == 0.5, 0.5, (both[0] > 0.5) == (both[1] > 0.5))
            found["accuracy"] = float(right[decided].mean()) if decided.any() else float("nan")
        tags = {f"eval/{k}": v for k, v in found.items() if np.isfinite(v)}
        return tags, found

    def spend(self, log: Log, labels: int) -> dict[str, float]:
        """Let the campaign buy its labels; returns the scores of the policy in the end."""
        return drive(
            self.campaign,
            log,
            self.evaluate,
            total=labels,
            budget="labels",
            evaluate_first=True,
            last_differs=True,
        )

    def result(self, scores: dict[str, float], config: Settings) -> Result:
        """The end of a run."""
        campaign, costs = self.campaign, self.campaign.costs
        curve = campaign.curve
        returns = [point["return"] for point in curve[1:]]
        normalised = [point.get("normalised_return", float("nan")) for point in curve[1:]]
        known = bool(np.isfinite(normalised).all()) and bool(normalised)
        summary: dict[str, Any] = {
            "labels": campaign.labels,
            "acquisition": config.acquisition,
            "oracle": config.oracle,
            "win_rate": scores.get("win_rate"),
            "mean_return": scores["return"],
            "reference_return": curve[0]["return"],
            "normalised_return": normalised[-1] if known else None,
            "auc": float(np.mean(normalised)) if known else None,
            "return_auc": float(np.mean(returns)) if returns else None,
            "kl": scores["kl"],
            "calibration_error": scores.get("calibration_error"),
            "labels_to_80": labels_to(LEVEL, campaign.at[1:], normalised) if known else None,
            "rounds": campaign.round,
            "skipped": costs["skipped"],
            "candidates": costs["candidates"],
            "env_steps": costs["env_steps"],
            "episodes": 2 * costs["candidates"],
        }
        if campaign.imported:
            summary["imported"] = campaign.imported
        summary |= self.subject.final(config)
        by_return = config.oracle.partition(":")[0] not in ("regret", "human")
        if by_return and config.loss in ("dpo", "ipo") and self.subject.luck_is_judged:
            summary["warning"] = LUCKY
        return Result(summary, **self.subject.saved(), pictures=self.pictures())

    def pictures(self) -> dict[str, Any]:
        """What `rlentropy.plots` draws of the labels and of the held-out pairs, by keyword."""
        found: dict[str, Any] = {}
        if self.campaign.labelled.parts:
            y, margins = self.campaign.labelled.y[self.campaign.imported :], self.campaign.margins
            toward = np.where(y == 0.5, np.nan, np.where(y > 0.5, margins, -margins))
            parts = np.array_split(np.arange(len(y)), min(PANELS, self.campaign.round))
            found["margins"] = {
                "parts": [(f"labels {p[0] + 1} to {p[-1] + 1}", toward[p]) for p in parts]
            }
        if (both := self.predictions()) is not None:
            found["reliability"] = {"curves": [("held-out pairs", reliability_curve(*both))]}
        return found
