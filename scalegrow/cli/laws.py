"""`scalegrow laws`: what can be fitted, and what others published."""

from scalegrow.cli.render import console, print_json, table
from scalegrow.laws import LAWS
from scalegrow.laws.published import PUBLISHED


def run(*, as_json: bool) -> None:
    """Forms with their formulas, then published laws with their coefficients."""
    forms = [form() for form in LAWS.values()]
    if as_json:
        print_json(
            {
                "schema": "scalegrow-laws/1",
                "forms": [
                    {"name": f.name, "formula": f.formula, "coefficients": list(f.names), "source": f.source}
                    for f in forms
                ],
                "published": [
                    {
                        "name": p.name,
                        "form": p.law.form.name,
                        "coefficients": dict(zip(p.law.form.names, p.law.coefficients, strict=True)),
                        "source": p.source,
                    }
                    for p in PUBLISHED.values()
                ],
            }
        )
        return
    out = console()
    out.print(table(("law", "formula"), ((f.name, f.formula) for f in forms), title="Laws that can be fitted"))
    rows = (
        (p.name, ", ".join(f"{n} {v:.4g}" for n, v in zip(p.law.form.names, p.law.coefficients, strict=True)))
        for p in PUBLISHED.values()
    )
    out.print()
    out.print(table(("published", "coefficients"), rows, title="Published laws"))
