"""`scalegrow predict`: one decision, as a table with a sentence of advice, or as JSON."""

from dataclasses import dataclass
from typing import Any

import typer

from scalegrow.budget import BaseCost, Budget
from scalegrow.cli.recommend import Recommendation
from scalegrow.cli.render import (
    EXIT_OUTSIDE,
    between,
    cells,
    console,
    json_estimate,
    note,
    print_json,
    table,
)
from scalegrow.errors import InputError
from scalegrow.growth import Growth, operator
from scalegrow.laws.domain import LABELS, Domain, extrapolation_sentence
from scalegrow.laws.fitted import FEWEST_DRAWS, Fit
from scalegrow.laws.store import read_fit
from scalegrow.plan.advise import advice
from scalegrow.plan.decide import BUDGETS_TPP, FACTORS, Decision, Estimate, Question, decide
from scalegrow.plan.wording import budget_text, factor_text, percent
from scalegrow.runs.shipped import given_or, shipped_fit
from scalegrow.units import format_count, format_flops, parse_count


@dataclass(frozen=True)
class Words:
    """A question as people write it: exactly one of factor and target; without an operator the fit's first."""

    base: str
    factor: float | None
    target: str | None
    budget: str
    operator: str | None
    base_budget: str
    base_cost: str


def run(words: Words, fit_name: str, level: float, *, as_json: bool, strict: bool) -> None:
    """Resolve the words, decide, print."""
    fit = load_fit(fit_name)
    growth, question = asked(fit, words)
    decision = decide(fit, question, level)
    sentence = advice(fit, decision)
    recommended = Recommendation.of(growth, question, level)
    if as_json:
        print_json(as_data(fit_name, fit, growth, decision, sentence) | recommended.as_data())
    else:
        show(fit_name, fit, growth, decision, sentence)
        for line in recommended.sentences():
            console().print(line)
    if strict and decision.distance > 0:
        raise typer.Exit(EXIT_OUTSIDE)


def asked(fit: Fit, words: Words) -> tuple[Growth, Question]:
    """The growth and question that these words stand for."""
    chosen = words.operator or next(iter(fit.law.form.operators), "szp")
    factor = resolve_factor(words.base, words.factor, words.target)
    growth = Growth.by_factor(parse_count(words.base), factor, operator(chosen).name)
    N, N_base = float(growth.target.n_params), float(growth.base.n_params)
    question = Question(
        N=N,
        g=growth.g_params,
        D=Budget.parse(words.budget).tokens(N),
        D_base=Budget.parse(words.base_budget).tokens(N_base),
        operator=chosen,
        base_cost=BaseCost.parse(words.base_cost),
    )
    return growth, question


def resolve_factor(base: str, factor: float | None, target: str | None) -> float:
    """g from --factor or --target, exactly one of which is given."""
    if (factor is None) == (target is None):
        raise InputError("give the growth as --factor 2 or as --target 100M, one of the two.")
    return factor if factor is not None else parse_count(str(target)) / parse_count(base)


def load_fit(name: str) -> Fit:
    """A fit by path, or a shipped one by name; of few draws a line says that its intervals are rough."""
    fit = read_fit(given_or(name, shipped_fit))
    if len(fit.draws) < FEWEST_DRAWS:
        note(f"note: {name} has {len(fit.draws)} draws, so its intervals are rough: fit again with --draws 1000.")
    return fit


def show(name: str, fit: Fit, growth: Growth, decision: Decision, sentence: str) -> None:
    """The decision for a person."""
    out = console()
    q = decision.question
    out.print(
        table(
            ("", "parameters", "tokens", "tok/param", "FLOPs", "shape"),
            (
                ("base", *size_row(q.N_base, q.D_base), shape_text(growth.base)),
                ("target, grown", *size_row(q.N, q.D_grown), shape_text(growth.target)),
                ("target, scratch", *size_row(q.N, q.D), ""),
            ),
        )
    )
    out.print(
        f"g = {growth.g_params:.3g} in parameters; in these shapes, of our ladder, {growth.g_non_embedding:.3g} "
        f"without embeddings, {growth.g_width:.3g} in width; operator {q.operator}; base cost {q.base_cost}\n"
    )
    percent = f"{decision.level:.0%}"
    out.print(
        table(
            ("", "estimate", f"{percent} interval", f"{percent} for one new run"),
            decision_rows(decision, fit.domain),
        )
    )
    out.print(
        f"\nFit: {name} ({fit.law.form.name}, {fit.n_runs} runs, {fit.status.name}); "
        f"this question {extrapolation_sentence(decision.extrapolation)}."
    )
    out.print(f"Advice: {sentence}")


