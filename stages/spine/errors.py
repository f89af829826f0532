"""Stage spine-errors: examples of points that may be wrong, for the Detector and the Corrector to learn from.

Two kinds stand side by side: what a Refiner said of films that it had not been trained on, and labels with a
mistake played on them. Only films of role train that may be trained on; `weight` is how often to draw a row.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.evaluate.errors import radial_errors
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.spine.corruption import CORRUPTIONS
from stages.spine.error_set import OUT_OF_FOLD, error_schema, read_folds
from stages.spine.measures import vertebra_heights
from stages.spine.schema import SCHEMA

SOURCES = (OUT_OF_FOLD, *CORRUPTIONS)
FAR = 0.5
"""In heights of the film's mean vertebra: how far off a point is that the metrics count as far off."""


class Params(StageParams):
    """See params.yaml for what each key means."""

    section: ClassVar[str] = "spine.errors"
    seed: int
    mix: dict[str, float]
    draws: int = Field(ge=1)

    @field_validator("mix")
    @classmethod
    def _shares_of_known_sources(cls, mix: dict[str, float]) -> dict[str, float]:
        if mix.keys() != set(SOURCES):
            raise ValueError(f"shares of {', '.join(SOURCES)} expected, not of {', '.join(mix)}")
        if min(mix.values()) < 0 or abs(sum(mix.values()) - 1) > 1e-9:
            raise ValueError(f"the shares must be >= 0 and add up to 1, not {mix}")
        return mix


def run(
    params: Params, films: Path, audit: Path, split: Path, folds: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Write `output` (see error_set.py) from the labels and the out-of-fold predictions `folds`."""
    data = LabelledFilms.open(films, split, audit)
    table = make_errors(data, SCHEMA, read_folds(folds), params)
    tables.write_table(output, table, error_schema(SCHEMA.n_points))
    return summarise(table)


def make_errors(
    data: LabelledFilms, schema: LandmarkSchema, folds: pd.DataFrame, params: Params
) -> pd.DataFrame:
    """The error set as a table, sorted by source and film; any vertebral schema.

    Raises:
        StageError: `folds` does not hold exactly the films that may be trained on; those that differ are named.
    """
    parts = []
    for source, share in params.mix.items():
        if not share:
            continue
        made = (
            _out_of_fold(data, folds) if source == OUT_OF_FOLD else _corrupted(data, schema, source, params)
        )
        parts.append(made.assign(source=source, weight=share / len(made)))
    table = pd.concat(parts, ignore_index=True)

    rows = data.films.rows(table["id"])
    points, truth = np.stack(list(table["landmarks"])), data.landmarks_raw[rows].astype(np.float64)
    table["error_raw_px"] = list(radial_errors(data.films.to_raw(points, rows), truth))
    table["vertebra_height_raw_px"] = vertebra_heights(truth)
    order = table["source"].map(SOURCES.index)
    return (
        table.assign(order=order).sort_values(["order", "id", "clicks"], kind="stable").drop(columns="order")
    )


def _out_of_fold(data: LabelledFilms, folds: pd.DataFrame) -> pd.DataFrame:
    """Columns id, clicks, landmarks: the predictions, with the points that were hinted at their label.

    The collaboration loop shows its Detector and Corrector a user's clicks as they were made.
    """
    ours, theirs = set(data.films.ids[data.trainable()]), set(folds["id"])
    if ours != theirs:
        raise StageError(
            f"the out-of-fold predictions are of other films than those to train on: {sorted(ours - theirs)[:5]} "
            f"have none, {sorted(theirs - ours)[:5]} should have none; run `dvc repro spine-folds`"
        )
    hinted = np.stack([np.asarray(h, bool) for h in folds["hinted"]])
    points = tables.stack_points(folds["landmarks"]).astype(np.float64)
    labels = data.landmarks_model[data.films.rows(folds["id"])]
    points = np.where(hinted[..., None], labels, points)
    return pd.DataFrame({"id": folds["id"].to_numpy(), "clicks": folds["clicks"], "landmarks": list(points)})


def _corrupted(data: LabelledFilms, schema: LandmarkSchema, source: str, params: Params) -> pd.DataFrame:
    """Columns id, clicks (0), landmarks: `draws` corruptions of every label, one of a clean label.

    A film's draws come from its pseudonym: another film more or less changes nothing for it.
    """
    corrupt = CORRUPTIONS[source]
    labels, ids, points = data.landmarks_model, [], []
    for row in data.trainable():
        name = str(data.films.ids[row])
        rng = np.random.default_rng([params.seed, SOURCES.index(source), *name.encode()])
        for _ in range(1 if source == "clean" else params.draws):
            ids.append(name)
            points.append(corrupt(labels[row], schema, rng))
    return pd.DataFrame({"id": ids, "clicks": 0, "landmarks": points})


def summarise(table: pd.DataFrame) -> dict[str, float]:
    """Rows, mean error and share of points further off than FAR heights of a vertebra, of every source."""
    metrics: dict[str, float] = {"n_examples": len(table), "n_films": table["id"].nunique()}
    for source, part in table.groupby("source", sort=True):
        errors = np.stack(list(part["error_raw_px"]))
        metrics[f"n_{source}"] = len(part)
        metrics[f"mean_error_raw_px_{source}"] = float(errors.mean())
        far = errors > FAR * part["vertebra_height_raw_px"].to_numpy()[:, None]
        metrics[f"share_beyond_half_vertebra_{source}"] = float(far.mean())
    return metrics


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
