"""Write docs/cli.md from the commands' own --help.

python analyses/build_cli_docs.py
"""

import os
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
COMMANDS = (
    "predict",
    "fit",
    "validate",
    "laws",
    "allocate",
    "gamma",
    "design",
    "train",
    "collect",
    "grow",
    "probe",
    "select",
    "export",
    "sweep",
    "plot",
    "plot map",
    "plot loss",
    "plot factor",
    "plot saving",
    "plot operators",
    "plot gamma",
    "plot isoflop",
    "plot holdout",
    "plot residuals",
    "plot profile",
)


def help_of(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "scalegrow", *words, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "100", "TERMINAL_WIDTH": "100"},
    )
    return "\n".join(
        line.rstrip() for line in done.stdout.replace("python -m scalegrow", "scalegrow").splitlines()
    )


def page() -> str:
    parts = ["# Command line\n", "Written by `python analyses/build_cli_docs.py` from the commands' own help.\n"]
    parts += [
        "Exit codes: 0 done; 2 bad input, one line on stderr, nothing written; 3 with `--strict`, outside the\n"
        "fitted range; 4 a run diverged; 130 interrupted and saved. Results go to stdout, progress and warnings\n"
        "to stderr.\n"
    ]
    for words in ((), *(command.split() for command in COMMANDS)):
        parts.append(f"## {' '.join(('scalegrow', *words))}\n\n```text\n{help_of(*words)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (DOCS / "cli.md").write_text(page())
    print("docs/cli.md")
