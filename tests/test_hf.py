"""Directories of transformers: grown, exported, refused. Its own models judge: logits, generation, loading."""

import json
import os
import shutil
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from training import TINY, tiny_config

from scalegrow.cli import main
from scalegrow.errors import InputError
from scalegrow.growth import deepened_shape, widened_shape
from scalegrow.runs.config import Decoder, Parametrisation, RunConfig
from scalegrow.shape import ModelShape
from scalegrow.train import hf, hf_check, hf_files
from scalegrow.train.axes import decoder_parameters
from scalegrow.train.hf import grow_directory, open_base
from scalegrow.train.hf_check import Text, zero_step_kl
from scalegrow.train.hf_config import read_config, scaled_shape
from scalegrow.train.hf_export import export_checkpoint
from scalegrow.train.init import initialise
from scalegrow.train.model import Transformer
from scalegrow.train.mup import multipliers
from scalegrow.train.operators import Arguments, plan
from scalegrow.train.state import write_checkpoint

transformers = pytest.importorskip("transformers")

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-3,
    "eos_token_id": None,
    "bos_token_id": None,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-tied": (
        "llama",
        {
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0},
        },
    ),
    "mistral": ("mistral", {"sliding_window": 8}),
    "qwen2": ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "qwen3": ("qwen3", {"head_dim": 12, "attention_bias": True}),
    "qwen3-tied": ("qwen3", {"head_dim": 12, "tie_word_embeddings": True}),
    "granite": (
        "granite",
        {
            "attention_multiplier": 0.2,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.5,
            "logits_scaling": 4.0,
            "tie_word_embeddings": True,
        },
    ),
}
EXACT_WIDTH = (
    "tile",
    "tile_noise",
    "split",
    "zero_pad",
    "block_diagonal",
    "asymmetric_reset",
    "zero_copy",
    "net2net",
)
EXACT_DEPTH = ("zero_insert", "identity_insert")
TOKENS = torch.randint(0, 64, (1, 200), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session", autouse=True)
def _silent() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def make(folder: Path, name: str, dtype: torch.dtype = torch.float64, **changes: Any) -> Path:
    """A random model, gains and biases away from where they start, as transformers saves it in small shards."""
    kind, told = MODELS[name]
    config = transformers.AutoConfig.for_model(kind, **(SIZES | told | changes))
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape).to(dtype))
    model.config.dtype = dtype
    model.save_pretrained(folder, max_shard_size="40KB")
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every model, in float64."""
    return {name: make(tmp_path_factory.mktemp(name) / "base", name) for name in MODELS}


def load(folder: Path, dtype: torch.dtype) -> nn.Module:
    """As transformers loads it, but for its norms, which round to float32 in the middle of a float64 model."""
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    model = model.to(dtype).eval()
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and dtype == torch.float64:
            module.forward = _norm_of(module)
    return model


def _norm_of(module: nn.Module) -> Any:
    return lambda x: F.rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)


def logits_of(folder: Path, dtype: torch.dtype = torch.float64, tokens: Tensor = TOKENS) -> Tensor:
    with torch.no_grad():
        return load(folder, dtype)(tokens).logits


def generated(folder: Path) -> Tensor:
    model = load(folder, torch.float64)
    settings: dict[str, Any] = {"max_new_tokens": 16, "do_sample": False, "use_cache": True}
    mask = torch.ones_like(TOKENS[:, :20])
    found: Tensor = model.generate(TOKENS[:, :20], attention_mask=mask, pad_token_id=0, **settings)  # type: ignore[operator]
    return found


def wider(shape: ModelShape, name: str) -> ModelShape:
    """x2, and at another ratio where the operator can; head_dim too where QK-norm does not forbid it."""
    target = widened_shape(shape, 2)
    if name == "zero_pad":
        target = replace(target, d_model=48, d_ff=54)
    if name in ("tile", "zero_pad") and not shape.qk_norm:
        target = replace(target, head_dim=2 * shape.head_dim)
    return target


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("operator", EXACT_WIDTH)
def test_exact_width_operators_keep_the_function(
    bases: dict[str, Path], tmp_path: Path, name: str, operator: str
) -> None:
    base = open_base(bases[name])
    shape = base.config.shape
    grow_directory(base, tmp_path / "out", plan(shape, wider(shape, operator), operator), shard_bytes=60_000)
    both = (bases[name], tmp_path / "out")
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        one, other = (logits_of(folder, dtype) for folder in both)
        assert float((one - other).abs().max()) < tolerance * max(float(one.abs().max()), 1)
    assert torch.equal(*(generated(folder) for folder in both))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("operator", EXACT_DEPTH)
def test_exact_depth_operators_keep_the_function(
    bases: dict[str, Path], tmp_path: Path, name: str, operator: str
) -> None:
    base = open_base(bases[name])
    shape = base.config.shape
    grow_directory(base, tmp_path / "out", plan(shape, replace(shape, n_layers=5), operator))
    both = (bases[name], tmp_path / "out")
    assert float((logits_of(both[0]) - logits_of(both[1])).abs().max()) < 1e-10
    assert torch.equal(*(generated(folder) for folder in both))


@pytest.mark.parametrize(
    "operator", ["szp", "aki", "random_copy", "structured_non_clone", "scratch", "stack", "solar"]
)
def test_others_do_not(bases: dict[str, Path], tmp_path: Path, operator: str) -> None:
    base = open_base(bases["llama"])
    shape = base.config.shape
    target = replace(shape, n_layers=4) if operator in ("stack", "solar") else widened_shape(shape, 2)
    grow_directory(base, tmp_path / "out", plan(shape, target, operator))
    assert float((logits_of(bases["llama"]) - logits_of(tmp_path / "out")).abs().max()) > 1e-2


@pytest.mark.parametrize("name", MODELS)
def test_growing_nothing_gives_the_same_bytes(bases: dict[str, Path], tmp_path: Path, name: str) -> None:
    base = open_base(bases[name])
    grow_directory(base, tmp_path / "out", plan(base.config.shape, base.config.shape, "tile"))
    old, new = tensors_of(bases[name]), tensors_of(tmp_path / "out")
    assert old.keys() == new.keys()
    assert all(torch.equal(old[each], new[each]) for each in old)
    before, after = (
        json.loads((folder / "config.json").read_text()) for folder in (bases[name], tmp_path / "out")
    )
    assert before == after | {key: before[key] for key in after.keys() - before.keys() if key in before}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_doubling_in_a_short_type_rounds_nothing(tmp_path: Path, dtype: torch.dtype) -> None:
    """P9: the grown numbers are those of the same base grown in float64."""
    short, long = make(tmp_path / "short", "llama", dtype), tmp_path / "long"
    shutil.copytree(short, long)
    for file in long.glob("*.safetensors"):
        save_file({name: tensor.double() for name, tensor in load_file(file).items()}, file)
    for folder in (short, long):
        base = open_base(folder)
        grow_directory(base, folder / "out", plan(base.config.shape, widened_shape(base.config.shape, 2), "tile"))
    found, wanted = tensors_of(short / "out"), tensors_of(long / "out")
    assert {tensor.dtype for tensor in found.values()} == {dtype}
    assert all(torch.equal(found[name], wanted[name].to(dtype)) for name in wanted)
    if dtype == torch.bfloat16:  # float16's smallest numbers cannot be halved
        assert all(torch.equal(found[name].double(), wanted[name]) for name in wanted)


@pytest.mark.parametrize("operator", ["tile", "split", "zero_copy", "block_diagonal", "net2net", "aki", "stack"])
def test_blocks_of_rows_make_the_whole_tensor(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operator: str
) -> None:
    base = open_base(bases["llama"])
    target = widened_shape(base.config.shape, 2)
    growth = plan(base.config.shape, replace(target, n_layers=3) if operator != "stack" else target, operator)
    grow_directory(base, tmp_path / "whole", growth)
    monkeypatch.setattr(hf, "BLOCK", 100)
    grow_directory(base, tmp_path / "blocks", growth, threads=3)
    one, other = tensors_of(tmp_path / "whole"), tensors_of(tmp_path / "blocks")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_first_weights_fill_every_free_entry(bases: dict[str, Path], tmp_path: Path) -> None:
    """zero_pad: what reads new stream coordinates and new units is drawn at the config's std."""
    base = open_base(bases["mistral"])
    shape = base.config.shape
    target = replace(shape, d_model=128, d_ff=96)
    grow_directory(base, tmp_path / "out", plan(shape, target, "zero_pad"))
    up = tensors_of(tmp_path / "out")["model.layers.0.mlp.up_proj.weight"]
    for free in (up[:, 32:], up[48:]):
        assert float(free.std()) == pytest.approx(0.02, rel=0.05)
        assert float((free == 0).sum()) == 0
    old = tensors_of(bases["mistral"])["model.layers.0.mlp.up_proj.weight"]
    assert torch.equal(up[:48, :32], old)


