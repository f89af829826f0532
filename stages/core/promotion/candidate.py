"""`candidate.json`: a trained model's case for promotion, and the last output of every lane.

It says which model it is, on which gate set it was judged, and how wrong it was there film by film, so that
a registry can compare it with a champion in pairs without loading either. It decides nothing itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.core.errors import StageError
from stages.core.evaluate.statistics import Bootstrap, Verdict, compare
from stages.core.model.card import folder_digest, load_card, wrong_fields


class FloorComparison(BaseModel):
    """The candidate (A) against its strongest floor (B) on the gate set; see `statistics.Comparison`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    floor: str
    mean_difference: float
    low: float | None
    high: float | None
    p_wilcoxon: float | None
    n_films: int
    n_groups: int
    verdict: Verdict


class Candidate(BaseModel):
    """A model that is offered for promotion.

    Attributes:
        version: of this format.
        lane, dataset, registry_name: the model competes with others of `registry_name`, `<lane>-<dataset>`.
        model_sha256: `card.folder_digest` of the model folder.
        key: DVC key of the training run, from the model's card.
        gate_sha256: `gate_digest` of the gate set; two candidates compare only where it is equal.
        n_gate: films (or sequences) of the gate set.
        unit: of all errors, for example `raw_px`.
        errors: gate id -> error of the candidate. An id without any label has none.
        groups: gate id -> patient, dancer or sequence that it belongs to; the unit of the bootstrap.
        metrics: flat summary on val and gate, for people to read.
        floors: floor -> its mean error on the gate set.
        against_floor: the comparison with the floor whose gate error is lowest.
        objections: what the lane's own comparison holds against the model, in words, whatever its mean error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Literal[1] = 1
    lane: str
    dataset: str
    registry_name: str
    model_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    key: str
    gate_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    n_gate: int = Field(gt=0)
    unit: str
    errors: dict[str, float] = Field(min_length=1)
    groups: dict[str, str]
    metrics: dict[str, float]
    floors: dict[str, float] = Field(min_length=1)
    against_floor: FloorComparison
    objections: tuple[str, ...] = ()

    @property
    def beats_floor(self) -> bool:
        """Whether the candidate's error is below its strongest floor's beyond doubt."""
        return self.against_floor.verdict == "better"

    @model_validator(mode="after")
    def _consistent(self) -> Candidate:
        if self.errors.keys() != self.groups.keys():
            differing = sorted(self.errors.keys() ^ self.groups.keys())
            raise ValueError(f"errors and groups name different films: {differing[:10]}")
        if len(self.errors) > self.n_gate:
            raise ValueError(f"{len(self.errors)} errors for {self.n_gate} gate films")
        if self.registry_name != f"{self.lane}-{self.dataset}":
            raise ValueError(f"registry_name must be {self.lane}-{self.dataset}, not {self.registry_name}")
        return self


def gate_digest(ids: Iterable[str], labels: Iterable[np.ndarray]) -> str:
    """SHA-256 over a gate set's ids and the labels of each, in any order of the films.

    Labels count as float32, the precision of the stores; a corrected label makes another gate set.
    """
    rows = sorted(
        (str(i), np.ascontiguousarray(label, "<f4").tobytes()) for i, label in zip(ids, labels, strict=True)
    )
    digest = hashlib.sha256()
    for identifier, content in rows:
        digest.update(f"{identifier}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def make_candidate(
    model: Path,
    per_film: pd.DataFrame,
    gate_sha256: str,
    *,
    method: str,
    floors: Sequence[str],
    error: str,
    bootstrap: Bootstrap,
    seed: int,
    metrics: Mapping[str, float] | None = None,
) -> Candidate:
    """Put a candidate together from its model folder and an evaluation's rows.

    Args:
        model: the model folder; its card gives lane, data set and key.
        per_film: columns id, patient, role, method and `error`; rows of role val and gate are read.
        gate_sha256: `gate_digest` of the gate set.
        method: the name that `per_film` gives the model.
        floors: names of the floors in `per_film`; the one with the lowest mean gate error is the one to beat.
        error: the column that decides, `error_UNIT`.
        metrics: more figures for people to read.
    Raises:
        StageError: if a method is missing, or did not judge the same gate films as the others.
    """
    card = load_card(model)
    unit = error.removeprefix("error_")
    gate = per_film[per_film["role"] == "gate"]
    errors = _errors_by_method(gate, [method, *floors], error)
    patients = gate.drop_duplicates("id").set_index("id")["patient"].reindex(errors.index)

    floor_means = {name: float(errors[name].mean()) for name in floors}
    best = min(floor_means, key=lambda name: (floor_means[name], name))
    against = compare(errors[method], errors[best], patients, bootstrap, seed)
    judged = errors[method].dropna()
    return Candidate(
        lane=card.lane,
        dataset=card.dataset,
        registry_name=card.registry_name,
        model_sha256=folder_digest(model),
        key=card.key,
        gate_sha256=gate_sha256,
        n_gate=len(errors),
        unit=unit,
        errors={str(i): round(float(value), 6) for i, value in judged.items()},
        groups={str(i): str(patients[i]) for i in judged.index},
        metrics={**_role_means(per_film, method, error, unit), **_rounded(metrics or {})},
        floors=_rounded(floor_means),
        against_floor=FloorComparison(floor=best, **_rounded(asdict(against))),
    )


def film_gate_digest(per_point: pd.DataFrame, method: str) -> str:
    """`gate_digest` of a film lane, from the labels that per_point.parquet holds beside each prediction."""
    gate = per_point[(per_point["role"] == "gate") & (per_point["method"] == method)]
    if gate.empty:
        raise StageError(f"the evaluation holds no gate films of the method {method}: run `dvc repro` again")
    gate = gate.sort_values(["id", "point"])
    ids = gate["id"].unique()
    labels = gate[["x_label_raw", "y_label_raw"]].to_numpy(np.float32).reshape(len(ids), -1, 2)
    return gate_digest(ids, labels)


def write_candidate(path: Path, candidate: Candidate) -> None:
    """Write candidate.json, keys sorted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(candidate.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_candidate(path: Path) -> Candidate:
    """Read candidate.json; a StageError names every field that is wrong."""
    if not path.is_file():
        raise StageError(f"{path} does not exist: run `dvc repro` first")
    try:
        return Candidate.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise StageError(f"{path} is not a candidate: {wrong_fields(error)}") from None


def _errors_by_method(gate: pd.DataFrame, methods: Sequence[str], error: str) -> pd.DataFrame:
    """One row a gate film, one column a method; every film that any of them judged has to be in all."""
    wide = gate.pivot(index="id", columns="method", values=error).sort_index()
    judged = gate.assign(judged=True).pivot(index="id", columns="method", values="judged").sort_index()
    if missing := [name for name in methods if name not in wide]:
        raise StageError(
            f"the evaluation holds no gate films of {missing}; its methods are {list(wide.columns)}"
        )
    if partly := [name for name in methods if judged[name].isna().any()]:
        raise StageError(f"the methods {partly} did not judge all {len(wide)} gate films: evaluate again")
    return wide[list(methods)]


def _role_means(per_film: pd.DataFrame, method: str, error: str, unit: str) -> dict[str, float]:
    own = per_film[per_film["method"] == method]
    summary = {}
    for role in ("val", "gate"):
        values = own.loc[own["role"] == role, error].dropna()
        if len(values):
            summary[f"{role}_mean_{unit}"] = float(values.mean())
            summary[f"{role}_median_{unit}"] = float(values.median())
    return _rounded(summary)


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Six decimals: more would differ between kinds of CPU, and say nothing about pixels."""
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}
