"""The command line: a table of commands, each a module with `Config` and `run`.

Options are the fields of `Options` and of the module's `Config`; their help is the comment beside
each field. Modules are imported when their command is named, so that help stays quick.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from rlentropy.start import is_ours, loading

with loading(is_ours()):
    from rlentropy.commands.console import exit_code
    from rlentropy.commands.help import command_help, overview
    from rlentropy.commands.options import ask_tyro, check_sizes
    from rlentropy.commands.train import check_processes, train
    from rlentropy.errors import one_of
    from rlentropy.runs.table import COMMANDS, TOOLS

HELP = {"-h", "--help"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 2 wrong input, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # whatever letters the terminal lacks
    code = exit_code(lambda: dispatch(arguments))
    if argv is None and "WORLD_SIZE" in os.environ:  # of torchrun
        # Threads of torch.distributed that outlive it sometimes abort a process at its end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    if not arguments or arguments[0] in HELP:
        print(overview())
        return 0
    if arguments[0] == "--version":
        from rlentropy import __version__

        print(__version__)
        return 0
    command, rest = arguments[0], arguments[1:]
    one_of("command", command, COMMANDS | TOOLS)
    if HELP & set(rest):
        with loading():
            print(command_help(command))
        return 0
    return use(command, rest) if command in TOOLS else train(command, rest)


def use(tool: str, arguments: list[str]) -> int:
    """Run a command that takes no environment."""
    check_processes(tool)
    with loading():
        module = import_module(TOOLS[tool].module)
    config = ask_tyro(module.Config, tool, arguments, (module.Config,))
    check_sizes(config)
    code: int = module.run(config)
    return code
