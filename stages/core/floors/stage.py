"""The floors stage of a film lane, and how later stages read its predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import geometry, tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_errors, radial_errors, scaled_errors
from stages.core.floors.fitting import METHODS, Descriptor, FloorParams, Floors, fit_floors
from stages.core.stage import Observer

PREDICTED_ROLES = ("val", "gate", "test")
"""A kernel regression all but repeats its training labels, so that predictions there would mislead."""


@dataclass(frozen=True)
class Fitted:
    """The fitted floors, and what a lane needs to build a floor of its own on them.

    Attributes:
        floors: as fitted and chosen on val.
        features: (N, D) descriptors of all films, in the store's order.
        mirrored: (n, D) descriptors of the mirrored trainable films; (0, D) of a lane that mirrors none.
        rows: of the films that are predicted.
    """

    labelled: LabelledFilms
    floors: Floors
    features: np.ndarray
    mirrored: np.ndarray
    rows: np.ndarray


Further = Callable[[Fitted], tuple[dict[str, np.ndarray], dict[str, float]]]
"""A lane's own floors: method -> points (n, K, 2) in model px of the predicted films, and what val chose."""


def run_floors(
    labelled: LabelledFilms,
    schema: LandmarkSchema,
    params: FloorParams,
    output: Path,
    observe: Observer,
    frames: Mapping[str, geometry.Size] | None = None,
    further: Further | None = None,
) -> dict[str, float]:
    """The whole stage of a film lane.

    Writes floors.npz, floors.json and predictions.parquet (id, role, method, landmarks in raw px) for every
    film of the roles val, gate and test. Floors of `further` are among the predictions and in floors.json.

    Args:
        frames: further units of the metrics, for example {"px224": (224, 224)}.
        further: floors that only this lane has.
    Returns:
        METHOD_ROLE_UNIT: mean radial errors over all labelled films of the role; pca_bound_ROLE_UNIT: what
        the shape model would reach with the best coefficients, which it could only know from the label.
    """
    films = labelled.films
    descriptor = Descriptor.of(params)
    thumbnails = descriptor.thumbnails(films.images)
    observe.progress(len(films), len(films), "thumbnails")
    features = descriptor.features(thumbnails)
    train = labelled.trainable()
    # Points that have no mirror partners are those of films that are taken from one side only.
    mirrored = descriptor.features(thumbnails[train][:, :, ::-1]) if schema.pairs else features[:0]
    floors = fit_floors(labelled, features, mirrored, schema, params)

    rows = labelled.rows(*PREDICTED_ROLES)
    in_model = floors.predict_features(features[rows])
    if further:
        own, choices = further(Fitted(labelled, floors, features, mirrored, rows))
        in_model |= own
        floors = replace(floors, choices=floors.choices | choices)
    predicted = {method: films.to_raw(points, rows) for method, points in in_model.items()}
    metrics: dict[str, float] = {"n_train": len(train), "pca_components": len(floors.shape_model.components)}
    for method, points in predicted.items():
        metrics.update(_role_errors(labelled, rows, method, points, frames or {}))
    whole = rows[np.isfinite(labelled.landmarks_raw[rows]).all((1, 2))]
    bound = films.to_raw(floors.shape_model.project(labelled.landmarks_model[whole]), whole)
    metrics.update(_role_errors(labelled, whole, "pca_bound", bound, frames or {}))
    floors.save(output)
    _write_predictions(output / "predictions.parquet", labelled, rows, predicted, schema)
    return metrics


def read_predictions(folder: Path, labelled: LabelledFilms, rows: np.ndarray) -> dict[str, np.ndarray]:
    """method -> (n, K, 2) raw px for the films `rows`, from a floors folder. Train films have none.

    METHODS come first, in their order, then the floors that only this lane has, by name.
    """
    table = tables.read_table(folder / "predictions.parquet")
    ids = labelled.films.ids[rows]
    predicted = {}
    for method in (*METHODS, *sorted(set(table["method"]) - set(METHODS))):
        own = table[table["method"] == method].set_index("id")["landmarks"]
        if missing := sorted(set(ids) - set(own.index)):
            raise StageError(
                f"{folder}: no predictions of {method} for the films {missing[:10]}; run the floors again"
            )
        predicted[method] = tables.stack_points(own.loc[ids])
    return predicted


def _role_errors(
    labelled: LabelledFilms,
    rows: np.ndarray,
    name: str,
    predicted_raw: np.ndarray,
    frames: Mapping[str, geometry.Size],
) -> dict[str, float]:
    truth, sizes = labelled.landmarks_raw[rows], labelled.films.sizes_raw[rows]
    per_unit = {"raw_px": film_errors(radial_errors(predicted_raw, truth))}
    for unit, frame in frames.items():
        per_unit[unit] = film_errors(scaled_errors(predicted_raw, truth, sizes, frame))
    metrics = {}
    for role in PREDICTED_ROLES:
        for unit, errors in per_unit.items():
            own = errors[labelled.roles[rows] == role]
            own = own[np.isfinite(own)]
            metrics[f"{name}_{role}_{unit}"] = float(own.mean()) if len(own) else float("nan")
    return metrics


def _write_predictions(
    path: Path,
    labelled: LabelledFilms,
    rows: np.ndarray,
    predicted: Mapping[str, np.ndarray],
    schema: LandmarkSchema,
) -> None:
    parts = [
        pd.DataFrame(
            {
                "id": labelled.films.ids[rows],
                "role": labelled.roles[rows],
                "method": method,
                "landmarks": list(points.astype(np.float32)),
            }
        )
        for method, points in predicted.items()
    ]
    columns = [tables.column(name, pa.string()) for name in ("id", "role", "method")]
    columns.append(tables.points_column("landmarks", schema.n_points, "raw px"))
    tables.write_table(path, pd.concat(parts).sort_values(["method", "id"]), pa.schema(columns))
