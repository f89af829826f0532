"""Stage spine-audit: find wrong labels, give each a reason, and repair, drop or keep it as the policy says.

    labels.parquet      one row a film: label after the policy, status, reasons, use (may be trained on)
    findings.parquet    one row a finding: reason, action, vertebrae, detail

Statuses: `ok`; `repaired` (only the order of points was wrong, and is right now); `suspect` (kept, trained
on, counted apart in evaluation); `dropped` (never trained on, still evaluated, counted apart). A repair is a
permutation of points, so its inverse gives the file's label back; a repaired label is checked again. Where
one repairable finding of a film is not to be repaired, the film's label stays as it is in the file.

With a truth table of planted defects (planted.csv of a phantom) the stage also says how many it found.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import tables
from stages.core.data.films import FilmSet
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.spine.labels.geometry import (
    POINT_REASONS,
    TURNS,
    Finding,
    GeometryLimits,
    apply_repair,
    check_geometry,
)
from stages.spine.labels.outliers import STATISTICAL_REASONS, StatisticsLimits, check_statistics
from stages.spine.labels.planted import recall_metrics
from stages.spine.schema import CORNERS, SCHEMA

Policy = Literal["repair", "drop", "keep"]
REPAIRABLE = ("rolled", *TURNS)
REASONS = (*REPAIRABLE, *POINT_REASONS, *STATISTICAL_REASONS)
LABEL_SCHEMA = pa.schema(
    [
        tables.column("id", pa.string()),
        tables.points_column("landmarks", SCHEMA.n_points, "raw px"),
        tables.column("status", pa.string()),
        tables.column("reasons", pa.string()),
        tables.column("use", pa.bool_()),
    ]
)
FINDING_SCHEMA = pa.schema(
    [tables.column(name, pa.string()) for name in ("id", "reason", "action", "vertebrae", "detail")]
)


class Params(StageParams):
    section: ClassVar[str] = "spine.audit"
    geometry: GeometryLimits
    statistics: StatisticsLimits
    policy: dict[str, Policy]


@dataclass(frozen=True)
class Verdict:
    """What became of one label: corners (17, 4, 2) after the policy, status, findings and their actions."""

    corners: np.ndarray
    status: str
    findings: tuple[Finding, ...]
    actions: tuple[Policy, ...]


def run(params: Params, films: Path, raw: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Audit the labels of a film store; see the module's docstring."""
    check_policy(params.policy)
    store = FilmSet.open(films)
    verdicts = audit_labels(store.landmarks_raw, store.sizes_raw, params)
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tables.write_table(partial / "labels.parquet", _label_table(store, verdicts), LABEL_SCHEMA)
    tables.write_table(partial / "findings.parquet", _finding_table(store, verdicts), FINDING_SCHEMA)
    shutil.rmtree(output, ignore_errors=True)
    partial.replace(output)

    statuses = Counter(v.status for v in verdicts)
    reasons = Counter(r for v in verdicts for r in {f.reason for f in v.findings})
    found = {i: {f.reason for f in v.findings} for i, v in zip(store.ids, verdicts, strict=True)}
    return {
        "n_films": len(store),
        **{f"n_{status}": statuses[status] for status in ("ok", "repaired", "suspect", "dropped")},
        **{f"n_reason_{reason}": reasons[reason] for reason in sorted(params.policy)},
        **recall_metrics(raw, films, found),
    }


def check_policy(policy: dict[str, Policy]) -> None:
    """Every reason needs a policy, and only an order of points can be repaired."""
    problems = [f"{r}: missing" for r in sorted(set(REASONS) - set(policy))]
    problems += [f"{r}: not a reason" for r in sorted(set(policy) - set(REASONS))]
    impossible = sorted(r for r, p in policy.items() if p == "repair" and r not in REPAIRABLE)
    problems += [f"{r}: cannot be repaired, choose drop or keep" for r in impossible]
    if problems:
        raise StageError("spine.audit.policy: " + "; ".join(problems))


def audit_labels(landmarks: np.ndarray, sizes: np.ndarray, params: Params) -> list[Verdict]:
    """Judge labels (N, 68, 2) in raw px of films of `sizes` (N, 2) width, height."""
    labels = np.asarray(landmarks, np.float64).reshape(len(landmarks), -1, len(CORNERS), 2)
    judged = [
        check_geometry(corners, (int(size[0]), int(size[1])), params.geometry)
        for corners, size in zip(labels, sizes, strict=True)
    ]
    repaired = np.array([corners for _, corners in judged]).reshape(labels.shape)
    outliers = check_statistics(repaired, params.statistics)
    return [
        _judge(corners, [*findings, *more], params.policy)
        for corners, (findings, _), more in zip(labels, judged, outliers, strict=True)
    ]


def _judge(corners: np.ndarray, findings: Sequence[Finding], policy: dict[str, Policy]) -> Verdict:
    wanted: list[Policy] = [policy[f.reason] for f in findings]
    repairs = [f.repair for f in findings if f.repair is not None]
    if wanted.count("repair") == len(repairs):
        for repair in repairs:
            corners = apply_repair(corners, repair)
        actions = wanted
    else:  # a repair counts on those before it, so it is all of them or none
        actions = ["keep" if action == "repair" else action for action in wanted]
    status = next((status for action, status in _STATUS.items() if action in actions), "ok")
    return Verdict(corners, status, tuple(findings), tuple(actions))


_STATUS: dict[Policy, str] = {"drop": "dropped", "keep": "suspect", "repair": "repaired"}
"""status of a film by the gravest action about it"""


def _label_table(store: FilmSet, verdicts: Sequence[Verdict]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": store.ids,
            "landmarks": [v.corners.astype(np.float32) for v in verdicts],
            "status": [v.status for v in verdicts],
            "reasons": [";".join(dict.fromkeys(f.reason for f in v.findings)) for v in verdicts],
            "use": [v.status != "dropped" for v in verdicts],
        }
    )


def _finding_table(store: FilmSet, verdicts: Sequence[Verdict]) -> pd.DataFrame:
    rows = [
        (film, f.reason, action, ";".join(map(str, f.vertebrae)), f.detail)
        for film, verdict in zip(store.ids, verdicts, strict=True)
        for f, action in zip(verdict.findings, verdict.actions, strict=True)
    ]
    return pd.DataFrame(rows, columns=FINDING_SCHEMA.names)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
