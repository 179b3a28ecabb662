"""The tables of a comparison as people read them: cells of text under a heading, with notes.

A cell never shows an interval that isn't one: a single seed has none, and where all seeds end alike
it says that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlentropy.commands.console import aligned
from rlentropy.files import plain
from rlentropy.intervals import Statistic
from rlentropy.runs.across import EVERY_TASK, Across, Row
from rlentropy.runs.comparable import COSTS, LONGEST, Task, quantity
from rlentropy.runs.comparisons import Compared, spacing

MOST_PAIRS = 15  # of a table of pairs on the screen; the file has all
ONE = "1 seed, no interval"


@dataclass(frozen=True)
class Table:
    """A table as it is shown."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        return "\n".join([self.title, aligned([self.header, *self.rows]), *self.notes])


# ---------------------------------------------------------------- cells


def digits(value: float) -> str:
    return f"{value + 0.0:.4g}"


def number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def with_interval(value: float, low: float, high: float, alike: str = "every seed alike") -> str:
    """A value and its interval, or why there is none."""
    if math.isnan(value):
        return "-"
    if math.isnan(low):
        return f"{digits(value)} ({ONE})"
    if math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-300):
        return f"{digits(value)} ({alike})"
    return f"{digits(value)} [{digits(low)}, {digits(high)}]"


def time_text(row: Row, name: str) -> str:
    """A median and its interval; beyond what was followed they are lower bounds."""
    beyond = f"> {number(row[f'{name}_followed'])}"
    parts = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
    if math.isnan(parts[1]):
        return f"{beyond if math.isinf(parts[0]) else number(parts[0])} ({ONE})"
    shown = [beyond if math.isinf(p) else number(p) for p in parts]
    return shown[0] if math.isinf(parts[1]) else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def chance(p: float) -> str:
    return "-" if math.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.2g}"


# ---------------------------------------------------------------- of one task


def task_tables(c: Compared, statistic: Statistic) -> list[Table]:
    tables = [final_table(c, statistic)]
    different = unequal_budgets(c)
    tables += [reach_table(c)] if c.tables["reach"] else []
    tables += [slope_table(c)] if c.tables["slopes"] else []
    if c.tables.get("pairs"):
        what = quantity(c.task.metrics[0]) if len(c.task.metrics) == 1 else "the same tag"
        unit = f" ({c.task.unit})" if c.task.unit else ""
        pairs = pair_table(c.tables["pairs"], f"final {what}{unit}", c.task.falling)
        tables.append(replace(pairs, notes=(*different, *pairs.notes)))
    return tables


def unequal_budgets(c: Compared) -> tuple[str, ...]:
    """A note where budgets of algorithms differ, by more than a twentieth in every cost."""
    spent = {name: [float(r[name]) for r in c.tables["final"]] for name in c.task.costs}
    if any(max(of) <= 1.05 * min(of) for of in spent.values()):
        return ()
    name, of = c.task.costs[-1], spent[c.task.costs[-1]]
    budgets = f"{number(min(of))} to {number(max(of))} {COSTS.get(name, name)}"
    return (f"budgets differ, {budgets}: final values are of unequal effort",)


def named_costs(task: Task) -> list[str]:
    return [COSTS.get(name, name) for name in task.costs]


def final_table(c: Compared, statistic: Statistic) -> Table:
    """Final values; of several tags a column each, since they are different quantities."""
    task, tags = c.task, c.task.metrics
    columns = [f"final {statistic} [95 %]"] if len(tags) == 1 else [quantity(t) for t in tags]
    rows = []
    for r in c.tables["final"]:
        last = with_interval(r[statistic], r["low"], r["high"])
        budget = (str(r["seeds"]), *(number(r[name]) for name in task.costs))
        rows.append((r["algorithm"], *budget, *(last if t == r["metric"] else "" for t in tags)))
    of = f"{task.quantity}, {', '.join(plain(tag, LONGEST) for tag in tags)}"
    header = ("algorithm", "seeds", *named_costs(task), *columns)
    lone = len(rows) > 1 and len(tags) == 1 and not c.tables.get("pairs")
    notes = ("no pairs: the baseline has no runs here",) if lone else ()
    return Table(f"Final: {of}", header, tuple(rows), notes)


