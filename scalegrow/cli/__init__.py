"""The command line: parse, call one function, print.

Command modules are imported when their command runs, so that --help stays quick.
"""

import sys


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit code 2, never a traceback."""
    from scalegrow.cli.app import app
    from scalegrow.errors import InputError

    try:
        app()
    except InputError as error:
        print(f"scalegrow: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `scalegrow laws | head`: the reader left, which is no error of ours
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        print(f"scalegrow: the output cannot be written ({error.strerror}): free the disk.", file=sys.stderr)
        sys.exit(2)
