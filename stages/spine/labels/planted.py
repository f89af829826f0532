"""How many planted defects were found: reasons of audit and conversion against planted.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from stages.core.errors import StageError
from stages.spine.layout import film_id, find_root

SHOWS_AS: dict[str, frozenset[str]] = {
    "endplate_skipped": frozenset({"gap", "height", "spacing", "overlap", "shape"}),
    "vertebra_skipped": frozenset({"gap", "spacing"}),
}
"""reasons that count as finding a defect which has no reason of its own name"""


def recall_metrics(raw: Path, films: Path, findings: Mapping[str, Set[str]]) -> dict[str, float]:
    """Recall of every planted defect and precision of every reason; nothing without planted.csv.

    Args:
        raw: the raw folder; only its planted.csv is read.
        films: the film store, whose quarantine.csv holds the conversion's reasons.
        findings: film id -> reasons of the audit.
    Returns:
        `n_planted`; `recall` (share of planted films that were given a fitting reason) and `precision` (share
        of films with a reason that were planted), overall and as recall_DEFECT and precision_REASON.
    """
    table = find_root(raw) / "planted.csv"
    if not table.is_file():
        return {}
    planted = _read_planted(table)
    reasons: dict[str, set[str]] = {film: set(found) for film, found in findings.items() if found}
    with (films / "quarantine.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            reasons.setdefault(row["file"], set()).add(row["reason"])

    hit = {
        film: bool(reasons.get(film, set()) & SHOWS_AS.get(defect, frozenset({defect})))
        for film, defect in planted.items()
    }
    metrics: dict[str, float] = {
        "n_planted": len(planted),
        "recall": _share(hit.values()),
        "precision": _share(film in planted for film in reasons),
    }
    for defect in sorted(set(planted.values())):
        metrics[f"recall_{defect}"] = _share(hit[film] for film in planted if planted[film] == defect)
    for reason in sorted({r for found in reasons.values() for r in found}):
        metrics[f"precision_{reason}"] = _share(f in planted for f in reasons if reason in reasons[f])
    return metrics


def _read_planted(table: Path) -> dict[str, str]:
    """{film id: defect}; columns beyond file and defect are ignored."""
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := {"file", "defect"} - set(reader.fieldnames or ()):
            raise StageError(f"{table}: columns {sorted(missing)} are missing; found {reader.fieldnames}")
        return {film_id(Path(row["file"]).name): row["defect"] for row in reader}


def _share(values: Iterable[bool]) -> float:
    hits = list(values)
    return sum(hits) / len(hits) if hits else float("nan")
