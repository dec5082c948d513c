"""Write the logs of this folder with their own libraries: python tests/logs/write.py [FOLDER] [FORMAT ...]

Two small runs, the same numbers in every format: RUNS. The files that are committed were written by wandb 0.31.0,
tensorboard 2.21.0, transformers 5.23.0, lightning 2.6.6, mlflow-skinny 3.17.2 (SQLAlchemy
2.1.9) and trackio 0.43.0.
"""

import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, closing
from dataclasses import dataclass
from pathlib import Path

import polars as pl

HERE = Path(__file__).parent
TOKENS_PER_STEP = 16384
STEPS = (250, 500, 1000, 2000)


@dataclass(frozen=True)
class Run:
    """One run: its name, N, and (step, tokens, held-out loss, learning rate) of every evaluation."""

    name: str
    n_params: int

    def rows(self) -> Iterator[tuple[int, int, float, float]]:
        for step in STEPS:
            tokens = step * TOKENS_PER_STEP
            loss = 1.7 + 400 / self.n_params**0.34 + 410 / tokens**0.28
            yield step, tokens, loss, 1e-3 * (1 - step / STEPS[-1])


RUNS = (Run("gpt-2M", 2_097_152), Run("gpt-8M", 8_388_608))


def table(folder: Path) -> None:
    """A table of every run, under names of its own."""
    rows = [
        {"run": run.name, "params": run.n_params, "train_tokens": tokens, "val/loss": loss, "lr": lr}
        for run in RUNS
        for _, tokens, loss, lr in run.rows()
    ]
    frame = pl.DataFrame(rows)
    folder.mkdir(parents=True, exist_ok=True)
    frame.write_csv(folder / "runs.csv")
    frame.write_parquet(folder / "runs.parquet")
    frame.write_ndjson(folder / "runs.jsonl")


def wandb_export(folder: Path) -> None:
    """What `run.history()` writes for a run, and what a chart's CSV export holds for several."""
    folder.mkdir(parents=True, exist_ok=True)
    for run in RUNS:
        history = []
        for step, tokens, loss, lr in run.rows():
            history.append({"_step": step - 1, "train/loss": loss + 0.05, "train/tokens": tokens, "train/lr": lr})
            history.append({"_step": step, "eval/loss": loss, "train/tokens": tokens})
        pl.DataFrame(history, infer_schema_length=None).write_csv(folder / f"{run.name}.csv")
    chart: dict[str, list[float]] = {"train/tokens": [tokens for _, tokens, _, _ in RUNS[0].rows()]}
    for run in RUNS:
        losses = [loss for _, _, loss, _ in run.rows()]
        chart |= {f"{run.name} - eval/loss{bound}": losses for bound in ("", "__MIN", "__MAX")}
    pl.DataFrame(chart).write_csv(folder / "chart.csv")


def wandb(folder: Path) -> None:
    """Offline run folders."""
    import wandb as library

    with tempfile.TemporaryDirectory() as place:
        for run in RUNS:
            made = library.init(
                project="p",
                name=run.name,
                mode="offline",
                dir=place,
                config={"n_params": run.n_params, "optimiser": {"lr": 1e-3}},
                settings=library.Settings(
                    x_disable_stats=True, x_disable_meta=True, disable_git=True, console="off", silent=True
                ),
            )
            for step, tokens, loss, lr in run.rows():
                made.log({"train/loss": loss + 0.05, "train/lr": lr}, step=step - 1)
                made.log({"eval/loss": loss, "train/tokens": tokens}, step=step)
            made.finish()
        library.teardown()  # the files are whole once the service that writes them has ended
        for found in Path(place).glob("wandb/offline-run-*/*.wandb"):
            target = folder / found.parent.name / found.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, target)