def test_what_is_not_size_survives(bases: dict[str, Path], tmp_path: Path) -> None:
    base = open_base(bases["qwen2"])
    shape = base.config.shape
    done = grow_directory(base, tmp_path / "out", plan(shape, replace(shape, n_layers=4), "zero_insert"))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["layer_types"] == ["full_attention"] * 2 + ["sliding_attention"] * 2
    assert (config["sliding_window"], config["max_position_embeddings"], config["rms_norm_eps"]) == (8, 256, 1e-3)
    assert (tmp_path / "out" / "generation_config.json").exists()
    assert done["layers"] == [0, 0, 1, 1]
    assert done["checked_with_transformers"] is True
    assert done["g_params"] == done["n_params"] / done["parent"]["n_params"]
    written = tensors_of(tmp_path / "out")
    assert done["n_params"] == sum(tensor.numel() for tensor in written.values())
    assert json.loads((tmp_path / "out" / "scalegrow.json").read_text())["operator"] == "zero_insert"


def test_old_configs_are_understood(bases: dict[str, Path], tmp_path: Path) -> None:
    """rope_theta and rope_scaling at the top, torch_dtype, windows by max_window_layers, no head_dim."""
    for name in ("qwen2", "llama-tied"):
        folder = Path(shutil.copytree(bases[name], tmp_path / name))
        config = json.loads((folder / "config.json").read_text())
        told = config.pop("rope_parameters")
        config["rope_theta"] = told["rope_theta"]
        if told["rope_type"] == "linear":
            config["rope_scaling"] = {"type": "linear", "factor": told["factor"]}
        config["torch_dtype"] = config.pop("dtype")
        config.pop("layer_types", None)
        config.pop("head_dim", None)
        (folder / "config.json").write_text(json.dumps(config))
        base = open_base(folder)
        target = replace(base.config.shape, n_layers=4, head_dim=16)
        grow_directory(base, folder / "out", plan(base.config.shape, target, "tile", "zero_insert"))
        assert float((logits_of(bases[name]) - logits_of(folder / "out")).abs().max()) < 1e-10


