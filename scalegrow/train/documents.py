"""Where documents come from: text, JSON lines, Parquet, folders of them, data sets of a hub."""

import bz2
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.recipe import HUB
from scalegrow.train.hashes import file_hash
from scalegrow.train.tokenizer import SEPARATOR, needed

OPENERS: dict[str, Callable[..., IO[str]]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
COLUMNS = ("text", "story", "content")  # what a text column is called, if nobody says
KINDS = ".txt, .jsonl (each also .xz, .gz or .bz2) or .parquet"
DOCUMENT = 8 * 1024  # characters of a document in a text without separators
LONGEST = 64 * 1024  # characters of a separated document; a longer one is cut like a text without
BLOCK = 1024 * 1024  # characters, or bytes, read at a time
ROWS = 4096  # rows of Parquet read at a time


@dataclass(frozen=True)
class Corpus:
    """Documents that can be read again and again in the same order, and what identifies them.

    identity holds the sha256 of the source's bytes, or the hub's name, split and commit.
    """

    name: str
    identity: dict[str, str]
    read: Callable[[], Iterable[str]]

    def documents(self) -> Iterator[str]:
        """Every document that is not blank. Raises InputError on text that UTF-8 cannot hold."""
        for number, text in enumerate(self.read(), 1):
            if not _is_unicode(text):
                raise InputError(f"document {number} of {self.name} has half a surrogate pair: mend the text.")
            if not text.isspace() and text:
                yield text


def open_corpus(source: str, column: str | None = None, revision: str | None = None) -> Corpus:
    """The documents of a file, a folder of files or 'hub:owner/name[:split]'.

    A text is split at <|endoftext|>, else at form feeds, else into documents of about 8 KB that end with a
    paragraph or a line; its line ends become newlines. column is the text column of JSON lines and Parquet,
    guessed where it is not given; revision is a hub's commit, tag or branch. Raises InputError if there is
    nothing to read; damage shows when the documents are read.
    """
    if source.startswith(HUB):
        return _open_hub(source.removeprefix(HUB), column, revision)
    if revision is not None:
        raise InputError(f"{source} has no revision {revision!r}: give one with 'hub:owner/name' only.")
    path = Path(source)
    files = _files(path)
    if column is not None and all(_kind(file) == ".txt" for file in files):
        raise InputError(f"{source} is text and has no column {column!r}: leave the column out.")
    return Corpus(
        name=path.resolve().name,
        identity={"sha256": _digest(path, files)},
        read=lambda: (text for file in files for text in _read_file(file, column)),
    )


def _files(path: Path) -> list[Path]:
    """The file itself, or all files of a folder that can be read, by name."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file) in _READERS)
        if not files:
            raise InputError(f"{path} holds no text: put {KINDS} files there.")
        return files
    if not path.is_file():
        raise InputError(f"{path} is not there: give a {KINDS} file, a folder of them or 'hub:owner/name'.")
    if _kind(path) not in _READERS:
        raise InputError(f"{path} is not a kind of text known here: give {KINDS}.")
    return [path]


def _kind(path: Path) -> str:
    """The suffix below that of the compression."""
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() or ".txt" if suffix in OPENERS else suffix


def _digest(path: Path, files: list[Path]) -> str:
    """The sha256 of one file's bytes; of a folder that of its files' names and sha256."""
    if path.is_file():
        return file_sha256(path)
    lines = [f"{file_sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in files]
    return sha256("".join(lines).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file. Raises InputError if it cannot be read."""
    try:
        return file_hash(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions.") from None


def _read_file(path: Path, column: str | None) -> Iterator[str]:
    """The documents of one file, whatever goes wrong told as an InputError."""
    try:
        yield from _READERS[_kind(path)](path, column)
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read: {reason}; check that it is whole and UTF-8.") from None


def _open_text(path: Path) -> IO[str]:
    opener = OPENERS.get(path.suffix.lower(), open)
    return opener(path, "rt", encoding="utf-8-sig")


def _read_text(path: Path, column: str | None) -> Iterator[str]:
    separator = _separator(path)
    with _open_text(path) as file:
        blocks = iter(lambda: file.read(BLOCK), "")
        for document in split_text(blocks, separator):
            yield document.strip("\n") if separator else document


def _separator(path: Path) -> str | None:
    """<|endoftext|> if the text has one, else a form feed if it has one."""
    found, tail = None, ""
    with _open_text(path) as file:
        while block := file.read(BLOCK):
            tail = tail[-len(SEPARATOR) :] + block
            if SEPARATOR in tail:
                return SEPARATOR
            found = found or ("\f" if "\f" in block else None)
    return found


def split_text(blocks: Iterable[str], separator: str | None) -> Iterator[str]:
    """The text of the blocks at each separator; without one, at a line's end about every DOCUMENT characters."""
    rest, longest = "", LONGEST if separator else DOCUMENT
    for block in blocks:
        rest += block
        if separator:
            *documents, rest = rest.split(separator)
            yield from documents
        while len(rest) > longest:
            end = _paragraph_end(rest)
            yield rest[:end]
            rest = rest[end:]
    yield rest


def _paragraph_end(text: str) -> int:
    """The end of the last whole paragraph, else line, else word within DOCUMENT characters."""
    for mark in ("\n\n", "\n", " "):
        if (start := text.rfind(mark, 0, DOCUMENT)) > 0:
            return start + len(mark)
    return DOCUMENT


def _read_jsonl(path: Path, column: str | None) -> Iterator[str]:
    with _open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            where = f"line {number} of {path}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = getattr(error, "msg", None) or str(error)
                raise InputError(f"{where} is not JSON ({reason}): give one object a line.") from None
            if not isinstance(row, dict):
                raise InputError(f"{where} is not an object: give one with a text column a line.")
            column = text_column(column, list(row), where)
            if (text := _as_text(row[column], column, where)) is not None:
                yield text


def _read_parquet(path: Path, column: str | None) -> Iterator[str]:
    column = text_column(column, list(pl.read_parquet_schema(path)), str(path))
    frame = pl.scan_parquet(path).select(column)
    rows = frame.select(pl.len()).collect().item()
    for start in range(0, rows, ROWS):
        values = frame.slice(start, ROWS).collect().get_column(column)
        yield from _texts(values, column, str(path))


_READERS: dict[str, Callable[[Path, str | None], Iterator[str]]] = {
    ".txt": _read_text,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}


def text_column(column: str | None, columns: list[str], where: str) -> str:
    """The column asked for, else the first of COLUMNS there is. Raises InputError if there is none."""
    wanted = COLUMNS if column is None else (column,)
    for name in wanted:
        if name in columns:
            return name
    raise InputError(f"{where} has no column {' or '.join(wanted)}: name one of {', '.join(columns) or 'none'}.")


def _texts(values: Iterable[object], column: str, where: str) -> Iterator[str]:
    yield from (text for value in values if (text := _as_text(value, column, where)) is not None)


def _as_text(value: object, column: str, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InputError(f"column {column} of {where} holds {type(value).__name__}: name a column of text.")
    return value


def _is_unicode(text: str) -> bool:
    return text.isascii() or not re.search("[\ud800-\udfff]", text)


def _open_hub(source: str, column: str | None, revision: str | None) -> Corpus:
    """A data set of the Hugging Face hub, at the commit that the revision means today."""
    name, _, split = source.partition(":")
    commit = _commit(name, revision)
    identity = {"hub": name, "split": split or "train", "revision": commit}
    return Corpus(name, identity, lambda: _read_hub(name, split or "train", commit, column))


def _commit(name: str, revision: str | None) -> str:
    """The revision as a commit: asked of the hub, unless it is one already."""
    if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name):  # a path would load too, but has no commit
        raise InputError(f"'hub:{name}' names no data set: say 'hub:owner/name' or 'hub:owner/name:split'.")
    if revision and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    hub = needed("huggingface_hub", "hub")
    try:
        return str(hub.HfApi().dataset_info(name, revision=revision).sha)
    except Exception as error:  # network and hub fail in many ways
        raise _hub_error(name, error) from None


def _read_hub(name: str, split: str, commit: str, column: str | None) -> Iterator[str]:
    library = needed("datasets", "hub")
    try:
        rows = library.load_dataset(name, split=split, revision=commit)
    except Exception as error:
        raise _hub_error(name, error) from None
    column = text_column(column, list(rows.column_names), f"hub:{name}")
    return _texts((row[column] for row in rows.select_columns(column)), column, f"hub:{name}")


def _hub_error(name: str, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"hub:{name} cannot be loaded ({reason}): check its name, the split and the network.")
