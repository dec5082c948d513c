"""Speed of a training step against the machine's own limit and against two peers, and where its time goes.

    python benchmarks/train.py [--widths 32,64,128,256] [--steps 20] [--json]

One thread, one machine, one run. The machine may be shared, so each round measures the limit (a square matrix
product) and every trainer in turn; medians of rounds are shown, and ratios are taken within rounds. The shape is
the same for all: Llama-like, tied, vocabulary 256, 16 sequences of 128 tokens a step. Ours is the loop's own step
with muP, its batches written as it goes; peers get the same tokens ready-made. FLOPs are counted twice: 6 N, and
with attention and without look-ups. On a GPU the same in bfloat16 and float32, and the gain of packing small runs
into one model. Optional peer: pip install transformers accelerate.
"""

import argparse
import copy
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"  # read when torch is imported
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from scalegrow.runs.config import Decoder, Parametrisation, RunConfig  # noqa: E402
from scalegrow.shape import ModelShape  # noqa: E402
from scalegrow.train.distributed import Ranks  # noqa: E402
from scalegrow.train.interrupt import Interruption  # noqa: E402
from scalegrow.train.loop import Run, fresh_state, train_step  # noqa: E402
from scalegrow.train.model import Transformer, build_decoder  # noqa: E402
from scalegrow.train.optim import relative_rate  # noqa: E402
from scalegrow.train.task import task_for  # noqa: E402

BATCH, CONTEXT, VOCABULARY = 16, 128, 256
LAYERS = {32: 3, 64: 4, 128: 6, 256: 6}
ROUNDS, WARM, BATCHES = 5, 3, 64  # rounds; untimed steps before each HF measurement; ready-made batches
LEAST_SECONDS = 0.4  # of one trainer in one round
PROFILED = 8  # steps
RATE, DECAY, EPS, CLIP, THETA = 1e-3, 0.0, 1e-5, 1.0, 10_000.0
LIMIT_SIDE = {"cpu": 1024, "cuda": 8192}
GROUPS = {  # of operators, first match wins
    "attention kernel": ("scaled_dot_product", "flash_attention", "efficient_attention"),
    "optimiser": ("adamw", "clip_grad", "foreach", "linalg_vector_norm", "Optimizer"),
    "softmax, cross-entropy": ("softmax", "nll_loss", "cross_entropy"),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "gemm"),
    "copies": ("copy_", "aten::cat", "clone", "contiguous", "zero", "fill", "embedding", "index"),
    "elementwise, norms": (
        *("aten::mul", "aten::add", "aten::sum", "aten::neg", "aten::pow", "aten::mean", "sqrt", "aten::div"),
        *("silu", "rms_norm", "layer_norm", "sigmoid", "aten::sub", "elementwise", "reduce"),
    ),
}
Steps = Callable[[int], float]  # makes n steps; the seconds they took


@dataclass(frozen=True)
class Case:
    """A shape on a device in a precision."""

    width: int
    device: str = "cpu"
    precision: str = "float32"

    @property
    def shape(self) -> ModelShape:
        """Llama-like, d_ff = 8/3 d to the nearest 8."""
        d = self.width
        head_dim = 16 if d < 128 else 32
        heads = d // head_dim
        d_ff = 8 * round(d / 3)
        layers = LAYERS.get(d, 6)
        return ModelShape(d, layers, heads, heads, head_dim, d_ff, VOCABULARY, True, CONTEXT)

    def config(self, compiled: bool = False, kind: str = "mup") -> RunConfig:
        """The run as scalegrow has it."""
        model = Decoder(self.shape, norm_eps=EPS, rope_theta=THETA)
        parametrisation = Parametrisation(kind=kind)  # type: ignore[arg-type]
        run = RunConfig(model, ("20tpp",), BATCH, parametrisation=parametrisation, compiled=compiled)
        return replace(run, precision=self.precision)  # type: ignore[arg-type]

    def autocast(self) -> torch.autocast:
        """The precision as peers set it."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bfloat16")

    def tokens(self) -> Tensor:
        """Ready-made batches [BATCHES, B, T + 1], those that ours reads."""
        source = task_for(self.config(), Path()).source  # type: ignore[attr-defined]
        tokens = torch.from_numpy(source.train_batch(0, BATCHES * BATCH).tokens)
        return tokens.view(BATCHES, BATCH, CONTEXT + 1).to(self.device)


def timed(work: Callable[[], object], device: str) -> float:
    """Wall seconds, the device's work included."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def limit(case: Case) -> float:
    """FLOP/s of a square matrix product, best of several."""
    side = LIMIT_SIDE[case.device]
    a = torch.randn(side, side, device=case.device, dtype=getattr(torch, case.precision))
    b, out = a.clone(), torch.empty_like(a)
    return 2 * side**3 / min(timed(lambda: torch.mm(a, b, out=out), case.device) for _ in range(6))


