"""Search over settings: trials of an Optuna study, each a run (or a few seeds of one) of a sweep.

The study lies in the sweep's folder, and so do the runs. After a kill, at any instant, the same
command goes on: with trials under way at their last checkpoint. The first trial is the command's
defaults, where they are in the space.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from rlentropy.commands.board import Board
from rlentropy.commands.engines import Engine, Event, Job, Outcome, Progress
from rlentropy.commands.plan import Table, parse_seeds
from rlentropy.commands.space import Space, defaults, distributions
from rlentropy.errors import InputError
from rlentropy.files import csv_table, replace_file, writing

STUDY, BEST, MARK = "study.db", "best.toml", "pruned.json"
STARTUP, WARMUP = 10, 4  # trials, and evaluations of each, before anything is pruned
FEW = 4  # complete trials, before settings are compared
MISSING = "search must have Optuna, got none: pip install 'rlentropy[tune]'"


@dataclass
class Attempt:
    """A trial under way."""

    trial: Any  # optuna's
    jobs: list[Job]  # a run for each seed
    reported: int  # evaluations
    scores: list[float] = field(default_factory=list)  # of the runs that ended
    before: int = 0  # their evaluations
    pruned: bool = False

    @property
    def job(self) -> Job:
        return self.jobs[len(self.scores)]


class Search:
    """The trials of a study: what to run next, and what becomes of it.

    Args:
        space: what is searched.
        out: the folder of the study and of all runs.
        trials: how many there shall be; 0: as the space says.

    Raises:
        InputError: Optuna isn't installed, or the folder holds a study of another space.
    """

    def __init__(self, space: Space, out: Path, trials: int = 0) -> None:
        self.space, self.out = space, out
        self.trials = trials or space.trials
        self.seeds = parse_seeds(space.seeds)
        self.failed: list[Outcome] = []
        self.study = open_study(space, out)
        self._waiting: deque[Job] = deque()
        self._attempts: dict[Job, Attempt] = {}
        self._finals: dict[Job, float | None] | None = None  # None: it isn't time yet
        import optuna

        self._over: int = sum(trial.state.is_finished() for trial in self.study.get_trials())
        for trial in self.study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            live = optuna.trial.Trial(self.study, trial._trial_id)
            if set(trial.params) == set(space.space):
                self._begin(live, len(trial.intermediate_values))
            else:  # killed while it was drawn
                self._tell(live, "FAIL")

    @property
    def runs_left(self) -> int:
        """Runs of the trials that aren't over, if none is pruned, and of the finalists."""
        finals = (self.space.finalists + 1) * len(parse_seeds(self.space.final_seeds))
        left = max(0, self.trials - self._over) * len(self.seeds)
        return left + finals * bool(self.space.finalists)

    def take(self) -> Job | None:
        """The next run: of a trial under way, else of a new one."""
        if not self._waiting and self._over + len(self._attempts) < self.trials:
            self._begin(self.study.ask(distributions(self.space)), 0)
        if not self._waiting and not self._attempts and self._finals is None:
            self._finals = dict.fromkeys(self._finalists())
            self._waiting.extend(self._finals)
        return self._waiting.popleft() if self._waiting else None

    def _begin(self, trial: Any, reported: int) -> None:
        jobs = [self._job(trial, seed) for seed in self.seeds]
        self._next(Attempt(trial, jobs, reported))

    def _job(self, trial: Any, seed: int) -> Job:
        return self.space.job(trial.number, seed, self._settings(trial), self.out)

    def _settings(self, trial: Any) -> Table:
        """What was drawn, as options."""
        return {name: self.space.value(name, value) for name, value in trial.params.items()}

    def _finalists(self) -> list[Job]:
        """The runs of the best trials on further seeds, one seed of all before the next.

        The defaults are among them, whatever they were worth: they are what is to be beaten.
        """
        trials = [t for t in self.study.get_trials() if t.state.name in ("COMPLETE", "PRUNED")]
        sign = -1.0 if self.space.direction == "maximize" else 1.0
        complete = [t for t in trials if t.state.name == "COMPLETE"]
        best = sorted(complete, key=lambda t: sign * t.value)[: self.space.finalists]
        usual = [t for t in trials if t not in best and t.params == defaults(self.space)]
        best += usual[:1] if best else []
        return [self._job(t, seed) for seed in parse_seeds(self.space.final_seeds) for t in best]

    def _next(self, attempt: Attempt) -> None:
        self._attempts[attempt.job] = attempt
        self._waiting.append(attempt.job)

    def heard(self, event: Event, engine: Engine, board: Board) -> None:
        """Take note of what happened, and stop the run of a trial that isn't worth it."""
        if isinstance(event, Progress):
            board.began(event)
        elif isinstance(event, Outcome):
            self._ended(event, board)
        else:
            for job, attempt in self._attempts.items():
                if job not in self._waiting and not attempt.pruned and self._look(attempt):
                    attempt.pruned = True
                    engine.stop(job)

    def _look(self, attempt: Attempt) -> bool:
        """Report new evaluations of a trial's run; whether the trial should be pruned."""
        values = self._evaluations(attempt.job.folder)
        for n in range(attempt.reported - attempt.before, len(values)):
            if n >= 0:
                seen = [*attempt.scores, values[n]]
                attempt.reported = attempt.before + n + 1
                attempt.trial.report(sum(seen) / len(seen), attempt.reported)
        return bool(values) and bool(attempt.trial.should_prune())

    def _evaluations(self, folder: Path) -> list[float]:
        """The metric at each evaluation of a run so far."""
        path, values = folder / "metrics.jsonl", []
        with contextlib.suppress(OSError):
            for line in path.read_bytes().split(b"\n")[:-1]:  # the last may be half written
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    if entry["tag"] == self.space.metric:
                        value = entry["value"]
                        values.append(math.nan if value is None else float(value))
        return values

    def _ended(self, outcome: Outcome, board: Board) -> None:
        board.ended(outcome)
        if self._finals is not None:
            values = self._evaluations(outcome.job.folder)
            self._finals[outcome.job] = values[-1] if outcome.state != "failed" else math.nan
            self.failed += [outcome] if outcome.state == "failed" else []
            board.total = board.ends + sum(score is None for score in self._finals.values())
            return
        attempt = self._attempts.pop(outcome.job)
        self._look(attempt)
        if outcome.state == "failed":
            self.failed.append(outcome)
            self._tell(attempt.trial, "FAIL")
        elif attempt.pruned:
            facts = {"trial": attempt.trial.number, "evaluations": attempt.reported}
            replace_file(attempt.job.folder / MARK, (json.dumps(facts) + "\n").encode())
            self._tell(attempt.trial, "PRUNED")
        elif self._scored(attempt):
            self._next(attempt)
            return
        board.total -= len(attempt.jobs) - attempt.jobs.index(outcome.job) - 1
        board.line(f"trial {attempt.trial.number}: {self._standing(attempt.trial.number)}")

    def _scored(self, attempt: Attempt) -> bool:
        """Count a run that is done; whether the trial has another one to do.

        Raises:
            InputError: the run hasn't logged the metric.
        """
        values = self._evaluations(attempt.job.folder)
        if not values:
            raise InputError(
                f"metric must be a tag that {self.space.command} logs (docs/tags.md), "
                f"got {self.space.metric!r}"
            )
        attempt.scores.append(values[-1])
        attempt.before += len(values)
        if len(attempt.scores) < len(attempt.jobs):
            return True
        score = sum(attempt.scores) / len(attempt.scores)
        if math.isfinite(score):
            self._tell(attempt.trial, "COMPLETE", score)
            self.write_best()
        else:
            self._tell(attempt.trial, "FAIL")
        return False

    def _tell(self, trial: Any, state: str, score: float | None = None) -> None:
        """End a trial."""
        from optuna.trial import TrialState

        self.study.tell(trial, score, TrialState[state])
        self._over += 1

    def _standing(self, number: int) -> str:
        """How a trial ended, and which is the best."""
        trial, best = self.study.trials[number], self._best()
        state = trial.state.name.lower()
        text = f"{trial.value:.5g}" if state == "complete" else state
        return text if best is None else f"{text}; best {best.value:.5g}, of trial {best.number}"

    # ---------------------------------------------------------------- what was found

    def _best(self) -> Any:
        """The best trial so far; None where none is complete."""
        try:
            return self.study.best_trial
        except ValueError:
            return None

    def finals(self) -> dict[int, float]:
        """The mean score of each finalist over the further seeds, the best first; {}: not yet."""
        found: dict[str, list[float]] = {}
        for job, score in (self._finals or {}).items():
            if score is None:
                return {}
            found.setdefault(job.label, []).append(score)
        means = {int(label[-4:]): sum(scores) / len(scores) for label, scores in found.items()}
        sign = -1.0 if self.space.direction == "maximize" else 1.0
        finite = [number for number in means if math.isfinite(means[number])]
        return {number: means[number] for number in sorted(finite, key=lambda n: sign * means[n])}

    def _winner(self) -> tuple[Any, float, str] | None:
        """The best trial, its score, and of what that is the mean; None where none is complete."""
        if finals := self.finals():
            number, score = next(iter(finals.items()))
            seeds = len(parse_seeds(self.space.final_seeds))
            return self.study.trials[number], score, f"{seeds} further seeds"
        best = self._best()
        return None if best is None else (best, best.value, f"{len(self.seeds)} seeds")

    def write_best(self) -> None:
        """Write the best settings, as --config reads them."""
        if (winner := self._winner()) is None:
            return
        best, score, seeds = winner
        settings = self._settings(best)
        lines = [
            f"# The best of {self._over} trials of {self.space.command} on {self.space.env_id}:",
            f"# {self.space.metric} = {score:.6g}, the mean of {seeds}, in trial {best.number}.",
            *toml_lines({"env_id": self.space.env_id} | self.space.options | settings),
        ]
        replace_file(self.out / BEST, ("\n".join(lines) + "\n").encode())

    def report(self) -> Iterator[str]:
        """Write the table of trials and the pictures; lines that say what was found."""
        self.write_best()
        trials = [t for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()]
        if not trials:
            return
        finals = self.finals()
        rows = [
            {
                "trial": t.number,
                "state": t.state.name.lower(),
                self.space.metric: t.value,
                **({"final": finals.get(t.number)} if finals else {}),
                "seconds": round(t.duration.total_seconds(), 1) if t.duration else None,
                **{name: t.params.get(name) for name in self.space.space},
            }
            for t in trials
        ]
        replace_file(self.out / "trials.csv", csv_table(rows))
        counts = {
            name: sum(r["state"] == name for r in rows) for name in ("complete", "pruned", "fail")
        }
        yield ", ".join(f"{number} {name}" for name, number in counts.items())
        self._draw(trials)
        for number, score in self.finals().items():
            usual = self.study.trials[number].params == defaults(self.space)
            yield f"finalist {number}{' (the defaults)' * usual}: {score:.6g}"
        if (winner := self._winner()) is not None:
            best, score, seeds = winner
            yield f"best: {score:.6g} in trial {best.number}, the mean of {seeds}"
            yield from (f"  {line}" for line in toml_lines(self._settings(best)))
            yield f"written: {self.out / BEST}; use it with --config"

    def _draw(self, trials: Sequence[Any]) -> None:
        """Draw what the trials found, and which settings mattered, where there are some."""
        from optuna.importance import get_param_importances

        from rlentropy import plots

        metric, maximise = self.space.metric, self.space.direction == "maximize"
        scores = [(t.number, t.state.name.lower(), score_of(t)) for t in trials]
        scores = [score for score in scores if math.isfinite(score[2])]
        complete = [t for t in trials if t.state.name == "COMPLETE"]
        pictures = {}
        if scores:
            pictures["history"] = plots.history(scores, metric, maximise)
        if len(complete) >= FEW:
            logs = {name for name, d in self.space.space.items() if d.get("log")}
            found = [{name: t.params[name] for name in self.space.space} for t in complete]
            values = [t.value for t in complete]
            pictures["settings"] = plots.slices(found, values, logs, metric)
            with contextlib.suppress(RuntimeError, ValueError):  # all scores are the same
                shares = get_param_importances(self.study)
                pictures["importance"] = plots.importance(list(shares.items()))
        for name, figure in pictures.items():
            plots.save(figure, self.out / name)


