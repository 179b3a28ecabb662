"""What tyro says of a command line that it can't parse, in one line of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rlentropy.errors import did_you_mean

MUST = {
    "for int()": "a whole number",
    "string to float": "a number",
    "valid parse": "values with spaces between them",
}


def refusal(complaint: str, command: str, names: Iterable[str]) -> str:
    """The option, what it must be, what came.

    Args:
        complaint: what tyro printed.
        names: of the command's options.
    """
    line = one_line(complaint)
    if found := re.match(r"Unrecognized options: (.*?)(?:; Perhaps you meant|$)", line):
        given = found[1].replace(", ", " ")
        flags = [f"--{name.replace('_', '-')}" for name in names]
        hint = did_you_mean(given.split()[0], flags) if given.startswith("--") else ""
        return f"options must be those of {command} (rlentropy {command} --help), got {given}{hint}"
    if found := re.match(r"invalid choice '(.*)' for argument '--([\w-]+)'\. .*\((.*)\)", line):
        choices = [name for name in re.findall(r"'([^']*)'", found[3]) if name != "None"]
        must = f"one of {', '.join(choices)}, got {found[1]!r}{did_you_mean(found[1], choices)}"
        return f"{found[2].replace('-', '_')} must be {must}"
    if found := re.match(r"Missing value for argument '--([\w-]+)'", line):
        return (
            f"{found[1].replace('-', '_')} must have a value, with = before one that begins with a "
            f"minus (--{found[1]}=-1), got none"
        )
    if found := re.match(r"Error parsing --([\w-]+): (.*)", line):
        must = next((must for part, must in MUST.items() if part in found[2]), "")
        value = re.search(r"\['(.*?)'\]|: '(.*)'$", found[2])
        if must and value:
            return f"{found[1].replace('-', '_')} must be {must}, got {value[1] or value[2]!r}"
    return line.removeprefix("Error parsing Config: ")


def one_line(complaint: str) -> str:
    """The message inside tyro's box, with the names it suggests but without its help text."""
    sections: list[list[str]] = [[]]
    for line in complaint.splitlines():
        if line.startswith(("╭", "╰")):
            continue
        text = line.strip("│ ")
        if text.startswith("───"):
            sections.append([])
        elif text:
            sections[-1].append(text)
    shown = [s for s in sections[:-1] if s and not s[0].startswith("Argument helptext")]
    return "; ".join(" ".join(section) for section in shown) or complaint.strip()