def ours(case: Case, compiled: bool = False, precision: str | None = None) -> Steps:
    """The loop's own step: batch, loss, backward, clip, schedule, AdamW."""
    config = replace(case.config(compiled), precision=precision or case.precision)  # type: ignore[arg-type]
    run = Run(config, task_for(config, Path()), Path(), {}, Ranks(device=case.device), Interruption())
    state = fresh_state(run)

    def loop(n: int) -> None:
        for _ in range(n):
            train_step(run, state, relative_rate(config, state.step, None))
            state.step += 1

    return lambda n: timed(partial(loop, n), case.device)


def angles(shape: ModelShape) -> Tensor:
    """[2, T, 1, K]: cosines and sines of every position and coordinate."""
    rates = THETA ** -(torch.arange(0, shape.head_dim, 2) / shape.head_dim)
    turned = torch.outer(torch.arange(CONTEXT), rates).repeat(1, 2)[:, None]
    return torch.stack((turned.cos(), turned.sin()))


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """RoPE as most write it; the peer's own, so that no change of ours moves it."""
    first, second = x.chunk(2, dim=-1)
    return x * turns[0] + torch.cat((-second, first), dim=-1) * turns[1]


class PlainBlock(nn.Module):
    """Attention with one qkv map, then SwiGLU, each after RMSNorm."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        d, self.heads = shape.d_model, shape.n_heads
        self.norm_1, self.norm_2 = nn.RMSNorm(d, EPS), nn.RMSNorm(d, EPS)
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.gate, self.up = nn.Linear(d, shape.d_ff, bias=False), nn.Linear(d, shape.d_ff, bias=False)
        self.down = nn.Linear(shape.d_ff, d, bias=False)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        """The residual stream after this block."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in self.qkv(self.norm_1(x)).chunk(3, dim=-1))
        q, k, v = (part.transpose(1, 2) for part in (rotate(q, turns), rotate(k, turns), v))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        y = self.norm_2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class PlainModel(nn.Module):
    """The same decoder as people write it by hand, its head tied to its embedding."""

    turns: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocab_size, shape.d_model)
        self.blocks = nn.ModuleList(PlainBlock(shape) for _ in range(shape.n_layers))
        self.norm = nn.RMSNorm(shape.d_model, EPS)
        self.register_buffer("turns", angles(shape))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next token at every position."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.turns)
        return F.linear(self.norm(x), self.embedding.weight)

    def copy_from(self, model: Transformer) -> None:
        """Our weights, in the order in which both keep them."""
        pairs = {"embedding": model.model.embed_tokens.weight, "norm": model.model.norm.weight}
        for i, layer in enumerate(model.model.layers):
            a, m = layer.self_attn, layer.mlp
            qkv = torch.cat([a.q_proj.weight, a.k_proj.weight, a.v_proj.weight])
            named = {"norm_1": layer.input_layernorm.weight, "norm_2": layer.post_attention_layernorm.weight}
            named |= {"qkv": qkv, "out": a.o_proj.weight}
            named |= {"gate": m.gate_proj.weight, "up": m.up_proj.weight, "down": m.down_proj.weight}
            pairs |= {f"blocks.{i}.{name}": weight for name, weight in named.items()}
        self.load_state_dict({f"{name}.weight": w for name, w in pairs.items()} | {"turns": self.turns})