def reach_table(c: Compared) -> Table:
    task = c.task
    columns = [f"median {name} [95 %]" for name in named_costs(task)]
    rows = []
    for r in c.tables["reach"]:
        share, times = f"{r['reached']}/{r['seeds']}", (time_text(r, name) for name in task.costs)
        rows.append((f"{r['gap']:g}", r["algorithm"], share, *times))
    title = f"Cost until the {'gap' if task.falling else 'value'} is reached, at an evaluation"
    factor = spacing(task.algorithms)
    note = (
        f"evaluations are a factor of {factor:.2f} apart, and an interval begins at the one before"
    )
    header = ("to reach", "algorithm", "reached", *columns)
    return Table(title, header, tuple(rows), (note,) if factor > 1.0 else ())


def slope_table(c: Compared) -> Table:
    rows = []
    for r in c.tables["slopes"]:
        slope, low, high = (round(r[k], 3) + 0.0 for k in ("slope", "low", "high"))  # no -0.000
        fit = f"{slope:.3f} [{low:.3f}, {high:.3f}]" if low != high else f"{slope:.3f} (alike)"
        fit = f"{slope:.3f} ({ONE})" if math.isnan(low) else fit
        span = f"{number(r['from_step'])} to {number(r['to_step'])}"
        rows.append((r["algorithm"], f"none: {r['why_none']}" if r["why_none"] else fit, span))
    header = ("algorithm", "slope [95 %]", named_costs(c.task)[-1])
    return Table("Slope of log gap against log cost, where that is a line", header, tuple(rows))


# ---------------------------------------------------------------- pairs, and all tasks


def pair_table(rows: Sequence[Row], of: str, falling: bool) -> Table:
    """Paired differences and probabilities of improvement."""
    cells = []
    for r in rows[:MOST_PAIRS]:
        who = f"{r['algorithm']} - {r['less']}"
        apart = (r[f"difference{end}"] for end in ("", "_low", "_high"))
        value, low, high = (r[f"better{end}"] for end in ("", "_low", "_high"))
        alike = "in every pair" if value in (0.0, 1.0) else "every draw alike"
        shown = (with_interval(*apart), chance(r["p"]), chance(r["p_holm"]))
        cells.append((who, str(r["seeds"]), *shown, with_interval(value, low, high, alike)))
    title = f"Pairs: {of}, difference on shared seeds; below 0 the first is better"
    if not falling:
        title = title.replace("below", "above")
    count = rows[0]["comparisons"]
    notes = [f"p: sign flips, two-sided; Holm over {count} comparison{'s' * (count != 1)}"]
    least = min((2.0 ** (1 - r["seeds"]) for r in rows if r["seeds"] > 1), default=0.0)
    if 0.05 < least:
        notes.append(f"with so few seeds p is at least {least:.2g}")
    if len(rows) > MOST_PAIRS:
        notes.append(f"{len(rows) - MOST_PAIRS} pairs more in pairs.csv; --baseline asks for fewer")
    header = ("algorithms", "seeds", "difference [95 %]", "p", "p (Holm)", "P(first better) [95 %]")
    return Table(title, header, tuple(cells), tuple(notes))


def across_tables(a: Across) -> list[Table]:
    """Scores over all tasks, and pairs; empty where no tasks share algorithms."""
    notes = [f"left out, {line}" for line in a.left_out]
    if "scores" not in a.tables:
        return []
    used = {task.name for task in a.tasks}
    worst = min((r for r in a.tables["runs"] if r["task"] in used), key=lambda r: r["score"])
    if worst["score"] < -1.0:
        scale = a.scales[worst["task"]]
        notes.insert(
            0,
            f"down to {digits(worst['score'])} ({worst['algorithm']} on {worst['task']}), where "
            f"0 and 1 are {digits(scale.zero)} and {digits(scale.one)}; --zero sets it otherwise",
        )
    rows = []
    for r in a.tables["scores"]:
        cells = (
            with_interval(*(r[f"{name}{end}"] for end in ("", "_low", "_high")))
            for name in ("iqm", "mean", "optimality_gap")
        )
        rows.append((r["algorithm"], str(r["tasks"]), str(r["runs"]), *cells))
    header = ("algorithm", "tasks", "runs", "IQM [95 %]", "mean [95 %]", "optimality gap [95 %]")
    scales = {(a.scales[t.name].zero_is, a.scales[t.name].one_is) for t in a.tasks}
    of = "; ".join(f"0 is {zero}, 1 is {one}" for zero, one in sorted(scales))
    title = f"All {len(a.tasks)} tasks: normalised scores of final values"
    tables = [Table(title, header, tuple(rows), (f"scores: {of}", *notes))]
    if a.tables.get("pairs"):
        tables.append(pair_table(a.tables["pairs"], EVERY_TASK, False))
    return tables