def score_of(trial: Any) -> float:
    """The score of a trial; of a pruned one the last that was seen of it."""
    seen = trial.intermediate_values
    return float(trial.value if trial.value is not None else seen[max(seen)] if seen else math.nan)


def toml_lines(table: Table) -> list[str]:
    """A table as lines of TOML, tables in it as JSON texts."""
    texts = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in table.items()}
    return [f"{name} = {json.dumps(value)}" for name, value in texts.items()]


def open_study(space: Space, out: Path) -> Any:
    """The study in a folder, or a new one there.

    Raises:
        InputError: Optuna isn't installed, or the study there is of another space.
    """
    try:
        import optuna
    except ImportError:
        raise InputError(MISSING) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    pruner: Any = optuna.pruners.NopPruner()
    if space.prune == "median":
        pruner = optuna.pruners.MedianPruner(STARTUP, WARMUP + 1)
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{(out / STUDY).resolve()}",
            study_name="search",
            direction=cast(Any, space.direction),
            pruner=pruner,
            load_if_exists=True,
        )
    except Exception as error:  # sqlalchemy has dozens of kinds
        reason = str(error).splitlines()[0]
        raise InputError(
            f"out must hold a study of ours, or none, got {out / STUDY}: {reason}"
        ) from None
    # Seeded by how many there are, or a search that goes on would draw its first trials again.
    drawn = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=drawn, multivariate=True)
    facts = json.loads(json.dumps(space.facts()))
    if "space" not in study.user_attrs:
        study.set_user_attr("space", facts)
        if (first := defaults(space)) is not None:
            study.enqueue_trial(first)
        return study
    for name, value in study.user_attrs["space"].items():
        if facts.get(name) != value:
            raise InputError(
                f"{name} must be {value!r} as when the study in {out} began, "
                f"got {facts.get(name)!r}"
            )
    return study
