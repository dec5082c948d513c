"""Recipe: the few dials of a run, and the RunConfig they stand for.

Symbols: N parameters, B sequences a step, T context.
"""

import math
import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from scalegrow.errors import InputError
from scalegrow.runs.config import Decoder, Network, RunConfig
from scalegrow.runs.fields import build, flatten
from scalegrow.shape import ModelShape, network_shape, shape_for
from scalegrow.units import parse_count

STORIES_VOCAB, BYTES_VOCAB = 256, 257
HUB = "hub:"  # before the name of a data set that is fetched
STEPS_AT_20_TPP = 1000  # below about 500 steps a run is limited by its steps, not by its tokens
FEWEST_TOKENS, FEWEST_SAMPLES, MOST = 512, 16, 1 << 21  # of a step
CONTEXTS = ((0.0, 128), (1e6, 256), (1e7, 512), (1e8, 1024), (1e9, 2048))  # from this size
HELDOUT_SEQUENCES, HELDOUT_SAMPLES = 512, 8192


@dataclass(frozen=True)
class Recipe:
    """What a person says of a run; the rest follows from the size.

    size is N as people write it. kind is decoder or network. vocab_size is needed only for a tokenizer.json.
    settings are dotted names of RunConfig with their values, set last: {"optimiser.lr": 0.02}.
    """

    size: str
    budgets: tuple[str, ...] = ("20tpp",)
    kind: str = "decoder"
    data: str | None = None
    tokenizer: str = "bpe:1024"
    context: int | None = None
    vocab_size: int | None = None
    n_layers: int | None = None
    head_dim: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """What it learns."""
        usual = "stories" if self.kind == "decoder" else "regression"
        return str(self.settings.get("data.source") or self.data or usual)

    def config(self) -> RunConfig:
        """The run. Raises InputError on what does not fit."""
        if self.kind not in ("decoder", "network"):
            raise InputError(f"kind {self.kind!r} is unknown: choose decoder or network.")
        if self.data == "":
            raise InputError("data = '' names no data: write stories, regression or the path of a text.")
        for name in ("n_layers", "head_dim"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name} = {value} makes no model: give 1 or more, or leave it out.")
        n_params = parse_count(self.size)
        decoder = self.kind == "decoder"
        source = self.source
        if not decoder and source != "regression":
            raise InputError(f"a dense network learns 'regression', not {source!r}: leave the data out.")
        if decoder and source == "regression":
            raise InputError(
                "a decoder cannot learn 'regression': give other data, or a network (--network, or kind)."
            )
        if decoder and source == "stories" and self.vocab_size not in (None, STORIES_VOCAB):
            raise InputError(f"stories have {STORIES_VOCAB} tokens, not {self.vocab_size}: leave vocab_size out.")
        for name in ("context", "n_layers", "head_dim"):
            if getattr(self, name) is not None and not decoder:
                raise InputError(f"a dense network has no {name}: leave it out.")
        tokenizer = str(self.settings.get("data.tokenizer", self.tokenizer))
        model = self._decoder(n_params, source, tokenizer) if decoder else Network(network_shape(n_params))
        items = per_step(model.shape.n_params, FEWEST_TOKENS if decoder else FEWEST_SAMPLES)
        batch = max(items // model.shape.context, 1) if isinstance(model, Decoder) else items
        plain: dict[str, Any] = {
            "model": asdict(model),
            "budgets": [" ".join(budget.split()).replace(" tpp", "tpp") for budget in self.budgets],
            "batch": batch,
            "data": {"source": source, "tokenizer": tokenizer if is_text(source) else None},
            "evaluation": {"sequences": HELDOUT_SEQUENCES if decoder else HELDOUT_SAMPLES},
        }
        for name, value in self.settings.items():
            set_dotted(plain, name, value)
        return RunConfig.from_dict(plain)

    def _decoder(self, n_params: float, source: str, tokenizer: str) -> Decoder:
        vocab = self.vocab_size or (vocabulary(tokenizer) if is_text(source) else STORIES_VOCAB)
        usual = next(length for start, length in reversed(CONTEXTS) if n_params >= start)
        context = usual if self.context is None else self.context
        return Decoder(replace(decoder_shape(n_params, vocab, self.n_layers, self.head_dim), context=context))


def is_local_text(source: str) -> bool:
    """Whether the data are a text that must be on this machine."""
    return is_text(source) and not source.startswith(HUB)


def is_text(source: str) -> bool:
    """Whether the data are text, which is tokenised; the built-in sources are not."""
    return source not in ("stories", "regression")


def decoder_shape(
    n_params: float, vocab_size: int, n_layers: int | None = None, head_dim: int | None = None
) -> ModelShape:
    """The ladder's shape of about N parameters with this vocabulary, and this depth and head size if given."""
    usual = shape_for(n_params)
    like = replace(usual, vocab_size=vocab_size, head_dim=head_dim or usual.head_dim)
    return shape_for(n_params, like, n_layers)


def per_step(n_params: float, fewest: int) -> int:
    """Tokens (or samples) a step: the power of two nearest to 20 N / 1000, 1000 steps in 20 tpp."""
    wanted = 20 * n_params / STEPS_AT_20_TPP
    return int(min(max(2 ** round(math.log2(wanted)), fewest), MOST))


def vocabulary(tokenizer: str) -> int:
    """V of a tokenizer: bytes or bpe:V. Raises InputError on others, whose V only their file tells."""
    if tokenizer == "bytes":
        return BYTES_VOCAB
    kind, _, size = tokenizer.partition(":")
    if kind == "bpe" and size.isascii() and size.isdigit() and int(size) > BYTES_VOCAB - 1:
        return int(size)
    raise InputError(f"tokenizer {tokenizer!r} is unknown: write bytes, bpe:1024 or the path of a tokenizer.json.")


def read_recipe(path: Path, **over: Any) -> Recipe:
    """A recipe from TOML: dials on top, [settings] below; `over` goes over its dials. Raises InputError."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}): give the path of a recipe.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read as TOML ({error}): mend it.") from None
    settings = data.pop("settings", {})
    if not isinstance(settings, dict):
        raise InputError(f"{path.name}: settings = {settings!r} is no table: write [settings.optimiser].")
    return replace(build(Recipe, {**data, **over}, path.name), settings=flatten(settings))


def set_dotted(data: dict[str, Any], name: str, value: Any) -> None:
    """data["a"]["b"] = value for the name a.b."""
    *outer, last = name.split(".")
    for key in outer:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise InputError(f"{name}: {key} holds no settings of its own.")
    data[last] = value


def parse_setting(text: str) -> tuple[str, Any]:
    """optimiser.lr=0.02 -> ("optimiser.lr", 0.02); values as in TOML, bare words as text. Raises InputError."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InputError(f"--set {text} is not understood: write NAME=VALUE, such as optimiser.lr=0.02.")
    try:
        return name.strip(), tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()
