"""candidate.json of either model: both on one gate set, that of the base and of the clinic together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pandas as pd
from pydantic import Field

from stages.ceph.evaluation.films import BASE_SET, CLINIC_SET, SETS
from stages.core.data import tables
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.evaluate.statistics import Bootstrap
from stages.core.model.card import load_card
from stages.core.params import StageParams
from stages.core.promotion.candidate import film_gate_digest, make_candidate, write_candidate


class CandidateParams(StageParams):
    """Parameters of both candidates, so that they face the same judgement.

    Attributes:
        seed: of the bootstrap.
        floors: the evaluation's names of the floors; the best of them on the gate films is to be beaten.
        error: the column of per_film.parquet that decides; known for every film, with a spacing or without.
        bootstrap: of the comparison with the floor.
    """

    section: ClassVar[str] = "ceph.candidate"
    seed: int
    floors: tuple[str, ...] = Field(min_length=1)
    error: str = Field(pattern="^error_")
    bootstrap: Bootstrap


def run_candidate(
    params: CandidateParams,
    method: str,
    model: Path,
    evaluation: Path,
    split: Path,
    clinic_split: Path,
    output: Path,
    objections: Sequence[str] = (),
) -> dict[str, float]:
    """Write candidate.json of the model that the evaluation calls `method`.

    Returns:
        Mean gate errors of the model, of its best floor and of either set, their difference, beats_floor (0 or 1)
        and n_objections.
    Raises:
        StageError: the model was trained on another split, or other gate films were judged.
    """
    trained_on, locked = load_card(model).split_sha256, split_digest(read_split(split))
    if trained_on != locked:
        raise StageError(
            f"{model} was trained on the split {trained_on[:12]}, but {split} is {locked[:12]}: films of its "
            "gate set may have been trained on; run `dvc repro` so that training follows the split"
        )
    per_film = {name: tables.read_table(evaluation / name / "per_film.parquet") for name in SETS}
    for name, roles in ((BASE_SET, split), (CLINIC_SET, clinic_split)):
        require_gate(name, per_film[name], read_split(roles))
    per_point = pd.concat([tables.read_table(evaluation / name / "per_point.parquet") for name in SETS])
    candidate = make_candidate(
        model,
        pd.concat(per_film.values()),
        film_gate_digest(per_point, method),
        method=method,
        floors=params.floors,
        error=params.error,
        bootstrap=params.bootstrap,
        seed=params.seed,
        metrics=gate_means(per_film, method, params.error),
    ).model_copy(update={"objections": tuple(objections)})
    write_candidate(output, candidate)
    unit = candidate.unit
    return {
        "n_gate": candidate.n_gate,
        **{name: value for name, value in candidate.metrics.items() if name.startswith("gate_")},
        f"floor_gate_mean_{unit}": candidate.floors[candidate.against_floor.floor],
        f"difference_{unit}": candidate.against_floor.mean_difference,
        "beats_floor": candidate.beats_floor,
        "n_objections": len(objections),
    }


def require_gate(name: str, per_film: pd.DataFrame, roles: pd.DataFrame) -> None:
    """Raise a StageError if the judged gate films of a set are not those of its split."""
    judged = set(per_film.loc[per_film["role"] == "gate", "id"])
    locked = set(roles.loc[roles["role"] == "gate", "id"])
    if judged != locked:
        raise StageError(
            f"of the {name} set {len(judged)} gate films were judged, the split has {len(locked)}: "
            f"{sorted(judged - locked)[:5]} are not in the split's gate, {sorted(locked - judged)[:5]} were "
            "not judged; evaluate again"
        )


def gate_means(per_film: dict[str, pd.DataFrame], method: str, error: str) -> dict[str, float]:
    """Mean gate error of each set: gate_SET_mean_UNIT."""
    found = {}
    for name, table in per_film.items():
        values = table.loc[(table["method"] == method) & (table["role"] == "gate"), error].dropna()
        if len(values):
            found[f"gate_{name}_mean_{error.removeprefix('error_')}"] = float(values.mean())
    return found
