"""Stage ceph-scores: which measure of uncertainty finds the points that the base model gets wrong.

Every scorer is judged on films that the model has not learned from, those of the role val: does it rank wrong
points first (AUROC, AURC, precision at k), and does the error that it lets expect come true? The one with the
highest AUROC is picked for the queue. The gate decides nothing here, and test films are not looked at.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field, model_validator

from stages.ceph.schema import CEPH
from stages.ceph.scoring import described, measures
from stages.ceph.scoring.choice import Choice, Knots, typical_errors
from stages.ceph.scoring.evidence import Draws, Evidence, gather, open_model
from stages.ceph.scoring.measures import Resampling
from stages.ceph.scoring.rising import fit_expected
from stages.ceph.scoring.scorers import MEASURES, PICKABLE, fit_references, scorer
from stages.ceph.scoring.shape import fit_shape_prior
from stages.ceph.scoring.worth import Judged, Worth, crossed_expectation, measure, pick
from stages.ceph.spacing import read_spacing
from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import patient_folds
from stages.core.errors import StageError
from stages.core.evaluate.errors import radial_errors
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

PER_POINT = "per_point.parquet"
PER_POINT_SCHEMA = pa.schema(
    [
        tables.column("id", pa.string()),
        tables.column("landmark", pa.string()),
        tables.column("scorer", pa.string()),
        tables.column("score", pa.float32()),
        tables.column("expected_model_px", pa.float32(), "model px"),
        tables.column("error_model_px", pa.float32(), "model px"),
        tables.column("error_mm", pa.float32(), "mm"),
        tables.column("wrong", pa.bool_()),
    ]
)
"""Expected errors are those of curves that were fitted on other films; errors are NaN without a label, and
those in mm without a spacing."""


class Params(StageParams):
    """Attributes:
    candidates: scorers to pick from; of equal ones the first. The described formula is measured beside them.
    rank_mean: parts of the scorer of that name.
    wrong_mm: a point further off is wrong; `wrong_model_px` where the spacing is unknown.
    precision_at: so many of the least certain points are looked at.
    bins: of a score, for the error that it lets expect. folds: of films, for judging that.
    """

    section: ClassVar[str] = "ceph.scores"
    seed: int
    threads: int
    candidates: tuple[str, ...] = Field(min_length=1)
    rank_mean: tuple[str, ...] = Field(min_length=2)
    draws: Draws
    wrong_mm: float = Field(gt=0)
    wrong_model_px: float = Field(gt=0)
    precision_at: int = Field(ge=1)
    bins: int = Field(ge=2)
    folds: int = Field(ge=2)
    bootstrap: Resampling

    @model_validator(mode="after")
    def _known_scorers(self) -> Params:
        if unknown := sorted(set(self.candidates) - set(PICKABLE)):
            raise ValueError(
                f"candidates: no scorers {unknown} to pick from; there are {', '.join(PICKABLE)}"
            )
        if unknown := sorted(set(self.rank_mean) - set(MEASURES)):
            raise ValueError(f"rank_mean: no parts {unknown}; there are {', '.join(MEASURES)}")
        return self


def run(
    params: Params, films: Path, split: Path, model: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Write choice.json and per_point.parquet into the folder `output`.

    Returns:
        auroc_NAME, aurc_NAME_px, precision_NAME (with _low and _high), film_correlation_NAME and
        calibration_NAME_px of every scorer, picked_NAME (1 for one of them), and counts.
    Raises:
        StageError: no val film has a label, or the training films have too few for a shape prior.
    """
    data = LabelledFilms.open(films, split)
    rows = data.rows("val")
    prior = fit_shape_prior(data.landmarks_raw[data.trainable("train")])
    trained = open_model(model, params.threads, params.seed)
    evidence = gather(trained, data.films, rows, params.draws, prior, params.seed)
    judged = judge(params, data, rows, evidence, read_spacing(films, data.films.ids[rows]))
    references = fit_references(evidence)
    names = tuple(dict.fromkeys((*MEASURES, *params.candidates)))
    scores = {name: scorer(name, params.rank_mean, references).score(evidence) for name in names}
    expected = {name: crossed_expectation(values, judged, params.bins) for name, values in scores.items()}
    worth = measure(judged, scores, expected, params.precision_at, params.bins, params.bootstrap.level)
    picked = pick(params.candidates, worth)

    curve = fit_expected(scores[picked][judged.labelled], judged.errors_px[judged.labelled], params.bins)
    choice = Choice(
        scorer=picked,
        rank_mean=params.rank_mean,
        draws=params.draws,
        references={name: Knots.of(reference) for name, reference in references.items()},
        expected=Knots.of(curve),
        typical=tuple(typical_errors(curve(scores[picked])).tolist()),
        measured={name: _plain(asdict(found)) for name, found in worth.items()},
    )
    choice.save(output)
    tables.write_table(output / PER_POINT, point_table(judged, scores, expected), PER_POINT_SCHEMA)
    return {
        "n_films": len(rows),
        "n_points": int(judged.labelled.sum()),
        "n_wrong": int(judged.wrong.sum()),
        **{f"picked_{name}": int(name == picked) for name in params.candidates},
        **{key: value for name, found in worth.items() for key, value in _flat(name, found).items()},
    }


