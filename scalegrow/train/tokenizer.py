"""Tokenizers: plain bytes, byte-level BPE trained on the spot, or any tokenizer.json.

Each has one separator token, which stands before every document and never inside one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scalegrow.errors import InputError

Tokens = NDArray[np.uint16] | NDArray[np.uint32]

SEPARATOR = "<|endoftext|>"
SEPARATORS = (SEPARATOR, "<|end_of_text|>", "</s>", "<eos>")  # what a tokenizer.json may call it
TRAINING_BYTES = 10_000_000  # what BPE is trained on
SMALLEST_BPE = 257  # every byte and the separator
FILE = "tokenizer.json"


class Tokenizer(Protocol):
    """Text to token numbers and back."""

    @property
    def spec(self) -> str:
        """'bytes', 'bpe:1024' or the name of the file it was read from."""

    @property
    def vocab_size(self) -> int:
        """V, the separator counted."""

    @property
    def separator(self) -> int:
        """The token that stands before each document."""

    @property
    def sha256(self) -> str:
        """What tells this tokenizer from every other."""

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text, without separators: uint16, or uint32 where V is over 65536."""

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of these tokens; broken UTF-8 shows as U+FFFD, a separator as <|endoftext|>."""

    def save(self, folder: Path) -> int:
        """Write tokenizer.json into the folder, where there is anything to write; its size in bytes."""


@dataclass(frozen=True)
class ByteTokenizer:
    """Tokens 0..255 are the bytes of UTF-8, 256 is the separator."""

    spec: str = "bytes"
    vocab_size: int = 257
    separator: int = 256
    sha256: str = sha256(b"bytes").hexdigest()

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """The bytes of each text."""
        return [np.frombuffer(text.encode(), np.uint8).astype(np.uint16) for text in texts]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of these bytes."""
        return b"".join(_BYTES[token] for token in tokens).decode(errors="replace")

    def save(self, folder: Path) -> int:
        """Nothing to write: the bytes are known."""
        return 0


_BYTES = (*(bytes([value]) for value in range(256)), SEPARATOR.encode())


@dataclass(frozen=True)
class JsonTokenizer:
    """A tokenizer of the `tokenizers` library, as its tokenizer.json has it.

    The separator is <|endoftext|> or what SEPARATORS lists; a file without one gets the next free number.
    """

    spec: str
    json: str
    vocab_size: int
    separator: int
    library: Any

    @classmethod
    def of(cls, json: str, spec: str) -> "JsonTokenizer":
        """The tokenizer in this JSON text. Raises InputError if it is none."""
        module = needed("tokenizers", "train")
        try:
            library = module.Tokenizer.from_str(json)
        except Exception as error:  # the library raises bare Exception
            reason = str(error).splitlines()[0]
            raise InputError(f"{spec} is no tokenizer.json ({reason}): save one with Tokenizer.save.") from None
        library.encode_special_tokens = True  # a document that spells out a separator is text
        library.no_truncation()
        library.no_padding()
        if not library.get_vocab():
            raise InputError(f"{spec} has no tokens: save a trained tokenizer.")
        free = max(library.get_vocab().values()) + 1
        separator = next((n for name in SEPARATORS if (n := library.token_to_id(name)) is not None), free)
        return cls(spec, json, max(free, separator + 1), separator, library)

    @property
    def sha256(self) -> str:
        """Of the JSON text."""
        return sha256(self.json.encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text."""
        try:
            encodings = self.library.encode_batch_fast(list(texts), add_special_tokens=False)
        except Exception as error:  # the library raises bare Exception
            reason = str(error).splitlines()[0]
            raise InputError(f"{self.spec} cannot encode this text ({reason}): choose a byte-level one.") from None
        return [np.array(encoding.ids, dtype=token_dtype(self.vocab_size)) for encoding in encodings]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of these tokens."""
        return self.library.decode([int(token) for token in tokens], skip_special_tokens=False)

    def save(self, folder: Path) -> int:
        """Write tokenizer.json."""
        return folder.joinpath(FILE).write_bytes(self.json.encode())


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Little-endian uint16, or uint32 where the vocabulary is over 65536."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def tokenizer_key(spec: str) -> str:
    """What decides the tokenizer: the spec, or the sha256 of the tokenizer.json it names. Raises InputError."""
    if spec == "bytes":
        return spec
    if spec.startswith("bpe:"):
        return f"bpe:{_bpe_size(spec)}"
    return JsonTokenizer.of(_read(Path(spec)), Path(spec).name).sha256


def make_tokenizer(spec: str, training_texts: Iterable[str]) -> Tokenizer:
    """The tokenizer 'bytes', 'bpe:V' or of the tokenizer.json that the spec names.

    Only 'bpe:V' reads the texts, up to TRAINING_BYTES of them. Raises InputError on another spec.
    """
    if spec == "bytes":
        return ByteTokenizer()
    if spec.startswith("bpe:"):
        return train_bpe(_bpe_size(spec), training_texts)
    return JsonTokenizer.of(_read(Path(spec)), Path(spec).name)


def read_tokenizer(folder: Path, spec: str) -> Tokenizer:
    """The tokenizer that was saved in this folder. Raises InputError if it is gone or damaged."""
    return ByteTokenizer() if spec == "bytes" else JsonTokenizer.of(_read(folder / FILE), spec)


def train_bpe(vocab_size: int, texts: Iterable[str]) -> JsonTokenizer:
    """Byte-level BPE of this vocabulary, from the first TRAINING_BYTES of the texts.

    Token 0 is the separator. A short text may not have enough pairs to merge: the vocabulary is then
    smaller. Raises InputError below SMALLEST_BPE.
    """
    spec = f"bpe:{vocab_size}"
    library, parts = needed("tokenizers", "train"), needed("tokenizers.models", "train")
    tokenizer = library.Tokenizer(parts.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=_bpe_size(spec),
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_first_bytes(texts, TRAINING_BYTES), trainer)
    return JsonTokenizer.of(tokenizer.to_str(), spec)


def needed(module: str, extra: str) -> ModuleType:
    """An optional library, or an InputError that says how to get it."""
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise InputError(
            f"this needs the {package} package: pip install 'scalegrow[{extra}]', or '.[{extra}]' here."
        ) from None


def _bpe_size(spec: str) -> int:
    digits = spec.removeprefix("bpe:")
    if not (digits.isascii() and digits.isdigit() and int(digits) >= SMALLEST_BPE):
        raise InputError(
            f"{spec!r} has no vocabulary of {SMALLEST_BPE} or more (every byte and a separator): say 'bpe:1024'."
        )
    return int(digits)


def _first_bytes(texts: Iterable[str], limit: int) -> Iterator[str]:
    """Texts until their UTF-8 reaches the limit, the last one cut there."""
    for text in texts:
        data = text.encode()
        yield data[:limit].decode(errors="ignore")
        limit -= len(data)
        if limit <= 0:
            return


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"no tokenizer {str(path)!r}: say 'bytes', 'bpe:1024' or a tokenizer.json.") from None