def test_a_vocabulary_is_padded_and_a_head_untied(bases: dict[str, Path], tmp_path: Path) -> None:
    base = open_base(bases["llama-tied"])
    target = replace(base.config.shape, vocab_size=80, tied=False, d_model=64)
    grow_directory(base, tmp_path / "out", plan(base.config.shape, target, "tile"))
    found = logits_of(tmp_path / "out")
    assert found.shape[-1] == 80
    assert float((logits_of(bases["llama-tied"]) - found[..., :64]).abs().max()) < 1e-10
    p = logits_of(bases["llama-tied"]).softmax(-1)
    moved = (p * (found.logsumexp(-1, keepdim=True) - found[..., :64].logsumexp(-1, keepdim=True))).sum(-1).mean()
    kl = zero_step_kl(bases["llama-tied"], tmp_path / "out", TOKENS)
    assert kl == pytest.approx(float(moved), rel=1e-4), (
        "what new tokens take from the old ones counts, and no more"
    )


def test_a_lineage_does_not_know_where_the_parent_lay(bases: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(bases["mistral"], tmp_path / "elsewhere")
    hashes = [hf.parent_hashes(open_base(folder)) for folder in (bases["mistral"], tmp_path / "elsewhere")]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(("factor", "deeper"), [(2.0, False), (1.3, False), (3.0, False), (2.0, True)])
@pytest.mark.parametrize(
    "base",
    [
        ModelShape(2048, 22, 32, 4, 64, 5632, 32000, tied=False, context=2048),
        ModelShape(1024, 28, 16, 8, 128, 3072, 151936, tied=True, context=4096, qk_norm=True),
        ModelShape(896, 24, 14, 2, 64, 4864, 151936, tied=True, context=4096),
    ],
)
def test_a_factor_is_met_in_the_base_s_proportions(base: ModelShape, factor: float, deeper: bool) -> None:
    found = (deepened_shape if deeper else scaled_shape)(base, factor * base.n_params)
    assert found.n_params / base.n_params == pytest.approx(factor, rel=0.03)
    assert found.d_ff >= base.d_ff
    plan(base, found, "stack" if deeper else "szp")


# Refusals.


def edited(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "gone"}))