def tensorboard(folder: Path) -> None:
    """Event files, scalars as torch's SummaryWriter puts them."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    for run in RUNS:
        writer = EventFileWriter(str(folder / run.name))
        for step, tokens, loss, lr in run.rows():
            for tag, value in {"train/lr": lr, "eval/loss": loss, "train/tokens": tokens}.items():
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                writer.add_event(Event(wall_time=float(step), step=step, summary=summary))
        writer.close()


def trainer(folder: Path) -> None:
    """Trainer states, by the Trainer's own class."""
    from transformers.trainer_callback import TrainerState

    for run in RUNS:
        history: list[dict[str, float]] = []
        for step, tokens, loss, lr in run.rows():
            seen = {"num_input_tokens_seen": tokens, "step": step}
            history += [{"loss": loss + 0.05, "learning_rate": lr, **seen}, {"eval_loss": loss, **seen}]
        state = TrainerState(global_step=STEPS[-1], max_steps=STEPS[-1], log_history=history, train_batch_size=8)
        place = folder / run.name / f"checkpoint-{STEPS[-1]}"
        place.mkdir(parents=True, exist_ok=True)
        state.save_to_json(str(place / "trainer_state.json"))


def weights(folder: Path) -> None:
    """Weights whose header tells N, 17."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({"a": np.zeros((4, 3), np.float16), "b": np.zeros(5, np.float16)}, folder / "model.safetensors")


def lightning(folder: Path) -> None:
    """Lightning's CSVLogger, training and validation in rows of their own."""
    from lightning.pytorch.loggers import CSVLogger

    for run in RUNS:
        logger = CSVLogger(folder, name=run.name, version=0)
        logger.log_hyperparams({"n_params": run.n_params, "lr": 1e-3})
        for step, tokens, loss, lr in run.rows():
            logger.log_metrics({"epoch": 0, "train_loss": loss + 0.05, "tokens": tokens, "lr-AdamW": lr}, step)
            logger.log_metrics({"epoch": 0, "val_loss": loss}, step)
        logger.finalize("success")


def mlflow(folder: Path) -> None:
    """Both local stores."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from mlflow.tracking import MlflowClient

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, chdir(place):
        for uri in (f"file:{place}/mlruns", f"sqlite:///{place}/mlflow.db"):
            client = MlflowClient(tracking_uri=uri)
            experiment = client.create_experiment("ladder", artifact_location="mlflow-artifacts:/ladder")
            for run in RUNS:
                ident = client.create_run(experiment, run_name=run.name).info.run_id
                client.log_param(ident, "n_params", run.n_params)
                for step, tokens, loss, lr in run.rows():
                    client.log_metric(ident, "lr", lr, step=step)
                    client.log_metric(ident, "val/loss", loss, step=step)
                    client.log_metric(ident, "tokens", tokens, step=step)
                client.set_terminated(ident)
        shutil.copytree(Path(place) / "mlruns", folder / "mlruns", dirs_exist_ok=True)
        compact(Path(place) / "mlflow.db", folder / "mlflow.db")


def compact(database: Path, target: Path) -> None:
    """A database as it is, in smaller pages."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(f"pragma page_size = 512; vacuum into '{target}'")


def trackio(folder: Path) -> None:
    """A project of trackio, which looks into the folder that it is told before it is imported."""
    folder.mkdir(parents=True, exist_ok=True)
    place = tempfile.mkdtemp()
    os.environ["TRACKIO_DIR"] = place
    from trackio.sqlite_storage import SQLiteStorage

    for run in RUNS:
        rows = list(run.rows())
        SQLiteStorage.bulk_log(
            project="ladder",
            run=run.name,
            metrics_list=[{"eval/loss": loss, "train/tokens": tokens, "lr": lr} for _, tokens, loss, lr in rows],
            steps=[step for step, *_ in rows],
            config={"n_params": run.n_params},
        )
    compact(Path(place) / "ladder.db", folder / "ladder.db")
    shutil.rmtree(place)


WRITERS: dict[str, Callable[[Path], None]] = {
    "table": table,
    "wandb_export": wandb_export,
    "wandb": wandb,
    "tensorboard": tensorboard,
    "trainer": trainer,
    "weights": weights,
    "lightning": lightning,
    "mlflow": mlflow,
    "trackio": trackio,
}


def main() -> None:
    place = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else HERE
    for name in sys.argv[2:] or WRITERS:
        shutil.rmtree(place / name, ignore_errors=True)
        WRITERS[name](place / name)
        print(json.dumps({name: sum(f.stat().st_size for f in (place / name).rglob("*") if f.is_file())}))


if __name__ == "__main__":
    main()
