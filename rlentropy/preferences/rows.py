"""Tables that others made, as CSV or JSON lines: cells of a row, or one line that names the row."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from rlentropy.errors import InputError, as_numbers
from rlentropy.files import plain
from rlentropy.types import Array

LARGEST = 2**28  # bytes of a table
LARGEST_CELL = 2**26  # characters
LONGEST = 10_000  # characters of a text
SHOWN = 60  # characters of what came, in a refusal
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what `files.csv_table` puts an apostrophe before


@dataclass(frozen=True)
class Row:
    """A row by the names of its columns; None and empty text are no value."""

    option: str  # what named the file
    path: Path
    number: int  # a line of JSON lines; of CSV a row of the sheet, whose first is its header
    cells: dict[str, Any]

    def refuse(self, name: str, must: str, came: object) -> NoReturn:
        """Say in one line what a cell must be."""
        raise InputError(
            f"{self.option} must have {plain(name)} {must}, got {plain(came, SHOWN)} in row "
            f"{self.number} of {plain(self.path)}"
        )

    def value(self, name: str) -> Any:
        """A cell, stripped where it is text; None where there is none."""
        value = self.cells.get(name)
        if isinstance(value, str):
            value = value.strip()
        return None if value == "" else value

    def needed(self, name: str) -> Any:
        """The same, refused where there is none."""
        if (value := self.value(name)) is None:
            self.refuse(name, "in each row", "none")
        return value

    def text(self, name: str, most: int = LONGEST) -> str | None:
        """Text of at most so many characters."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > most:
            self.refuse(name, f"as text of at most {most} characters", repr(value))
        try:
            value.encode()
        except UnicodeEncodeError:
            self.refuse(name, "as text of whole letters", repr(value))
        return value[1:] if value[0] == "'" and value[1:].startswith(FORMULA) else value

    def number_in(self, name: str, low: float, high: float = math.inf) -> float | None:
        """A finite number from low to high."""
        if (value := self.value(name)) is None:
            return None
        number = as_float(value)
        if number is None or not low <= number <= high:
            most = "" if math.isinf(high) else f" and <= {high:g}"
            self.refuse(name, f"as a finite number >= {low:g}{most}", repr(value))
        return number

    def whole(self, name: str, low: int) -> int | None:
        """A whole number from low to what SQLite holds."""
        number = self.number_in(name, low, 2.0**62)
        if number is not None and number != int(number):
            self.refuse(name, "as a whole number", repr(self.value(name)))
        return None if number is None else int(number)

    def one_of(self, name: str, choices: Collection[str]) -> str | None:
        """One of some words, in letters of any case."""
        value = self.value(name)
        word = value.lower() if isinstance(value, str) else value
        if word is not None and word not in choices:
            self.refuse(name, f"as one of {', '.join(choices)}", repr(value))
        return word

    def flag(self, name: str) -> bool:
        """True or false, 1 or 0; without a value false."""
        value = self.value(name)
        word = str(value).lower() if isinstance(value, str | bool | int) else None
        if value is not None and word not in ("true", "false", "1", "0"):
            self.refuse(name, "as true or false", repr(value))
        return word in ("true", "1")

    def numbers(self, name: str) -> Array:
        """A JSON list, in CSV as text, of finite numbers: (n, …)."""
        value = self.needed(name)
        try:
            found = json.loads(value) if isinstance(value, str) else value
            if not isinstance(found, list):
                raise InputError("no list")
            array: Array = as_numbers(found, name, "in a list")
        except (ValueError, RecursionError):
            self.refuse(name, "as a JSON list of numbers", repr(value))
        if not np.isfinite(array).all():
            self.refuse(name, "as finite numbers", repr(value))
        return array


def as_float(value: Any) -> float | None:
    """A number, or text that is one; None for anything else, and what isn't finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def read_rows(path: Path, option: str) -> list[Row]:
    """The rows of a file that ends in .csv, .jsonl or .ndjson.

    Raises:
        InputError: it is another file, too large, or damaged; names the row.
    """
    kinds = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines}
    if path.suffix.lower() not in kinds:
        raise InputError(f"{option} must be a file that ends in .csv or .jsonl, got {plain(path)}")
    try:
        if not path.is_file():
            raise InputError(f"{option} must be a file, got {plain(path)}")
        if (size := path.stat().st_size) > LARGEST:
            raise InputError(f"{option} must be at most {LARGEST} bytes, got {size} in {path}")
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{option} must be a readable file of UTF-8, got {path}: {error}"
        ) from None
    make = kinds[path.suffix.lower()]
    return [Row(option, path, number, cells) for number, cells in make(text, option, path)]


def _json_lines(text: str, option: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = str(error) or type(error).__name__
            raise InputError(_broken(option, "JSON lines", why, number, path)) from None
        if not isinstance(cells, dict):
            came = f"a {type(cells).__name__}"
            raise InputError(_broken(option, "a JSON object a line", came, number, path))
        yield number, cells


def _csv(text: str, option: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    limit, number = csv.field_size_limit(LARGEST_CELL), 1
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(text), strict=True)
        header = [name.strip() for name in next(rows, [])]
        if not header or len(set(header)) < len(header):
            must = "a header of different names"
            raise InputError(_broken(option, must, ", ".join(header) or "none", 1, path))
        for number, cells in enumerate(rows, 2):
            if cells and len(cells) != len(header):
                came = f"{len(cells)} cells"
                raise InputError(_broken(option, f"{len(header)} cells", came, number, path))
            if any(cells):
                yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(_broken(option, "rows of CSV", error, number + 1, path)) from None
    finally:
        csv.field_size_limit(limit)


def delimiter(text: str) -> str:
    """What separates the cells of a table: spreadsheets of some countries write semicolons."""
    header = re.split("[\r\n]", text, maxsplit=1)[0]
    return next((c for c in ",;\t" if c in header), ",")


def _broken(option: str, must: str, came: object, number: int, path: Path) -> str:
    return f"{option} must be {must}, got {plain(came, SHOWN)} in row {number} of {plain(path)}"