def rewritten(folder: Path, change: Any) -> None:
    """All shards as one file, after a change to its tensors."""
    tensors = tensors_of(folder)
    for file in folder.glob("model*"):
        file.unlink()
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


Q = "model.layers.1.self_attn.q_proj.weight"
BROKEN: dict[str, tuple[Any, str]] = {
    "architecture": (lambda d: edited(d, model_type="gpt2"), "model_type 'gpt2' is unknown here: grow llama"),
    "task": (lambda d: edited(d, architectures=["LlamaForTokenClassification"]), "no language model"),
    "quantised": (lambda d: edited(d, quantization_config={}), "dequantise first"),
    "activation": (lambda d: edited(d, hidden_act="gelu"), "only silu can be grown"),
    "size": (lambda d: edited(d, hidden_size=0), "hidden_size is 0"),
    "lost size": (lambda d: edited(d, num_hidden_layers="gone"), "num_hidden_layers is None"),
    "more layers": (lambda d: edited(d, num_hidden_layers=3), r"lacks model.layers.2.\S+ \(\d+ missing\)"),
    "fewer layers": (lambda d: edited(d, num_hidden_layers=1), "does not account for"),
    "width": (lambda d: edited(d, intermediate_size=50), "config.json says"),
    "biases": (lambda d: edited(d, attention_bias=False), "does not account for"),
    "tied": (lambda d: edited(d, tie_word_embeddings=True), "ties the head, but it is stored as another"),
    "no config": (lambda d: (d / "config.json").unlink(), "no readable config.json"),
    "config": (lambda d: (d / "config.json").write_text("{"), "no readable config.json"),
    "epsilon": (lambda d: edited(d, rms_norm_eps=-1), "rms_norm_eps is -1"),
    "missing tensor": (lambda d: rewritten(d, lambda t: t.pop(Q)), f"lacks {Q}"),
    "missing head": (lambda d: rewritten(d, lambda t: t.pop("lm_head.weight")), "say tie_word_embeddings"),
    "strange tensor": (lambda d: rewritten(d, lambda t: t.update(extra=torch.ones(2))), "holds extra"),
    "type": (lambda d: rewritten(d, lambda t: t.update({Q: t[Q].int()})), "is I32: growing takes"),
    "shape": (lambda d: rewritten(d, lambda t: t.update({Q: t[Q][:-1].clone()})), "correct one"),
    "missing shard": (lambda d: sorted(d.glob("*.safetensors"))[0].unlink(), "is missing: fetch that shard"),
    "cut shard": (lambda d: os.truncate(sorted(d.glob("*.safetensors"))[0], 500), "cannot be read"),
    "index": (lambda d: (d / "model.safetensors.index.json").write_text("[]"), "no index of shards"),
    "other index": (lambda d: index(d, Q, "/etc/model.safetensors"), "no index of shards"),
    "wrong place": (lambda d: index(d, Q, "model-00001-of"), "says otherwise"),
    "absent in shard": (lambda d: index(d, "model.more", ""), "restore that shard"),
    "duplicate": (lambda d: duplicate(d), "in two shards"),
    "pickle": (lambda d: pickled(d), "pytorch_model.bin is no safetensors file: load it and save_pretrained"),
    "nothing": (lambda d: [file.unlink() for file in d.glob("model*")], "restore it"),
}


def index(folder: Path, name: str, file: str) -> None:
    path = folder / "model.safetensors.index.json"
    found = json.loads(path.read_text())
    files = sorted(set(found["weight_map"].values()))
    found["weight_map"][name] = (
        file
        if file.startswith("/")
        else next(f for f in files if f.startswith(file) and f != found["weight_map"].get(name))
    )
    path.write_text(json.dumps(found))