def plain(case: Case) -> Steps:
    """A nanoGPT-style loop: AdamW as PyTorch chooses it, clipping, nothing else."""
    model, tokens, done = PlainModel(case.shape).to(case.device), case.tokens(), 0
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=DECAY)

    def loop(n: int) -> None:
        nonlocal done
        for _ in range(n):
            x, y = tokens[done % BATCHES, :, :-1], tokens[done % BATCHES, :, 1:]
            with case.autocast():
                logits = model(x)
                loss = F.cross_entropy(logits.view(-1, VOCABULARY), y.reshape(-1))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            done += 1

    return lambda n: timed(partial(loop, n), case.device)


def llama(shape: ModelShape) -> nn.Module:
    """transformers' model of this shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **{"vocab_size": VOCABULARY, "hidden_size": shape.d_model, "intermediate_size": shape.d_ff},
        **{"num_hidden_layers": shape.n_layers, "num_attention_heads": shape.n_heads},
        **{"max_position_embeddings": CONTEXT, "rms_norm_eps": EPS, "tie_word_embeddings": True},
    )
    return LlamaForCausalLM(config)


def hugging_face(case: Case) -> Steps:
    """transformers.Trainer with its own AdamW; timed by a callback from the end of its warm-up."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    model, rows = llama(case.shape), case.tokens().cpu().flatten(0, 1)[:, :-1]
    data = [{"input_ids": row, "labels": row} for row in rows]

    class Clock(TrainerCallback):
        """Marks the time after every step."""

        def __init__(self) -> None:
            self.marks: list[float] = []

        def on_step_end(self, *_: object, **__: object) -> None:
            self.marks.append(time.perf_counter() - timed(lambda: None, case.device))

    def steps(n: int) -> float:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                **{"output_dir": folder, "max_steps": WARM + n, "per_device_train_batch_size": BATCH},
                **{"use_cpu": case.device == "cpu", "bf16": case.precision == "bfloat16", "max_grad_norm": CLIP},
                **{"learning_rate": RATE, "weight_decay": DECAY, "adam_beta2": 0.95, "report_to": "none"},
                **{"save_strategy": "no", "eval_strategy": "no", "logging_strategy": "no", "disable_tqdm": True},
                **{"dataloader_pin_memory": False, "remove_unused_columns": False},
            )
            trainer = Trainer(model=model, args=arguments, train_dataset=data, callbacks=[clock])
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return clock.marks[-1] - clock.marks[WARM - 1]

    return steps


@torch.no_grad()
def check_same(case: Case) -> dict[str, str]:
    """For each peer: equal counts, and logits of equal weights within 1e-4. Raises AssertionError."""
    model, tokens = build_decoder(replace(case.config(kind="standard"), precision="float32")), case.tokens().cpu()
    hand = PlainModel(case.shape)
    hand.copy_from(model)
    peers: dict[str, Callable[[Tensor], Tensor]] = {"nanoGPT-style": hand}
    if find_spec("transformers"):
        peer = llama(case.shape)
        peer.load_state_dict(model.state_dict() | {"lm_head.weight": model.model.embed_tokens.weight})
        peers["HF Trainer"] = lambda x: peer(x).logits
        assert sum(p.numel() for p in peer.parameters()) == case.shape.n_params
    assert sum(p.numel() for p in hand.parameters()) == case.shape.n_params
    x = tokens[0, :, :-1]
    gaps = {name: float((forward(x) - model(x)).abs().max()) for name, forward in peers.items()}
    assert max(gaps.values()) < 1e-4, gaps
    return {name: f"N equal, logits within {gap:.0e}" for name, gap in gaps.items()}


