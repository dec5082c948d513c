"""Whether transformers loads what was written, and how far it is from its base: the zero-step KL.

transformers is optional: without it the structure is not checked, and a text is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from scalegrow.errors import InputError
from scalegrow.train.hf_files import Shards
from scalegrow.train.measures import mean_kl

CHARACTERS = 64  # of the text read for each token wanted
NEEDED = "this needs transformers: pip install 'scalegrow[hf]', or '.[hf]' here."


def has_transformers() -> bool:
    """Whether transformers is installed."""
    return find_spec("transformers") is not None


MOST_TOKENS = 10**6


@dataclass(frozen=True)
class Text:
    """The first tokens of a text, to compare base and grown on. Raises InputError without transformers."""

    path: Path
    n_tokens: int = 512

    def __post_init__(self) -> None:
        if not 2 <= self.n_tokens <= MOST_TOKENS:
            raise InputError(f"text tokens {self.n_tokens}: give 2 to {MOST_TOKENS:,}, such as 512.")
        if not has_transformers():
            raise InputError(f"the text of --text is measured with the model itself: {NEEDED}")

    def tokens(self, folder: Path, context: int) -> Tensor:
        """[1, T] by the directory's own tokenizer, T at most n_tokens and the context. Raises InputError."""
        from transformers import AutoTokenizer

        try:
            with self.path.open(encoding="utf-8") as file:
                text = file.read(CHARACTERS * self.n_tokens)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} cannot be read as text ({error}): give another --text.") from None
        try:
            with quiet():
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                found = tokenizer(text)["input_ids"][: min(self.n_tokens, context)]
        except Exception as error:  # whatever a tokenizer of another's makes of its files
            raise InputError(
                f"{folder}: its tokenizer does not load ({reason_of(error)}): leave --text out."
            ) from None
        if len(found) < 2:
            raise InputError(f"{self.path} makes {len(found)} tokens: give a longer text.")
        return torch.tensor([found])


def check_structure(written: Shards) -> bool:
    """Whether transformers, given config.json, wants just the tensors written; False where it is not installed.

    Its model is built without memory for weights. Raises InputError where names or shapes differ.
    """
    if not has_transformers():
        return False
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with quiet(), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(written.folder))
    except Exception as error:  # whatever it makes of a shape
        raise InputError(f"transformers refuses this shape ({reason_of(error)}): choose another.") from None
    wanted = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    found = {name: stored.shape for name, stored in written.tensors.items()}
    if wanted != found:
        name = min(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise InputError(
            f"transformers wants {name} as {wanted.get(name)} where growing gives {found.get(name)}: "
            "this base is of another architecture than its config.json says."
        )
    return True


def zero_step_kl(base: Path, grown: Path, tokens: Tensor) -> float:
    """Mean token KL(p_base || p_grown), nats; the models are loaded one by one."""
    p = log_probabilities(base, tokens)
    q = log_probabilities(grown, tokens, p.shape[-1])
    return mean_kl(p, q)


def log_probabilities(folder: Path, tokens: Tensor, vocab: int | None = None) -> Tensor:
    """[T, V] log p of the next token, float64, from the model in float32 (float64 stays)."""
    from transformers import AutoModelForCausalLM

    with quiet():
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True, local_files_only=True
        )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading.get(problem):
            raise InputError(
                f"transformers finds {problem.replace('_', ' ')} in {folder}: {sorted(loading[problem])[0]}"
            )
    model = model.to(torch.promote_types(model.dtype, torch.float32)).eval()
    with torch.no_grad():
        return model(tokens, use_cache=False).logits[0].double().log_softmax(-1)[:, :vocab]


def reason_of(error: Exception) -> str:
    """The last line of an error, which says most, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its progress bars and advice."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