def duplicate(folder: Path) -> None:
    first, second = sorted(folder.glob("*.safetensors"))[:2]
    save_file(load_file(first) | dict(list(load_file(second).items())[:1]), first)
    name = next(iter(load_file(second)))
    path = folder / "model.safetensors.index.json"
    found = json.loads(path.read_text())
    found["weight_map"][name] = first.name
    path.write_text(json.dumps(found))


def pickled(folder: Path) -> None:
    for file in folder.glob("model*"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")


@pytest.mark.parametrize("name", BROKEN)
def test_broken_directories_are_one_line(bases: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(bases["llama"], tmp_path / "base"))
    change, message = BROKEN[name]
    change(folder)
    with pytest.raises(InputError, match=message) as caught:
        open_base(folder)
    assert "\n" not in str(caught.value)


def test_shared_storage_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    """Two names for the same bytes of a file, which safetensors itself never writes."""
    folder = Path(shutil.copytree(bases["llama"], tmp_path / "base"))
    file = sorted(folder.glob("*.safetensors"))[0]
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    header[names[1]] = header[names[0]]
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with pytest.raises(InputError, match="cannot be read"):
        open_base(folder)


def test_a_tied_head_may_be_stored_twice_and_old_buffers_are_left(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bases["llama-tied"], tmp_path / "base"))
    rewritten(
        folder,
        lambda t: t.update(
            {
                "lm_head.weight": t["model.embed_tokens.weight"].clone(),
                "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
            }
        ),
    )
    base = open_base(folder)
    grow_directory(base, tmp_path / "out", plan(base.config.shape, base.config.shape, "tile"))
    assert tensors_of(tmp_path / "out").keys() == tensors_of(bases["llama-tied"]).keys()


