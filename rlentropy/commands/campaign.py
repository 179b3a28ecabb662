"""Who answered what: a campaign's report, its export for others, and answers given elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlentropy.commands.console import Console, aligned
from rlentropy.errors import InputError, in_range
from rlentropy.files import pack, plain, read_json, replace_file, writing
from rlentropy.preferences import export
from rlentropy.preferences.accounts import PAUSE, Figure, Figures, Report, Return, report
from rlentropy.preferences.database import FILE
from rlentropy.preferences.imports import import_answers
from rlentropy.preferences.store import Store
from rlentropy.preferences.units import Units
from rlentropy.runs.folder import stored_settings
from rlentropy.wrappers import make_env, trusted

FORMATS = {".jsonl": "json-lines", ".ndjson": "json-lines", ".csv": "csv", ".npz": "imitation"}
TAG = "eval/return"


@dataclass(frozen=True)
class Config:
    """Reports who answered what in a campaign, exports it, or takes answers given elsewhere.

    Use it after label or --oracle human: agreement of labellers, time, what answers cost, and files
    for imitation or TRL.

    Example::

        rlentropy campaign --campaign runs/mine
        rlentropy campaign --campaign runs/mine --export answers.csv
    """

    campaign: str = ""  # a run folder of active-preference, or the campaign folder in it (required)
    json: Path | None = None  # file that the report is written to, too
    hourly_wage: float | None = None  # of a labeller, in any currency: what a unit of return costs
    pause: float = PAUSE  # seconds beyond which a labeller was away, > 0
    # file for others; replaces what is there. Then nothing is reported
    export: Path | None = None
    # of the export; auto: by .jsonl, .csv or .npz (imitation); trl: rows of its DPO trainer
    format: Literal["auto", "json-lines", "csv", "trl", "imitation"] = "auto"
    # .csv or .jsonl of answers to this campaign's questions, all written or none
    answers: Path | None = None
    env_id: str = ""  # whose spaces segments are in; default: the campaign's
    env_kwargs: str = ""  # JSON object of its keyword arguments; default: the campaign's
    quiet: bool = False  # print nothing but errors

    def __post_init__(self) -> None:
        if not self.campaign:
            raise InputError("campaign must be a run folder of active-preference, got none")
        in_range("pause", self.pause, "(0, inf)")
        if self.hourly_wage is not None:
            in_range("hourly_wage", self.hourly_wage, "[0, inf)")
        if self.export is not None and self.kind is None:
            raise InputError(
                f"format must be given where export doesn't end in {', '.join(FORMATS)}, got "
                f"{self.export}"
            )

    @property
    def kind(self) -> str | None:
        """The format of the export."""
        if self.format != "auto" or self.export is None:
            return self.format
        return FORMATS.get(self.export.suffix.lower())


def run(config: Config) -> int:
    """Import, export or report; the exit code.

    Raises:
        InputError: there is no campaign, or a file or an environment doesn't suit it.
    """
    folder, run_folder = places(Path(config.campaign))
    for option, path in (("export", config.export), ("json", config.json)):
        if path is not None and folder.resolve() in path.resolve().parents:
            raise InputError(f"{option} must be outside of the campaign's own folder, got {path}")
    say = Console(config.quiet)
    with closing(Store(folder, must_exist=True)) as store:
        if config.answers is not None:
            found = import_answers(store, config.answers)
            say.line(
                f"{found.written} answers written, {found.late} came after an answer that stands, "
                f"{found.passed_over} rows without one passed over"
            )
        if config.export is not None:
            write("export", config.export, exported(store, config, run_folder))
            say.line(f"written to {config.export}")
        if config.json is None and (config.answers or config.export):
            return 0
        settings = settings_of(run_folder)
        found_report = report(
            export.checked(store),
            labels if type(labels := settings.get("labels")) is int else None,
            returns(run_folder),
            config.hourly_wage,
            config.pause,
        )
        about = store.about
    if config.json is not None:
        text = json.dumps(as_json(found_report, about, config), indent=1, ensure_ascii=False)
        write("json", config.json, text.encode("utf-8", "backslashreplace"))
    if not config.quiet:
        print("\n".join(plain(line) for line in aligned(rows(found_report)).split("\n")))
    return 0


def places(path: Path) -> tuple[Path, Path | None]:
    """The folder with the store that a path names, and the run that it belongs to, if any.

    Raises:
        InputError: there is no store.
    """
    inside = path / "campaign"
    with suppress(OSError):  # a name that is too long
        if (inside / FILE).is_file():
            return inside, path
        if (path / FILE).is_file():
            above = path.resolve().parent
            return path, above if (above / "config.json").is_file() else None
    raise InputError(
        f"campaign must be a run folder of active-preference, or the campaign folder in it, got "
        f"{path}"
    )


def settings_of(run_folder: Path | None) -> dict[str, Any]:
    """The options of the run; none where there is no run."""
    return (stored_settings(run_folder) if run_folder is not None else None) or {}


def write(option: str, path: Path, content: bytes) -> None:
    must = f"{option} must be a file in a writable folder with free space"
    with writing(path, must):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content, must)


# ---------------------------------------------------------------- report


def returns(run_folder: Path | None) -> Return:
    """Of the policy and its reference: as the summary has them, before the end as was evaluated."""
    if run_folder is None:
        return Return(None, None)
    with suppress(FileNotFoundError):
        summary = read_json(run_folder / "summary.json")
        return Return(number(summary.get("mean_return")), number(summary.get("reference_return")))
    seen = evaluations(run_folder / "metrics.jsonl")
    return Return(seen[-1], seen[0]) if seen else Return(None, None)


def evaluations(path: Path) -> list[float]:
    """Returns in the order in which they were logged; a line that is being written is left out."""
    found = []
    with suppress(OSError):
        for line in path.read_bytes().decode("utf-8", "replace").split("\n")[:-1]:
            with suppress(ValueError, RecursionError):
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("tag") == TAG:
                    found += [x for x in [number(entry.get("value"))] if x is not None]
    return found


def number(value: Any) -> float | None:
    plain_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain_number and abs(value) < 1e300 else None


def as_json(found: Report, about: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """A report as JSON holds it."""

    def figures(some: Figures) -> dict[str, Any]:
        return {name: figure._asdict() for name, figure in some.items()}

    return {
        "about": dict(about),
        "pause_seconds": config.pause,
        "hourly_wage": config.hourly_wage,
        "figures": figures(found.campaign),
        "labellers": {name: figures(some) for name, some in found.labellers.items()},
        "between": {name: figures(some) for name, some in found.between.items()},
    }


def rows(found: Report) -> list[tuple[str, ...]]:
    """A report as a table, a row for each figure."""
    table: list[tuple[str, ...]] = [("", "figure", "value", "unit", "n", "95 % interval")]
    groups = [("campaign", found.campaign), *found.labellers.items(), *found.between.items()]
    for who, figures in groups:
        for name, figure in figures.items():
            table.append((plain(who, 40), name, *shown(figure)))
    return table


def shown(figure: Figure) -> tuple[str, str, str, str]:
    value = "-" if figure.value is None else f"{figure.value:.5g}"
    ends = "" if figure.ci95 is None else " to ".join(f"{end:.4g}" for end in figure.ci95)
    return value, figure.unit, str(figure.n), ends


# ---------------------------------------------------------------- export


def exported(store: Store, config: Config, run_folder: Path | None) -> bytes:
    """The content of the file for others.

    Raises:
        InputError: the environment whose units it is in can't be had.
    """
    if config.kind == "csv":
        return export.answers_table(store)
    if config.kind == "trl":
        return lines([json.dumps(row, ensure_ascii=False) for row in export.trl_rows(store)])
    units = units_of(store, config, run_folder)
    if config.kind == "json-lines":
        return lines(export.json_lines(store, units))
    if units is None:
        raise InputError(
            "format must be json-lines, csv or trl for a campaign without segments of an "
            f"environment, got imitation for {store.folder}"
        )
    return pack(export.imitation_arrays(store, units), compressed=True)


def lines(texts: Any) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode("utf-8", "backslashreplace")


def units_of(store: Store, config: Config, run_folder: Path | None) -> Units | None:
    """The units of the campaign's environment; None for texts, and where nothing was asked.

    Raises:
        InputError: the environment must be given, can't be made, or has other spaces.
    """
    record = next(iter(export.checked(store)), None)
    if record is None or export.stored_text(store, record["segment_a"]) is not None:
        return None
    settings, about = settings_of(run_folder), store.about
    env_id = config.env_id or trusted(
        "env_id", settings.get("env_id") or about.get("env_id") or "", store.folder or Path()
    )
    env_kwargs = config.env_kwargs or trusted(
        "env_kwargs",
        settings.get("env_kwargs") or about.get("env_kwargs") or "{}",
        store.folder or Path(),
    )
    if not env_id:
        raise InputError(f"env_id must be given, got none in {store.folder}")
    env = make_env(env_id, env_kwargs, unlimited=False)
    segment = store.segments([record["segment_a"]])
    units = Units.of(env, tabular=segment.states.ndim == 2)
    env.close()
    if not units.fit(segment):
        raise InputError(
            f"env_id must name the campaign's environment, got {env_id} with observations "
            f"{env.observation_space} and actions {env.action_space}"
        )
    return units
