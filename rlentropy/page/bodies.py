"""What the page sends, read and checked field by field."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from starlette.requests import Request

from rlentropy.errors import InputError, in_range, one_of, whole
from rlentropy.page.desk import ASKED, Answer, Refused
from rlentropy.preferences.queue import SIDES

LARGEST = 64 * 1024  # bytes
LONGEST_NAME = 64  # characters of a window's, or a labeller's
LONGEST_REASON = 2000
LARGEST_NUMBER = 2**31
LONGEST = 1e6  # seconds that a question is looked at
TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # the direction

Body = dict[str, Any]


async def read(request: Request) -> Body:
    """A JSON object.

    Raises:
        Refused: it is anything else, or too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, f"content-type must be application/json, got {kind or 'none'}")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > LARGEST:
            raise Refused(413, f"a body must be at most {LARGEST} bytes, got more")
    try:
        body = json.loads(content, parse_constant=no_number)
    except (ValueError, RecursionError):
        raise Refused(400, "a body must be JSON, got something else") from None
    if not isinstance(body, dict):
        raise Refused(400, f"a body must be a JSON object, got {type(body).__name__}")
    return body


def no_number(name: str) -> Any:
    raise ValueError(name)


def who(body: Body) -> tuple[str, str]:
    """The window and the labeller."""
    return text(body, "window", LONGEST_NAME), text(body, "labeller", LONGEST_NAME)


def campaign(body: Body) -> str:
    return text(body, "campaign", LONGEST_NAME)


def answer(body: Body) -> Answer:
    """What was said of a question."""
    got: Any = [body.get(name) for name in ("round", "position", "asking", "side", "seconds")]
    round, position, asking, side, seconds = got
    try:
        whole("round", round, 0, LARGEST_NUMBER)
        whole("position", position, 0, LARGEST_NUMBER)
        one_of("asking", asking, ASKED)
        one_of("side", side, SIDES)
        if seconds is not None:
            in_range("seconds", seconds, f"[0, {LONGEST:g}]")
    except InputError as error:
        raise Refused(400, str(error)) from None
    reason = None
    if body.get("reason") is not None:
        reason = text(body, "reason", LONGEST_REASON, empty=True).strip() or None
    query = text(body, "query", LONGEST_NAME)
    return Answer(query, round, position, asking, side, seconds, reason)


def text(body: Body, name: str, most: int, *, empty: bool = False) -> str:
    """Text on one line.

    Raises:
        Refused: it is none, too long, or has letters that can't be printed.
    """
    value = body.get(name)
    if not isinstance(value, str) or not (empty or value.strip()) or len(value) > most:
        came = f"{len(value)}" if isinstance(value, str) else type(value).__name__
        raise Refused(400, f"{name} must be text of at most {most} characters, got {came}")
    if not all(map(writable, value)):
        raise Refused(400, f"{name} must be printable, got {value!a}")
    return value


def writable(c: str) -> bool:
    """Whether a letter may be in a text: what people type, but for what turns or breaks a line.

    Spaces that don't break and the joiners of emoji, Persian and Hindi are no printable letters to
    Python.
    """
    kind = unicodedata.category(c)
    return c.isprintable() or kind == "Zs" or (kind == "Cf" and c not in TURNS)