def judge(
    params: Params, data: LabelledFilms, rows: np.ndarray, evidence: Evidence, spacing_mm: np.ndarray
) -> Judged:
    """The labels of the films `rows` held against the answers of `evidence`.

    Args:
        spacing_mm: (N, 2) mm per raw px of these films, NaN where unknown.
    """
    truth_raw = data.landmarks_raw[rows].astype(np.float64)
    errors_px = radial_errors(evidence.points, data.films.to_model(truth_raw, rows))
    if not np.isfinite(errors_px).any():
        raise StageError(
            f"no film of the role val has a label in {data.films.folder}: scorers cannot be judged"
        )
    apart_mm = (evidence.points_raw - truth_raw) * spacing_mm[:, None]
    errors_mm = np.hypot(apart_mm[..., 0], apart_mm[..., 1])
    wrong = np.where(np.isfinite(errors_mm), errors_mm > params.wrong_mm, errors_px > params.wrong_model_px)
    patients = data.patients[rows]
    drawn = np.broadcast_to(patients[:, None], errors_px.shape)[np.isfinite(errors_px)].astype(str)
    return Judged(
        ids=data.films.ids[rows],
        folds=patient_folds(patients, params.folds, params.seed),
        errors_px=errors_px,
        errors_mm=errors_mm,
        wrong=wrong,
        weights=measures.film_weights(drawn, params.bootstrap, params.seed),
    )


def point_table(
    judged: Judged, scores: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> pd.DataFrame:
    """One row a scorer, film and landmark."""
    n, k = judged.errors_px.shape
    parts = [
        pd.DataFrame(
            {
                "id": np.repeat(judged.ids, k),
                "landmark": np.tile(CEPH.names, n),
                "scorer": name,
                "score": values.ravel(),
                "expected_model_px": expected[name].ravel(),
                "error_model_px": judged.errors_px.ravel(),
                "error_mm": judged.errors_mm.ravel(),
                "wrong": judged.wrong.ravel(),
            }
        )
        for name, values in scores.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _flat(name: str, worth: Worth) -> dict[str, float]:
    estimates = {
        f"auroc_{name}": worth.auroc,
        f"auroc_gain_{name}": worth.gain,
        f"aurc_{name}_px": worth.aurc,
        f"precision_{name}": worth.precision,
    }
    if name == described.NAME:
        del estimates[f"auroc_gain_{name}"]
    return {
        **{key: estimate.value for key, estimate in estimates.items()},
        **{f"{key}_low": estimate.low for key, estimate in estimates.items()},
        **{f"{key}_high": estimate.high for key, estimate in estimates.items()},
        f"film_correlation_{name}": worth.film_correlation,
        f"calibration_{name}_px": worth.calibration_error,
    }


def _plain(node: Any) -> Any:
    """Values as JSON has them: a number that is none is null."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    return None if isinstance(node, float) and not np.isfinite(node) else node


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
