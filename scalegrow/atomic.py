"""Files and folders that are whole or not there: made beside their place, forced to disk, renamed."""

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from scalegrow.errors import InputError


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """A path beside `target` to write; it replaces `target` at the end, and is gone after an error.

    A link stays one, to the new file, and what killed processes left behind is removed. Raises OSError where
    `target` is a folder, a device or another thing that a file may not replace.
    """
    target = target.resolve() if target.is_symlink() else target
    if target.exists() and not target.is_file():
        raise OSError(errno.EEXIST, "it is no regular file", str(target))
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    for leftover in _left_behind(target, f".{target.name}"):
        leftover.unlink(missing_ok=True)
    try:
        yield partial
        sync(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def output_file(target: Path) -> Iterator[Path]:
    """`new_file` for a file that the user named. Raises InputError where it cannot be written."""
    try:
        with new_file(target) as partial:
            yield partial
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}): choose another place.") from None


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` to fill; it takes the target's name at the end, and is gone after an error.

    Every process fills one of its own; what killed ones left behind is removed.
    """
    partial = partial_of(target)
    for leftover in (partial, *_left_behind(target, target.name)):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        for path in partial.iterdir():
            sync(path)
        partial.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def partial_of(target: Path) -> Path:
    """Where a folder is made before it takes its name."""
    return target.with_name(f"{target.name}.{os.getpid()}.partial")


def _left_behind(target: Path, name: str) -> list[Path]:
    """What processes that are gone began to write of a target, NAME.PROCESS.partial beside it."""
    begun = target.parent.glob(f"{glob.escape(name)}.*.partial")
    return [path for path in begun if not _lives(path.name.split(".")[-2])]


def _lives(process: str) -> bool:
    """Whether a process of this number runs here; of what is no number one cannot know."""
    if not process.isdigit():
        return True
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def sync(path: Path) -> None:
    """Force a file's or folder's contents to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(file: IO[Any], busy: Exception) -> None:
    """Keep an open file to this writer until it is closed or its process ends. Raises `busy` where another has it.

    A system or file system without such locks (Windows, some networks') keeps nothing.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise busy from None
    except OSError:
        return
