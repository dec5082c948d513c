"""Small things that lie where the docs say that a reader's own lie: a run, a model, a text."""

import atexit
import shutil
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

SIZE, BUDGETS = "25k", ("5tpp", "20tpp")
SETTINGS = {
    "model.shape.n_layers": 2,  # as the docs' run: the ladder's shape of this size does not grow by 2
    "model.shape.d_ff": 41,
    "model.shape.context": 167,
    "batch": 3,
    "evaluation.sequences": 32,
    "evaluation.times": 2,
}


@cache
def _trained() -> Path:
    """A quarter of the size of the docs' first run, so with the same steps: 195 to its first decay, 975 in all."""
    from scalegrow.cli.app import app

    folder = Path(mkdtemp(prefix="scalegrow-docs-")) / "first"
    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    options = [word for budget in BUDGETS for word in ("--budget", budget)]
    options += [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    app(["train", "--size", SIZE, *options, "--out", str(folder)], standalone_mode=False)
    return folder


def first_run(place: Path) -> None:
    shutil.copytree(_trained(), place)


def llama(place: Path) -> None:
    """A random Llama of two layers with a tokenizer of bytes, as transformers saves them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    sizes = {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=256, num_key_value_heads=2, max_position_embeddings=128, **sizes)
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own tokenizer classes
        PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(place)


def text(place: Path) -> None:
    place.write_text(
        "The cat sat on the mat, and the dog on the log; both were of one mind about the rain.\n" * 40
    )


STANDINS: dict[str, Callable[[Path], None]] = {"runs/first": first_run, "models/llama": llama, "some.txt": text}


def put(thing: str, folder: Path) -> None:
    """Lay a stand-in into a folder, where it does not lie already."""
    place = folder / thing
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        STANDINS[thing](place)
