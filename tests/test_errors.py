"""The checks of arguments: what they refuse, and in which words."""

import re

import numpy as np
import pytest

from rlentropy.errors import InputError, did_you_mean, in_range, one_of, whole


def refused(message: str) -> object:
    return pytest.raises(InputError, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(1)])
def test_whole_numbers_of_any_type_pass(value: object) -> None:
    whole("seeds", value, 1, 7)


@pytest.mark.parametrize("value", [2.0, 2.5, True, None, "3", np.float64(1.0), [1]])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with refused(f"seeds must be a whole number >= 1, got {value!r}"):
        whole("seeds", value, 1)


def test_whole_numbers_out_of_range_are_refused() -> None:
    with refused("seeds must be >= 1, got 0"):
        whole("seeds", 0, 1)
    with refused("seeds must be <= 9, got 10"):
        whole("seeds", 10, 1, 9)


@pytest.mark.parametrize(
    ("interval", "inside", "outside", "must"),
    [
        ("[0, 1]", [0, 0.5, 1], [-1e-9, 1.1, float("nan")], "in [0, 1]"),
        ("(0, 1)", [1e-9, np.float32(0.5)], [0.0, 1, float("nan")], "in (0, 1)"),
        ("[0, 1)", [0.0, 0.999], [1.0, -0.1], "in [0, 1)"),
        ("(0, 1]", [1.0], [0.0, 2], "in (0, 1]"),
        ("(1, inf]", [1.5, float("inf")], [1.0, float("nan")], "> 1"),
        ("[0, inf]", [0.0, float("inf")], [-1], ">= 0"),
        ("(0, inf)", [1e300], [0.0, float("inf")], "> 0 and finite"),
        ("(-inf, inf)", [-1e300, 0], [float("inf"), float("nan")], "finite"),
        ("[0, inf)", [0, 2], [float("inf"), float("-inf"), -1.0], ">= 0 and finite"),
    ],
)
def test_intervals_are_what_is_written(
    interval: str, inside: list[float], outside: list[float], must: str
) -> None:
    for value in inside:
        in_range("gamma", value, interval)
    for value in outside:
        with refused(f"gamma must be {must}, got {value}"):
            in_range("gamma", value, interval)


@pytest.mark.parametrize("value", [True, None, "0.5", 1j, [0.5]])
def test_what_is_no_number_is_in_no_interval(value: object) -> None:
    with refused(f"gamma must be a number, got {value!r}"):
        in_range("gamma", value, "[0, 1]")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kl", "; did you mean kl-ball?"),  # a short beginning isn't close
        ("KL", "; did you mean kl-ball?"),
        ("neural", "; did you mean neural-entgame or neural-maxent or neural-random?"),
        ("kl-bal", "; did you mean kl-ball or tv-ball?"),
        ("k", ""),
        ("", ""),
    ],
)
def test_near_names_are_begun_or_close(name: str, said: str) -> None:
    names = ["neural-random", "tv-ball", "kl-ball", "neural-maxent", "neural-entgame"]
    assert did_you_mean(name, iter(names)) == said
    assert did_you_mean(name, set(names)) == said


def test_choices_are_listed_and_the_near_ones_named() -> None:
    one_of("step", "fixed", ("line-search", "fixed"))
    with refused("step must be one of line-search, fixed, got 'fixd'; did you mean fixed?"):
        one_of("step", "fixd", ("line-search", "fixed"))
    with refused("step must be one of line-search, fixed, got None"):
        one_of("step", None, ("line-search", "fixed"))
