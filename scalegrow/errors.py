"""The one kind of error that a user can mend."""


class InputError(ValueError):
    """Bad input: one line that names the problem and the next step.

    The command line prints the line and exits with exit_code, 2 unless a subclass says otherwise.
    """

    exit_code = 2
