"""The command line: parse, call one function, print.

Command modules are imported when their command runs, so that --help stays quick.
"""

import sys

BAD_INPUT, INTERRUPTED = 2, 130


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit code 2, never a traceback."""
    sys.exit(_run())


def _run() -> int:
    import scalegrow.cli.plot_app  # noqa: F401  its commands join those of the app
    from scalegrow.cli.app import app
    from scalegrow.errors import InputError

    try:
        return int(app(standalone_mode=False) or 0)
    except InputError as error:
        return _refuse(str(error), error.exit_code)
    except BrokenPipeError:  # `scalegrow laws | head`: the reader left, which is no error of ours
        sys.stderr.close()
        return 0
    except OSError as error:
        what = error.filename or "the output"
        return _refuse(f"{what} cannot be written ({error.strerror}): free the disk, or choose another place.")
    except KeyboardInterrupt:
        return _refuse("interrupted; what was not saved is lost, what was is whole.", INTERRUPTED)
    except Exception as error:  # the parser's own: an unknown option, a missing one, a word for a number
        message = getattr(error, "format_message", None)
        if type(error).__name__ == "Abort":
            return _refuse("interrupted; nothing was written.", INTERRUPTED)
        if message is None:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(message(), file=sys.stderr)
            return BAD_INPUT
        return _refuse(f"{message().rstrip('.')}: see scalegrow COMMAND --help.")


def _refuse(message: str, code: int = BAD_INPUT) -> int:
    print(f"scalegrow: {' '.join(message.split())}", file=sys.stderr)
    return code
