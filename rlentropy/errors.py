"""The one error that means: the input is wrong, not the program."""


class InputError(ValueError):
    """Names the argument, what it must be, what came; the command line prints it and exits 2."""


class OutputError(InputError):
    """The run folder can't be written: no space, no permission. What was there is intact."""