def decision_rows(d: Decision, domain: Domain) -> list[tuple[str, str, str, str]]:
    """One row per thing decided; those that lie outside the fitted runs say so."""
    nats, signed = "{:.3f}".format, "{:+.3f}".format
    edges = dict(zip(domain["g"], ("smallest fitted", "largest fitted"), strict=True))
    best = next((text for g, text in edges.items() if abs(d.best_factor.value / g - 1) < 1e-6), "")
    budget = outside(d.break_even_budget, domain, "tpp")
    largest = outside(d.largest_useful_factor, domain, "g")
    return [
        ("loss from scratch", *loss_cells(d.loss_scratch, nats)),
        ("loss grown", *loss_cells(d.loss_grown, nats)),
        ("difference (grown - scratch)", *loss_cells(d.difference, signed)),
        ("probability growing wins", *cells(d.probability_growing_wins, "{:.2f}".format), ""),
        ("compute saved at equal loss", *cells(d.compute_saved, percent), ""),
        ("growing wins up to, tok/param", *cells(d.break_even_budget, budget_text), budget),
        ("largest useful growth factor", *cells(d.largest_useful_factor, factor_text), largest),
        ("best growth factor", *cells(d.best_factor, "{:.2f}".format), best),
    ]


def outside(found: Estimate, domain: Domain, name: str) -> str:
    """'beyond the fitted 30' where a scan's result lies outside the fitted runs; nothing where there is none."""
    if name not in domain or not 0 < found.value < float("inf"):
        return ""
    low, high = domain[name]
    if low <= found.value <= high:
        return ""
    return f"beyond the fitted {high:.3g}" if found.value > high else f"below the fitted {low:.3g}"


def loss_cells(estimate: Any, form: Any) -> tuple[str, str, str]:
    """Value, the mean's interval, one new run's."""
    return (*cells(estimate, form), between(form(estimate.new_low), form(estimate.new_high)))


def size_row(N: float, D: float) -> tuple[str, str, str, str]:
    """N, D, D/N and 6 N D."""
    return format_count(N), format_count(D), f"{D / N:.3g}", format_flops(6 * N * D).removesuffix(" FLOPs")


def shape_text(shape: Any) -> str:
    """d_model x layers."""
    return f"{shape.d_model} wide, {shape.n_layers} deep"


def as_data(name: str, fit: Fit, growth: Growth, decision: Decision, sentence: str) -> dict[str, Any]:
    """The decision for a program: the schema is documented in docs/json.md."""
    return {
        "schema": "scalegrow-predict/1",
        "question": question_data(growth, decision.question),
        "level": decision.level,
        "loss_scratch": json_estimate(decision.loss_scratch),
        "loss_grown": json_estimate(decision.loss_grown),
        "difference": json_estimate(decision.difference),
        "probability_growing_wins": json_estimate(decision.probability_growing_wins),
        "probability_mean_lower": decision.probability_mean_lower,
        "compute_saved": json_estimate(decision.compute_saved),
        "break_even_budget": {**json_estimate(decision.break_even_budget), "scanned": list(BUDGETS_TPP)},
        "largest_useful_factor": {**json_estimate(decision.largest_useful_factor), "scanned": list(FACTORS)},
        "best_factor": {**json_estimate(decision.best_factor), "scanned": list(fit.domain["g"])},
        "extrapolation": {
            "inside": decision.distance == 0,
            "distance": decision.distance,
            "times_outside": {LABELS[k]: v for k, v in decision.extrapolation.items()},
        },
        "fit": {"name": name, "law": fit.law.form.name, "status": fit.status.name, "runs": fit.n_runs},
        "advice": sentence,
    }


def question_data(growth: Growth, q: Question) -> dict[str, Any]:
    """What was asked, for a program."""
    return {
        "base_params": q.N_base,
        "target_params": q.N,
        "growth_factor": q.g,
        "growth_factor_non_embedding": growth.g_non_embedding,
        "growth_factor_width": growth.g_width,
        "operator": q.operator,
        "tokens": q.D,
        "tokens_grown": q.D_grown,
        "tokens_per_param": q.D / q.N,
        "base_tokens": q.D_base,
        "flops": 6 * q.N * q.D,
        "base_flops": q.base_flops,
        "base_cost": str(q.base_cost),
    }
