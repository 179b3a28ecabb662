"""Prompts from a file."""

from __future__ import annotations

import json
from pathlib import Path

from rlentropy.errors import InputError

LONGEST = 2**26  # bytes of a file


def read_prompts(path: Path) -> tuple[str, ...]:
    """One prompt a line, or JSON lines with a text "prompt"; empty lines are left out.

    Raises:
        InputError: the file can't be read, holds no prompt, one twice, or one that isn't text.
    """
    try:
        if path.stat().st_size > LONGEST:
            raise ValueError(f"{path.stat().st_size} bytes are too many")
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"prompts must be a readable text file, got {path}: {error}") from None
    lines = [line for line in lines if line.strip()]
    found = [_prompt(line, path) if lines[0].startswith("{") else line for line in lines]
    if not found:
        raise InputError(f"prompts must hold a prompt, got none in {path}")
    if len(set(found)) < len(found):
        twice = next(text for i, text in enumerate(found) if text in found[:i])
        raise InputError(f"prompts must be different, got {twice!r} twice in {path}")
    for text in found:
        if not all(c.isprintable() or c in "\n\t" for c in text):
            raise InputError(f"prompts must be printable, got {text!r} in {path}")
    return tuple(found)


def _prompt(line: str, path: Path) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f'prompts must be JSON lines with "prompt" each, got {line[:80]!r} in {path}'
        ) from None
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(f'prompts must have a text as "prompt", got {prompt!r} in {path}')
    return prompt