def test_what_cannot_be_grown_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    base = open_base(bases["llama"])
    shape = base.config.shape
    with pytest.raises(InputError, match="ligo learns on training data"):
        grow_directory(base, tmp_path / "out", plan(shape, widened_shape(shape, 2), "ligo"))
    folder = Path(shutil.copytree(bases["llama"], tmp_path / "yarn"))
    edited(folder, rope_parameters={"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4})
    longer = plan(shape, replace(shape, head_dim=16), "zero_pad")
    with pytest.raises(InputError, match="'yarn' depend on head_dim: keep 8"):
        grow_directory(open_base(folder), tmp_path / "out", longer)
    assert not list(tmp_path.glob("out*"))


def test_nothing_is_left_of_a_growth_that_fails(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = open_base(bases["llama"])
    shape = base.config.shape
    growth = plan(shape, widened_shape(shape, 2), "tile")
    write, written = hf_files.save_file, []

    def failing(error: BaseException) -> Any:
        def fail(*told: Any, **more: Any) -> None:
            written.append(1)
            if len(written) == 3:
                raise error
            write(*told, **more)

        return fail

    for error, raised in (
        (OSError(28, "No space left on device"), InputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):
        written.clear()
        monkeypatch.setattr(hf_files, "save_file", failing(error))
        with pytest.raises(raised):
            grow_directory(base, tmp_path / "out", growth, shard_bytes=40_000)
        assert not list(tmp_path.glob("out*"))
    monkeypatch.undo()
    monkeypatch.setattr(
        hf, "check_structure", lambda written: (_ for _ in ()).throw(InputError("transformers wants"))
    )
    with pytest.raises(InputError, match="transformers wants"):
        grow_directory(base, tmp_path / "out", growth)
    assert not list(tmp_path.glob("out*"))
    monkeypatch.undo()
    grow_directory(base, tmp_path / "out", growth)
    with pytest.raises(InputError, match="is there already"):
        grow_directory(base, tmp_path / "out", growth)


def test_a_disk_too_small_is_known_before(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = open_base(bases["llama"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="choose another disk"):
        grow_directory(base, tmp_path / "out", plan(base.config.shape, base.config.shape, "tile"))


def test_transformers_is_asked_for_names_and_shapes(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bases["llama"], tmp_path / "base"))
    written = hf_files.open_shards(folder)
    assert hf_check.check_structure(written) is True
    edited(folder, intermediate_size=64)
    with pytest.raises(InputError, match=r"transformers wants model.layers.0.mlp.down_proj.weight as \(32, 64\)"):
        hf_check.check_structure(written)


def test_a_shape_that_transformers_refuses_leaves_nothing(bases: dict[str, Path], tmp_path: Path) -> None:
    """Its Llama wants hidden_size to be a multiple of the number of heads, whatever head_dim says."""
    base = open_base(bases["llama"])
    growth = plan(base.config.shape, replace(base.config.shape, d_model=42), "zero_pad")
    with pytest.raises(InputError, match="transformers refuses this shape"):
        grow_directory(base, tmp_path / "out", growth)
    assert not list(tmp_path.iterdir())


def test_without_transformers_nothing_is_claimed(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_check, "has_transformers", lambda: False)
    base = open_base(bases["llama"])
    done = grow_directory(base, tmp_path / "out", plan(base.config.shape, base.config.shape, "tile"))
    assert done["checked_with_transformers"] is False
    with pytest.raises(InputError, match="pip install"):
        Text(tmp_path / "text")


# The command line.


class Command:
    """The command line in this process, whose transformers is loaded already."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, what went to stdout, what to stderr."""
        self.monkeypatch.setattr(sys, "argv", ["scalegrow", *map(str, arguments)])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *self.capsys.readouterr()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bfloat16 model with a tokenizer of single letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = make(tmp_path_factory.mktemp("spoken") / "base", "mistral", torch.bfloat16)
    letters = {letter: i for i, letter in enumerate("?abcdefghijklmnopqrstuvwxyz")}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(folder)
    (folder.parent / "text.txt").write_text("thequickbrownfoxjumpsoverthelazydog" * 30)
    return folder


def test_the_command_grows_and_measures(command: Command, spoken: Path, tmp_path: Path) -> None:
    text = spoken.parent / "text.txt"
    options = ("--text", text, "--text-tokens", 200, "--json")
    code, out, err = command("grow", spoken, tmp_path / "tile", "--width", 2, "--operator", "tile", *options)
    assert code == 0, err
    done = json.loads(out)
    assert abs(done["zero_step_kl"]) < 1e-7
    assert done["g_width"] == 2
    assert (tmp_path / "tile" / "tokenizer.json").exists()
    code, out, err = command("grow", spoken, "--out", tmp_path / "szp", "--factor", 2, "--text", text)
    assert code == 0, err
    assert "zero-step KL(base || grown) =" in out
    assert json.loads((tmp_path / "szp" / "scalegrow.json").read_text())["zero_step_kl"] > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--factor", 2), "where to?"),
        (("OUT", "--out", "other", "--factor", 2), "give one of them"),
        (("OUT",), "how large?"),
        (("OUT", "--factor", 0.5), "does not grow"),
        (("OUT", "--factor", 2, "--text", "nowhere.txt"), "cannot be read as text"),
        (("OUT", "--factor", 2, "--text-tokens", 1, "--text", "nowhere.txt"), "give 2 to"),
    ],
)
def test_the_command_refuses_in_one_line(
    command: Command, spoken: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    told = [tmp_path / "out" if each == "OUT" else each for each in arguments]
    code, _, err = command("grow", spoken, *told)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_is_neither_is_said(command: Command, tmp_path: Path) -> None:
    code, _, err = command("grow", tmp_path, tmp_path / "out", "--factor", 2)
    assert code == 2
    assert "neither state.json nor config.json" in err
    checkpoint, _ = ours(tmp_path)
    code, _, err = command("grow", checkpoint, tmp_path / "out", "--factor", 2, "--text", "any.txt")
    assert code == 2
    assert "ours are compared on their held-out data" in err


# Exports of our own checkpoints.


def ours(folder: Path, **changes: Any) -> tuple[Path, Transformer]:
    """A checkpoint of a decoder with multipliers everywhere, and its model."""
    told: dict[str, Any] = {"embedding_multiplier": 3.0, "residual_multiplier": 0.7, "logit_multiplier": 2.0}
    shape = replace(TINY, n_kv_heads=1, **{key: value for key, value in changes.items() if key in vars(TINY)})
    kind = changes.get("kind", "mup")
    parametrisation = Parametrisation(kind, base_width=8, base_head_dim=4, **(told if kind == "mup" else {}))
    config: RunConfig = tiny_config(
        model=Decoder(shape, norm_eps=1e-3, rope_theta=777.0), parametrisation=parametrisation
    )
    assert isinstance(config.model, Decoder)
    model = Transformer(config.model, multipliers(config))
    initialise(dict(model.named_parameters()), decoder_parameters(shape), config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    state = {"stage": "trunk", "step": 0, "tokens": 0, "loss_sum": 0.0, "loss_count": 0, "seconds": 0.0}
    target = folder / "step_00000000"
    weights = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
    write_checkpoint(target, weights, {}, state | {"config": config.to_dict()})
    return target, model.eval()


EXPORTS = [
    ("granite", "granite", {}),
    ("auto", "granite", {"tied": False, "biases": True}),
    ("auto", "llama", {"kind": "standard"}),
    ("llama", "llama", {}),
    ("llama", "llama", {"tied": False, "biases": True}),
    ("auto", "qwen3", {"qk_norm": True}),
    ("qwen3", "qwen3", {"qk_norm": True, "tied": False}),
]


@pytest.mark.parametrize(("asked", "kind", "changes"), EXPORTS)
def test_exports_have_our_logits(tmp_path: Path, asked: str, kind: str, changes: dict[str, Any]) -> None:
    checkpoint, model = ours(tmp_path, **changes)
    export_checkpoint(checkpoint, tmp_path / "out", asked)
    assert read_config(tmp_path / "out").raw["model_type"] == kind
    tokens = torch.arange(24).unsqueeze(0) * 7 % 256
    with torch.no_grad():
        wanted = model(tokens)
    found = logits_of(tmp_path / "out", torch.float32, tokens)
    assert float((wanted - found).abs().max()) < 1e-5 * max(float(wanted.abs().max()), 1)


def test_an_unfolded_export_keeps_the_tensors_and_grows(tmp_path: Path) -> None:
    checkpoint, model = ours(tmp_path)
    export_checkpoint(checkpoint, tmp_path / "out")
    found = tensors_of(tmp_path / "out")
    assert all(torch.equal(found[name], parameter) for name, parameter in model.named_parameters())
    base = open_base(tmp_path / "out")
    grow_directory(base, tmp_path / "wide", plan(base.config.shape, widened_shape(base.config.shape, 2), "split"))
    both = (logits_of(folder, torch.float64, TOKENS[:, :24]) for folder in (tmp_path / "out", tmp_path / "wide"))
    one, other = both
    assert float((one - other).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("asked", "changes", "message"),
    [
        ("llama", {"norm": "layernorm"}, "no LayerNorm"),
        ("granite", {"mlp": "gelu"}, "no GELU"),
        ("auto", {"positions": "learned", "gate": "headwise"}, "no learned positions and no attention gates"),
        ("llama", {"qk_norm": True}, "no QK-norm"),
        ("qwen3", {}, "no attention without QK-norm"),
        ("auto", {"qk_norm": True, "biases": True}, "no biases in its feed-forward"),
        ("gpt2", {}, "format 'gpt2' is unknown"),
    ],
)
def test_what_the_family_cannot_say_is_refused(
    tmp_path: Path, asked: str, changes: dict[str, Any], message: str
) -> None:
    checkpoint, _ = ours(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        export_checkpoint(checkpoint, tmp_path / "out", asked)
    assert not list(tmp_path.glob("out*"))


def test_the_export_command(command: Command, tmp_path: Path) -> None:
    checkpoint, _ = ours(tmp_path)
    code, out, err = command("export", checkpoint, tmp_path / "out", "--format", "llama")
    assert code == 0, err
    assert "LlamaForCausalLM, multipliers folded into" in out
    code, _, err = command("export", checkpoint, tmp_path / "out")
    assert code == 2
    assert "is there already" in err


def test_blocks_of_a_tensor_draw_different_numbers(
    bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing left of the base every block is noise alone, and no two blocks are the same noise."""
    base = open_base(bases["llama"])
    shape = base.config.shape
    monkeypatch.setattr(hf, "BLOCK", 512)
    growth = hf.HFGrowth(base, plan(shape, widened_shape(shape, 2), "szp", arguments=Arguments(shrink=0.0)))
    blocks = [block[:2] for block in growth.blocks("model.layers.0.mlp.up_proj.weight")]
    assert len(blocks) > 2
    assert not any(torch.equal(one, other) for one, other in pairwise(blocks))
