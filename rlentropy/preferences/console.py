"""A person answers the questions of a round at the console, line by line."""

from __future__ import annotations

import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from itertools import zip_longest

import numpy as np

from rlentropy.files import plain
from rlentropy.preferences.export import Describe, as_text
from rlentropy.preferences.store import Question, Store

KEYS = {"l": 1.0, "r": 0.0, "t": 0.5, "s": float("nan")}  # that the left one is better
HELP = "l left is better, r right is better, t they are equal, s skip, u undo"
GAP = "   |   "
LOOK = 0.2  # seconds between looks at whether to stop


def ask_person(
    store: Store,
    round: int,
    describe: Describe = as_text,
    *,
    read: Callable[[str], str] = input,
    show: Callable[[str], None] = print,
    labeller: str = "person",
    mirror: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Show the pending questions of a round one by one; each answer is on disk before the next.

    Who is left is a coin that the store has written down. Ends when nothing is pending, whoever
    answered it, or when the input ends: what is then pending waits for any other front end.

    Args:
        describe: a segment as lines of text.
        read: gives a line for a prompt; raises EOFError at the end of the input.
        mirror: share of the questions that come again in the end with their sides changed, which
            measures conflict and bias (preferences §3.2) and is not learnt from.

    Returns:
        How many answers were given, those undone left out.
    """
    given: list[int] = []
    while waiting := store.pending(round):
        question = store.question(round, waiting[0])
        of = f"{len(waiting)} left in round {round}, {store.count()} answered"
        show("\n".join([f"-- {of} --", *side_by_side(question, describe)]))
        begin = clock()
        key = _key(read, show)
        if key is None:
            return len(given)
        if key == "u":
            if not given or store.undo(round, given.pop(), labeller) is None:
                show("there is nothing to undo")
            continue
        value = KEYS[key] if question.left else 1.0 - KEYS[key]
        if store.answer(round, question.position, value, labeller, clock() - begin):
            given.append(question.position)
    _ask_again(store, round, describe, mirror, (read, show), labeller, clock)
    return len(given)


def _ask_again(
    store: Store,
    round: int,
    describe: Describe,
    mirror: float,
    console: tuple[Callable[[str], str], Callable[[str], None]],
    labeller: str,
    clock: Callable[[], float],
) -> None:
    """Some questions with their sides changed; which ones is in their hashes."""
    read, show = console
    answered = ~np.isnan(store.answers(round))
    for position in store.pending(round, "mirror"):
        question = store.question(round, position)
        if not answered[position] or int(question.query_id[8:16], 16) >= mirror * 2**32:
            continue
        question = question._replace(left=not question.left)
        show("\n".join(["-- once more --", *side_by_side(question, describe)]))
        begin = clock()
        while (key := _key(read, show)) == "u":
            show("there is nothing to undo")
        if key is None:
            return
        value = KEYS[key] if question.left else 1.0 - KEYS[key]
        store.answer(round, position, value, labeller, clock() - begin, "mirror")


def _key(read: Callable[[str], str], show: Callable[[str], None]) -> str | None:
    """The first letter of the first line that begins with one of ours; None at the end."""
    while True:
        try:
            line = read("l/r/t/s/u> ").strip().lower()
        except EOFError:
            return None
        if line[:1] in {*KEYS, "u"}:
            return line[0]
        show(HELP)


def side_by_side(question: Question, describe: Describe = as_text) -> Iterator[str]:
    """Both segments in two columns, or one below the other where the terminal is too narrow."""
    pair = question.pair if question.left else question.pair.swapped()
    left, right = (
        [heading, *(plain(line) for line in describe(segment).splitlines())]
        for heading, segment in (("LEFT", pair.a), ("RIGHT", pair.b))
    )
    width = max(map(len, left))
    if width + len(GAP) + max(map(len, right)) > shutil.get_terminal_size().columns:
        yield from [*left, "", *right]
        return
    for x, y in zip_longest(left, right, fillvalue=""):
        yield f"{x:{width}}{GAP}{y}".rstrip()


def reader(stopped: Callable[[], bool]) -> Callable[[str], str]:
    """Lines of standard input, like `input`, that end as the input does once `stopped` says so.

    A prompt that waits would not see that the process was told to stop.
    """

    def read(prompt: str) -> str:
        print(prompt, end="", flush=True)
        while not stopped():
            if select.select([sys.stdin], [], [], LOOK)[0]:
                if line := sys.stdin.readline():
                    return line.rstrip("\n")
                break
        raise EOFError

    return read
