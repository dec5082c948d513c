"""The one kind of error that a user can mend."""


class InputError(ValueError):
    """Bad input: one line that names the problem and the next step.

    The command line prints the line and exits with 2; nothing has been written by then.
    """
