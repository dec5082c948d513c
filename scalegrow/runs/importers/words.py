"""What the names of columns, settings, runs and files say."""

import re
from dataclasses import dataclass
from math import inf

HELD_OUT = {"eval", "evaluation", "val", "valid", "validation", "test", "heldout", "held", "out", "dev", "holdout"}
TRAIN = {"train", "training", "trainer", "tr"}
LOSS = {"loss", "nll", "xent", "cross", "entropy", "ce"}
PLAIN_OF_LOSS = {"final", "lm", "avg", "average", "mean", "epoch", "total", "model"}
NOT_LOSS = {"std", "se", "min", "max", "excess", "aux", "z", "router", "step", "scale", "ema", "delta", "runtime"}
PERPLEXITY = {"ppl", "perplexity"}
BITS = {"bits", "bit", "bpb", "bpc", "bpt", "byte"}
COUNTING = {
    "n",
    "num",
    "number",
    "nb",
    "of",
    "total",
    "count",
    "in",
    "all",
    "train",
    "training",
    "trainer",
    "model",
}
PLAIN_OF_TOKENS = {
    "trained",
    "input",
    "seen",
    "consumed",
    "processed",
    "cumulative",
    "so",
    "far",
    "global",
    "data",
}
UNITS = {
    **dict.fromkeys(("k", "thousand", "thousands"), 1e3),
    **dict.fromkeys(("m", "million", "millions"), 1e6),
    **dict.fromkeys(("b", "bn", "billion", "billions"), 1e9),
    **dict.fromkeys(("t", "trillion", "trillions"), 1e12),
}
STEPS = (["global", "step"], ["step"], ["steps"], ["iter"], ["iteration"], ["iter", "num"], ["iterations"])
RUNS = (["run"], ["run", "id"], ["run", "name"], ["run", "uuid"], ["experiment"], ["name"])
SYMBOLS = {"N": "n_params", "D": "tokens", "C": "flops", "L": "loss"}
GROWN = re.compile(
    r"(?:^|[^a-z])(?:grown?|growth|net2net|net2wider|upcycled?|warm_?starte?d?|szp|zero_pad|bert2bert|ligo|stacked)"
    r"(?:$|[^a-z])"
)
STARTS = ("init_from", "init_checkpoint", "base_model", "base_checkpoint", "warm_start", "grown_from", "load_path")

_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:[._]\d+)?)([mb])(?![a-z0-9])", re.IGNORECASE)
_TOKENS = re.compile(
    r"(?<![a-z0-9.])"
    r"(?:(\d+(?:\.\d+)?)([mbt])[-_ ]?tok(?:en)?s?|tok(?:en)?s?[-_ =]?(\d+(?:\.\d+)?)([mbt]))"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)


def words(name: str) -> list[str]:
    """'train/numInputTokens_seen' -> train, num, input, tokens, seen."""
    spread = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[a-z]+|\d+", spread.lower())


def unit_in(name: str) -> float:
    """1e9 of 'tokens (B)' and 'tokens_billions'; 1 where the name has no unit. Before a / stands a path."""
    return next((UNITS[word] for word in reversed(words(name.rpartition("/")[2])) if word in UNITS), 1.0)


def rank_of_loss(name: str, *, bare_is_final: bool) -> tuple[int, int] | None:
    """How well a name says held-out loss: kind (0 held out, 1 a table's loss, 2 of training), words too many.

    None where it is no loss in nats. A bare `loss` is a table's own column, and of a tracker the training loss.
    Where a name says both, eval/train_loss, what stands nearer to its loss counts.
    """
    found = {*words(name)}
    if (
        not found & LOSS
        or found & (NOT_LOSS | PERPLEXITY | BITS)
        or (found & {"entropy"} and "cross" not in found)
    ):
        return None
    found -= _farther(words(name))
    extra = len(found - LOSS - HELD_OUT - TRAIN - PLAIN_OF_LOSS)
    if found & HELD_OUT - {"out"}:
        return 0, 2 * extra + ("test" in found) + bool(found & PLAIN_OF_LOSS)
    if bare_is_final and not found & TRAIN:
        return 1, extra
    return 2, 2 * extra + bool(found & PLAIN_OF_LOSS)


def _farther(said: list[str]) -> set[str]:
    """Of words that say held out and words that say training, those that stand farther from the loss."""
    at = [i for i, word in enumerate(said) if word in LOSS]

    def nearest(kind: set[str]) -> float:
        return min((abs(i - j) for i, word in enumerate(said) if word in kind for j in at), default=inf)

    held, train = nearest(HELD_OUT - {"out"}), nearest(TRAIN)
    if inf in (held, train):
        return set()
    return HELD_OUT if train <= held else TRAIN


def unfit_loss(name: str) -> str | None:
    """'perplexity' or 'bits' where a name says that its numbers are no nats per token."""
    found = {*words(name)}
    return "perplexity" if found & PERPLEXITY else "bits" if found & BITS else None


def says_tokens(name: str) -> bool:
    """Whether a name says tokens trained on so far."""
    found = {*words(name)}
    return bool(found & {"tokens", "token"}) and not found - {"tokens", "token"} - COUNTING - PLAIN_OF_TOKENS - {
        *UNITS
    }


def says_tokens_per_step(name: str) -> bool:
    """Whether a name says tokens of one optimiser step."""
    found = {*words(name)}
    of = {"step", "batch", "iter", "iteration", "update"}
    return bool(found & {"tokens"}) and bool(found & of) and not found - {"tokens", "per", "global", "size", *of}


def says_params(name: str) -> str | None:
    """n_params or n_params_non_embedding, where a name says one."""
    found = {*words(name)} - COUNTING - {*UNITS}
    counted = {"param", "params", "parameter", "parameters"}
    if name.lower() in ("model_size", "model size"):
        return "n_params"
    if not found & counted:
        return None
    rest = found - counted - {"trainable"}
    if not rest:
        return "n_params"
    without = rest & {"non", "no", "nonembedding"}
    return "n_params_non_embedding" if without and not rest - without - {"embedding", "embed"} else None


def says_flops(name: str) -> bool:
    """Whether a name says training FLOPs, not FLOPs per second."""
    found = {*words(name)}
    return (
        bool(found & {"flops", "flos", "flop"}) and not found - {"flops", "flos", "flop", "cumulative"} - COUNTING
    )


def says_rate(name: str) -> bool:
    """Whether a name says learning rate."""
    found = words(name)
    return "lr" in found or found[-2:] == ["learning", "rate"]


@dataclass(frozen=True)
class Told:
    """What a name says: the piece of it -> parameters, and -> tokens; empty where it does not."""

    n_params: dict[str, float]
    tokens: dict[str, float]


def told_by(name: str) -> Told:
    """'gpt-124M_4B_tokens' says 124e6 parameters and 4e9 tokens."""
    tokens = {match[0]: _count(match[1] or match[3], match[2] or match[4]) for match in _TOKENS.finditer(name)}
    rest = _TOKENS.sub(" ", name)
    sizes = {match[0]: _count(match[1].replace("_", "."), match[2]) for match in _SIZE.finditer(rest)}
    return Told(sizes, tokens)


def _count(digits: str, unit: str) -> float:
    return float(f"{digits}e{ {'m': 6, 'b': 9, 't': 12}[unit.lower()] }")
