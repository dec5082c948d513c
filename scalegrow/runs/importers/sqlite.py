"""Local databases, opened for reading alone: nothing is migrated, locked or created."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from scalegrow.errors import InputError


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads, with what a running tracker has not yet merged. Raises InputError."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise InputError(
            f"{path} cannot be read as a database ({error}): copy the whole folder, -wal included."
        ) from None


def columns(path: Path, table: str) -> set[str]:
    """The columns of a table; empty where the file is no database or has no such table."""
    try:
        with opened(path) as connection:
            return {row[1] for row in connection.execute(f"pragma table_info({table})")}
    except InputError:
        return set()