def measure(case: Case, least_steps: int) -> dict[str, Any]:
    """Rounds of the limit and every trainer: tokens/s and FLOP/s, medians; ratios to ours within rounds."""
    notes = check_same(case)
    torch._dynamo.reset()
    trainers = {"ours": ours(case), "ours, compiled": ours(case, True), "nanoGPT-style": plain(case)}
    if case.precision == "float32":
        trainers["ours, bfloat16"] = ours(case, precision="bfloat16")
    if find_spec("transformers") and find_spec("accelerate"):
        trainers["HF Trainer"] = hugging_face(case)
    torch.set_num_threads(1)
    warm = {name: steps(WARM) for name, steps in trainers.items()}
    notes["ours, compiled"] = f"after {warm['ours, compiled']:.0f} s of compiling"
    n = {name: max(least_steps // ROUNDS, int(LEAST_SECONDS / steps(1)), 1) for name, steps in trainers.items()}
    rounds = []
    for _ in range(ROUNDS):
        top = limit(case)
        rates = {name: BATCH * CONTEXT * n[name] / steps(n[name]) for name, steps in trainers.items()}
        rounds.append((max(top, limit(case)), rates))
    return {
        **{"width": case.width, "n_params": case.shape.n_params, "device": case.device},
        **{"precision": case.precision, "limit_gflops": median(top for top, _ in rounds) / 1e9},
        "trainers": {name: summary(case, name, rounds) | {"note": notes.get(name, "")} for name in trainers},
    }


def summary(case: Case, name: str, rounds: list[tuple[float, dict[str, float]]]) -> dict[str, float]:
    """One trainer's medians."""
    plain_count, counted = case.shape.flops_per_token, case.shape.flops_per_token_with_attention
    tokens = median(rates[name] for _, rates in rounds)
    return {
        "tokens_per_second": tokens,
        "gflops_6n": plain_count * tokens / 1e9,
        "gflops_counted": counted * tokens / 1e9,
        "of_limit": median(counted * rates[name] / top for top, rates in rounds),
        "ours_over_this": median(rates["ours"] / rates[name] for _, rates in rounds),
    }


def shares(case: Case) -> dict[str, float]:
    """Where our step's time goes: each group's own time over wall time; the rest is Python and batches."""
    steps = ours(case)
    steps(WARM)
    on_gpu = case.device == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    with profile(activities=activities) as profiler:
        wall = steps(PROFILED) * 1e6
    found = dict.fromkeys([*GROUPS, "other"], 0.0)
    for event in profiler.key_averages():
        spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        found[group_of(event.key)] += spent / wall
    return found | {"outside operators": 1 - sum(found.values())}


def group_of(name: str) -> str:
    """The group of an operator or kernel."""
    return next((group for group, parts in GROUPS.items() if any(part in name for part in parts)), "other")


def packed_gain(k: int, case: Case, n: int = 20) -> float:
    """How many times faster k runs step as one batched model than one after the other."""
    models = [build_decoder(replace(case.config(), seed=seed), case.device) for seed in range(k)]
    weights, buffers = torch.func.stack_module_state(models)
    base, tokens = copy.deepcopy(models[0]).to("meta"), case.tokens()
    optimiser = torch.optim.AdamW(weights.values(), lr=RATE, fused=True)

    def loss(weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Tensor) -> Tensor:
        logits = torch.func.functional_call(base, (weights, buffers), (batch[:, :-1],))
        return F.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())

    def loop(n: int) -> None:
        for i in range(n):
            with case.autocast():
                losses = torch.vmap(loss)(weights, buffers, tokens[[(i + j) % BATCHES for j in range(k)]])
            optimiser.zero_grad(set_to_none=True)
            losses.sum().backward()  # runs share no weight, so each gets its own gradient
            squares = sum(w.grad.flatten(1).square().sum(1) for w in weights.values() if w.grad is not None)
            shrink = (CLIP / (squares.sqrt() + 1e-6)).clamp(max=1.0)
            for w in weights.values():
                w.grad.mul_(shrink.view(-1, *[1] * (w.dim() - 1)))
            optimiser.step()

    alone = ours(case)
    alone(WARM), loop(WARM)
    return k * alone(n) / timed(partial(loop, n), case.device)


def tabulate(results: list[dict[str, Any]]) -> Table:
    """One line a trainer, under its width."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("d, N, limit")
    table.add_column("trainer", no_wrap=True)
    for name in ("tokens/s", "GFLOP/s 6N", "counted", "of limit", "ours / this"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note")
    for result in results:
        head = f"{result['width']}, {result['n_params']:,}, {result['limit_gflops']:,.0f} GFLOP/s"
        head += "" if result["device"] == "cpu" else f", {result['precision']}"
        for name, x in result["trainers"].items():
            speeds = (f"{x['tokens_per_second']:,.0f}", f"{x['gflops_6n']:,.1f}", f"{x['gflops_counted']:,.1f}")
            table.add_row(head, name, *speeds, f"{x['of_limit']:.1%}", f"{x['ours_over_this']:.2f}", x["note"])
            head = ""
        if "HF Trainer" not in result["trainers"]:
            table.add_row("", "HF Trainer", *[""] * 5, "not installed: pip install transformers accelerate")
    return table


def claims(results: list[dict[str, Any]]) -> list[str]:
    """A line for each comparison over the widths."""
    lines = {"ours / nanoGPT-style": ("nanoGPT-style", "ours_over_this", "{:.2f}")}
    lines["ours / HF Trainer"] = ("HF Trainer", "ours_over_this", "{:.2f}")
    lines["ours / ours, compiled"] = ("ours, compiled", "ours_over_this", "{:.2f}")
    lines["ours / ours, bfloat16"] = ("ours, bfloat16", "ours_over_this", "{:.2f}")
    lines["fraction of the limit, ours"] = ("ours", "of_limit", "{:.1%}")
    lines["fraction of the limit, ours compiled"] = ("ours, compiled", "of_limit", "{:.1%}")
    shown = []
    for claim, (name, key, style) in lines.items():
        there = [(r, r["trainers"][name][key]) for r in results if name in r["trainers"]]
        parts = [f"{style.format(value)} at d={r['width']}" for r, value in there]
        shown.append(f"{claim}: {', '.join(parts) or 'not measured'}")
    return shown


def profile_table(results: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, title="Our step's time", title_justify="left")
    table.add_column("d")
    for group in results[0]["shares"]:
        table.add_column(group, justify="right")
    for result in results:
        table.add_row(str(result["width"]), *(f"{share:.1%}" for share in result["shares"].values()))
    return table


def report(console: Console, results: list[dict[str, Any]]) -> None:
    console.print(tabulate(results))
    for line in claims(results):
        console.print(line)
    console.print(profile_table(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", default="32,64,128,256", help="d_model of each model, with commas between")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each trainer, at least")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(quiet=arguments.json, width=None if os.isatty(1) else 150)
    widths = [int(width) for width in arguments.widths.split(",")]
    gpu = torch.cuda.is_available()
    everything: dict[str, Any] = {"torch": torch.__version__, "results": []}
    for device, precision in [("cpu", "float32")] + [("cuda", p) for p in ("bfloat16", "float32") if gpu]:
        results = []
        for width in widths:
            case = Case(width, device, precision)
            results.append(measure(case, arguments.steps) | {"shares": shares(case)})
            if device == "cuda":
                results[-1]["packed"] = {k: packed_gain(k, case) for k in (2, 4, 8, 16)}
        console.print(f"\n{device}, {precision}, {BATCH} x {CONTEXT} tokens a step", style="bold")
        report(console, results)
        everything["results"] += results
    for result in everything["results"]:
        if "packed" in result:
            gains = ", ".join(f"k={k}: {gain:.2f}" for k, gain in result["packed"].items())
            console.print(f"packed, d={result['width']}, {result['precision']}: {gains} times one after the other")
    if not gpu:
        console.print("packed_gain: skipped, no GPU here")
    if arguments.json:
        print(json.dumps(everything))


if __name__ == "__main__":
    main()
