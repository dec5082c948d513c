"""Fit what `predict`, `select` and `gamma` choose by: data/choices/*.json from data/reference/*.parquet.

    python analyses/build_choices.py

selection: every setting of the selection study. gamma_stories, gamma_text: runs from scratch with a norm epsilon
of 1e-5 and without a gate, up to gamma = 1.3 and 1.1.
"""

from initialisations import fitted

from scalegrow.cli.gamma import SCHEMA
from scalegrow.laws.document import write_document
from scalegrow.laws.gamma_fit import fit_gamma
from scalegrow.plan.outcomes import outcomes
from scalegrow.plan.selection import Selection, write_selection
from scalegrow.runs.shipped import DATA, load_table

CHOICES = DATA / "choices"
GAMMA = {"gamma_stories": "gamma", "gamma_text": "gamma_text"}


def main() -> None:
    CHOICES.mkdir(exist_ok=True)
    selection = Selection.fit(outcomes(load_table("reference_selection")))
    write_selection(selection, CHOICES / "selection.json")
    print(f"selection.json: {selection.effects.n_runs} runs from {selection.effects.n_bases} bases")
    for name, study in GAMMA.items():
        law = fit_gamma(fitted(study))
        write_document(CHOICES / f"{name}.json", SCHEMA, law.to_data())
        print(f"{name}.json: {law.n_runs} runs on {law.data}")


if __name__ == "__main__":
    main()
