"""What a simulated teacher likes in a completion: a number of its text (preferences §8)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from rlentropy.errors import InputError, one_of
from rlentropy.preferences.language_stems import LIKED, LOATHED

SCORES = ("length", "lexicon", "share", "none")
Score = Callable[[str], float]


def parse_score(text: str) -> Score | None:
    """The score that ``--reward`` names; None for none.

        length:N        -|words - N|
        lexicon         words that are liked less those that are loathed
        share:LETTERS   share of the characters that are among these, 0 for an empty text

    Raises:
        InputError: no such score, or one without its parameter.
    """
    name, colon, given = text.partition(":")
    one_of("reward", name, SCORES)
    if name in ("lexicon", "none"):
        if colon:
            raise InputError(f"reward {name} must have no parameter, got {text!r}")
        return lexicon if name == "lexicon" else None
    if name == "length":
        if not re.fullmatch(r"[0-9]{1,4}", given):
            raise InputError(f"reward length must have a number of words below 10000, got {text!r}")
        return partial(near_length, int(given))
    if not given:
        raise InputError(f"reward share must have letters after the colon, got {text!r}")
    return partial(share, frozenset(given.lower()))


def near_length(wanted: int, text: str) -> float:
    """-|words - wanted|."""
    return -float(abs(len(text.split()) - wanted))


def lexicon(text: str) -> float:
    """Words of `LIKED` less words of `LOATHED`."""
    words = re.findall(r"[a-z']+", text.lower())
    return float(sum((word in LIKED) - (word in LOATHED) for word in words))


def share(letters: frozenset[str], text: str) -> float:
    """Share of the characters that are among the letters, capitals too."""
    return sum(letter in letters for letter in text.lower()) / max(len(text), 1)
