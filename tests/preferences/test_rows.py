"""Tables that others made: what is read of them, and the row that a refusal names."""

import csv
import json
import re

import numpy as np
import pytest

from rlentropy.errors import InputError
from rlentropy.files import csv_table
from rlentropy.preferences.rows import Row, as_float, read_rows


def row(**cells):
    return Row("answers", "a.csv", 3, cells)


def test_both_formats_say_the_same(tmp_path):
    cells = [
        {"answer": "a", "reason": 'he said "so",\nand 状态 🙂'},
        {"answer": "tie", "reason": "x"},
    ]
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + csv_table(cells))  # as Excel begins it
    (tmp_path / "t.JSONL").write_text("\n".join(map(json.dumps, cells)) + "\r\n\n", "utf-8")
    for name, first in (("t.csv", 2), ("t.JSONL", 1)):
        found = read_rows(tmp_path / name, "answers")
        assert [r.cells for r in found] == cells
        assert [r.number for r in found] == [first, first + 1]


@pytest.mark.parametrize("between", [";", "\t"])
def test_spreadsheets_of_other_countries(tmp_path, between):
    (tmp_path / "t.csv").write_text(f'answer{between}reason\r\na{between}"so, so"\r\n')
    (found,) = read_rows(tmp_path / "t.csv", "answers")
    assert found.cells == {"answer": "a", "reason": "so, so"}


def test_empty_rows_are_none_and_empty_cells_no_value(tmp_path):
    (tmp_path / "t.csv").write_text("answer, reason\n\n,\na,  \n")
    (found,) = read_rows(tmp_path / "t.csv", "answers")
    assert (found.number, found.value("answer"), found.value("reason")) == (4, "a", None)
    assert found.value("nowhere") is None
    with pytest.raises(InputError, match="answers must have x in each row, got none in row 4"):
        found.needed("x")


def test_huge_cells(tmp_path):
    numbers = np.arange(100_000).tolist()
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["states_a"], [json.dumps(numbers)]])
    limit = csv.field_size_limit()
    (found,) = read_rows(tmp_path / "t.csv", "pairs")
    np.testing.assert_array_equal(found.numbers("states_a"), numbers)
    assert csv.field_size_limit() == limit
    text = "x" * 10**6
    (tmp_path / "t.jsonl").write_text(json.dumps({"reason": text}))
    with pytest.raises(InputError, match=r"reason as text of at most 10000 char.*row 1 of") as why:
        read_rows(tmp_path / "t.jsonl", "answers")[0].text("reason")
    assert len(str(why.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("t.txt", b"", "must be a file that ends in .csv or .jsonl, got"),
        ("none.csv", None, "must be a file, got"),
        ("t.csv", b"", "a header of different names, got none in row 1"),
        ("t.csv", b"a,b,a\n", "a header of different names, got a, b, a in row 1"),
        ("t.csv", b"a,b\n1,2\n\n1,2,3\n", "must be 2 cells, got 3 cells in row 4"),
        ("t.csv", b'a,b\n1,2\n"1"x,2\n', "must be rows of CSV, got .* in row 3"),
        ("t.csv", b'a,b\n1,"2\n', "must be rows of CSV, got unexpected end of data in row 2"),
        ("t.csv", b"a\n\xff\n", "must be a readable file of UTF-8"),
        ("t.jsonl", b'{"a": 1}\n{"a": }\n', "must be JSON lines, got .* in row 2"),
        ("t.jsonl", b'\n[{"a": 1}]\n', "a JSON object a line, got a list in row 2"),
        ("t.jsonl", b"[" * 100_000, "must be JSON lines, got .* in row 1"),
        ("t.jsonl", b'{"a": ' + b"9" * 5000 + b"}", "must be JSON lines, got .* in row 1"),
    ],
)
def test_damaged_files(tmp_path, name, content, why):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=why) as error:
        read_rows(tmp_path / name, "answers")
    assert "\n" not in str(error.value)


def test_files_that_are_too_large_or_none(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("answer\na\n")
    monkeypatch.setattr("rlentropy.preferences.rows.LARGEST", 5)
    with pytest.raises(InputError, match="must be at most 5 bytes, got 9"):
        read_rows(tmp_path / "t.csv", "answers")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(InputError, match="must be a file"):
        read_rows(tmp_path / "d.csv", "answers")
    with pytest.raises(InputError, match="must be a"):
        read_rows(tmp_path / ("x" * 5000 + ".csv"), "answers")


def test_texts():
    assert row(x=" 状态 ").text("x") == "状态"
    assert row(x="'=1+1").text("x") == "=1+1"  # what csv_table made safe
    assert row(x="'tis").text("x") == "'tis"
    for value in (3, ["a"], "x" * 11):
        with pytest.raises(InputError, match="x as text of at most 10 characters"):
            row(x=value).text("x", 10)
    with pytest.raises(InputError, match="x as text of whole letters"):
        row(x="\ud800").text("x")


def test_numbers_and_words():
    assert [as_float(x) for x in (1, " 0.5 ", "1e3", 0.0)] == [1.0, 0.5, 1000.0, 0.0]
    for odd in ("nan", "inf", "x", True, None, [1], 10**400, "1" * 10**5):
        assert as_float(odd) is None
    assert row(x="3").number_in("x", 0) == 3.0
    for value in (-1, "nan", True, {}):
        with pytest.raises(InputError, match=re.escape("x as a finite number >= 0, got ")):
            row(x=value).number_in("x", 0)
    with pytest.raises(InputError, match="x as a finite number >= 0 and <= 1"):
        row(x=2).number_in("x", 0, 1)
    assert (row(x="7").whole("x", 0), row().whole("x", 0)) == (7, None)
    with pytest.raises(InputError, match=r"x as a whole number, got '7.5' in row 3 of a.csv"):
        row(x="7.5").whole("x", 0)
    with pytest.raises(InputError, match="x as a finite number"):
        row(x=10**30).whole("x", 0)
    assert row(x=" A").one_of("x", ("a", "b")) == "a"
    for value in ("c", 1, ["a"]):
        with pytest.raises(InputError, match="x as one of a, b"):
            row(x=value).one_of("x", ("a", "b"))
    assert [row(x=x).flag("x") for x in (True, "TRUE", 1, "1", False, "0", None, "")] == (
        [True] * 4 + [False] * 4
    )
    for value in ("yes", 2, 0.5, []):
        with pytest.raises(InputError, match="x as true or false"):
            row(x=value).flag("x")


def test_lists():
    np.testing.assert_array_equal(row(x="[[1, 2.5]]").numbers("x"), [[1, 2.5]])
    assert row(x=[]).numbers("x").shape == (0,)
    for value in ("[1, 2", "7", 7, {"a": 1}, [[1], [1, 2]], ["a"], [None], "[" * 10**5, [10**400]):
        with pytest.raises(InputError, match="x as a JSON list of numbers"):
            row(x=value).numbers("x")
    for value in ("[NaN]", [float("inf")]):
        with pytest.raises(InputError, match="x as finite numbers"):
            row(x=value).numbers("x")
