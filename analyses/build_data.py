"""Turn the tables in data/raw (kept as they came) into run tables in data/.

    python analyses/build_data.py

Adds what the raw files leave implicit: provenance, D_base, base identity and the three growth factors.
The warm-start ladder's widths are known, so base sizes are snapped to the exact published counts.
"""

from pathlib import Path

import polars as pl

from scalegrow.shape import ModelShape, gpt_shape

DATA = Path(__file__).parents[1] / "data"
BASE_TPP = 20  # bases of arXiv 2605.13405 were trained to 20 tokens per parameter
LADDER = {gpt_shape(width).n_params: gpt_shape(width) for width in (64, 128, 256, 512, 768, 1280, 2048, 3072)}
OPERATORS = {"scratch_mup": "scratch", "warmstart_szp": "szp"}


def on_ladder(n_params: float) -> ModelShape:
    nearest = min(LADDER, key=lambda n: abs(n / n_params - 1))
    if abs(nearest / n_params - 1) > 0.001:
        raise ValueError(f"{n_params} is not a rung of the published ladder")
    return LADDER[nearest]


def growth_columns(target: float, base: float | None) -> dict[str, float | str | None]:
    big = on_ladder(target)
    small = big if base is None else on_ladder(base)
    return {
        "n_params": float(big.n_params),
        "n_params_non_embedding": float(big.n_params_non_embedding),
        "growth_factor": big.n_params / small.n_params,
        "growth_factor_non_embedding": big.n_params_non_embedding / small.n_params_non_embedding,
        "growth_factor_width": big.d_model / small.d_model,
        "base_params": None if base is None else float(small.n_params),
        "base_tokens": 0.0 if base is None else float(BASE_TPP * small.n_params),
    }


def trunk(operator: str, target: float, base: float | None) -> str:
    """Runs of one operator from one base to one target share the base, its LR and the data order."""
    start = "" if base is None else f"{on_ladder(base).n_params / 1e6:.1f}M->"
    return f"{operator}:{start}{on_ladder(target).n_params / 1e6:.1f}M"


def chinchilla() -> pl.DataFrame:
    raw = pl.read_csv(DATA / "raw" / "epoch_chinchilla.csv")
    N, C = pl.col("Model Size"), pl.col("Training FLOP")
    return raw.select(
        run=pl.format("point {}", pl.int_range(pl.len())),
        source=pl.lit("arXiv 2203.15556 fig. 4, read off by Epoch AI (arXiv 2404.10102)"),
        operator=pl.lit("scratch"),
        n_params=N,
        tokens=C / (6 * N),
        flops=C,
        loss="loss",
        annealed=pl.lit(None, dtype=pl.Boolean),
        n_params_counts=pl.lit("all"),
    )


def digitised() -> pl.DataFrame:
    rows = []
    for r in pl.read_csv(DATA / "raw" / "warmstart_2605_13405_digitised.csv").iter_rows(named=True):
        target, base, operator = r["n_params_target"], r["n_params_base"], r["operator"]
        group = trunk(operator, target, base)
        rows.append(
            {
                "run": f"{group} {r['tokens_per_param_budget']}tpp",
                "source": "arXiv 2605.13405, figures of its public notebooks, read off to +-0.002 nats",
                "operator": operator,
                **growth_columns(target, base),
                "tokens": float(r["tokens"]),
                "loss": r["loss"],
                "base": group,
                "annealed": bool(r["annealed"]),
                "selected": False,
                "n_params_counts": "all",
                "base_cost_included": False,
                "budget_tpp": r["tokens_per_param_budget"],
                "fraction_of_run": r["fraction_of_run"],
            }
        )
    return pl.DataFrame(rows)


def printed() -> pl.DataFrame:
    rows = []
    for r in pl.read_csv(DATA / "raw" / "warmstart_2605_13405_points.csv").iter_rows(named=True):
        operator = OPERATORS[r["method"]]
        target, base = r["target_N"], None if operator == "scratch" else r["base_N"]
        group = trunk(operator, target, base)
        rows.append(
            {
                "run": f"{group} {r['tkpp']:g}tpp shrink {r['shrink']:g}",
                "source": "arXiv 2605.13405, values printed in its public notebooks",
                "operator": operator,
                **growth_columns(target, base),
                "tokens": r["tokens"],
                "flops": r["flops_target"],
                "loss": r["val_loss"],
                "base": group,
                "annealed": True,
                "selected": operator != "scratch",
                "n_params_counts": "all",
                "base_cost_included": False,
                "seed": r["seed"],
                "train_loss": r["train_loss"],
                "shrink": r["shrink"],
                "max_lr": r["max_lr"],
            }
        )
    return pl.DataFrame(rows)


def main() -> None:
    tables = {
        "chinchilla_epoch": chinchilla(),
        "warmstart_2605_13405_digitised": digitised(),
        "warmstart_2605_13405_printed": printed(),
    }
    for name, table in tables.items():
        table.write_csv(DATA / f"{name}.csv")
        print(f"data/{name}.csv: {table.height} rows")


if __name__ == "__main__":
    main()
