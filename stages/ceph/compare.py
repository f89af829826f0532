"""Stage ceph-compare: whether the tuned model may take the base's place, on the gate films of both sets.

The evaluation's answers are compared in pairs; see comparing/paired.py. The verdict goes into verdict.json,
which ceph-candidate turns into objections, and onto a page for the person who decides.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from stages.ceph.comparing.answers import UNIT, JudgedTables, side_by_side
from stages.ceph.comparing.paired import PROMOTE, Guardrails, Outcome, Part, compare_models
from stages.core.evaluate.statistics import Bootstrap
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

ROLE = "gate"


class Params(StageParams):
    """Parameters.

    Attributes:
        images: False keeps every film off the page; points are then drawn on white.
        guardrails: how much worse the tuned model may be in any part.
        cases: films shown of each kind: most improved, unchanged, most worsened.
        film_height: of a film on the page, CSS pixels.
        jpeg_quality: of films on the page.
    """

    section: ClassVar[str] = "ceph.compare"
    seed: int
    images: bool
    guardrails: Guardrails
    bootstrap: Bootstrap
    cases: int = Field(ge=1)
    film_height: int = Field(ge=100)
    jpeg_quality: int = Field(ge=1, le=95)


def run(
    params: Params,
    evaluation: Path,
    films: Path,
    clinic: Path,
    output: Path,
    page: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write verdict.json to `output` and the page to `page`.

    Args:
        evaluation: folder of ceph-evaluate.
        films, clinic: film stores, for pictures and names of data sets.
    Returns:
        Mean errors of both models, their difference with its interval, over all films and by set; points within
        distances; number of reasons against it; promote (0 or 1).
    """
    from stages.ceph.compare_page import Stores, write_compare_page

    pair = side_by_side(JudgedTables.read(evaluation), ROLE)
    outcome = compare_models(pair, params.guardrails, params.bootstrap, params.seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_finite(summary(outcome)), indent=1, sort_keys=True, allow_nan=False)
    output.write_text(text + "\n", encoding="utf-8")
    write_compare_page(page, outcome, pair, Stores.open(films, clinic), params)
    return figures(outcome)


def summary(outcome: Outcome) -> dict[str, Any]:
    """Contents of verdict.json: the outcome with `reasons` as words, figures rounded to six digits."""
    return {"role": ROLE, "unit": UNIT, **asdict(outcome)}


def figures(outcome: Outcome) -> dict[str, float]:
    """The flat figures of a comparison."""
    parts = {"gate": outcome.overall, **{f"gate_{part.name}": part for part in outcome.sets}}
    if outcome.overall_mm is not None:
        parts["gate_mm"] = outcome.overall_mm
    found: dict[str, float] = {"n_films": outcome.overall.comparison.n_films}
    for name, part in parts.items():
        found |= _differences(name, part)
    for part in outcome.success:
        key = part.name.replace(UNIT, "percent_sn").replace("within ", "sdr_").replace(" ", "_")
        found |= {f"{key}_tuned": part.a, f"{key}_base": part.b}
    found["n_reasons"] = len(outcome.reasons)
    found["promote"] = int(outcome.verdict == PROMOTE)
    return found


def _differences(name: str, part: Part) -> dict[str, float]:
    compared = part.comparison
    found = {
        f"{name}_tuned": part.a,
        f"{name}_base": part.b,
        f"{name}_difference": compared.mean_difference,
    }
    if compared.low is not None and compared.high is not None:
        found |= {f"{name}_difference_low": compared.low, f"{name}_difference_high": compared.high}
    return found


def _finite(node: Any) -> Any:
    """JSON values: six significant digits, null for what is not finite."""
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    if isinstance(node, float):
        return float(f"{node:.6g}") if math.isfinite(node) else None
    return node


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
