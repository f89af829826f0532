"""A trained model on any folder of lateral films: accuracy and speed on films that no stage has seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.ceph.convert import DEFAULT_NAME
from stages.ceph.expected import calibration_error, rank_agreement, reliability
from stages.ceph.measures import figures
from stages.ceph.raw import read_raw
from stages.ceph.schema import CEPH
from stages.core.data import geometry
from stages.core.data.convert import ConvertSettings, convert_films
from stages.core.data.films import DatasetInfo, FilmSet, dataset_name
from stages.core.evaluate.errors import radial_errors
from stages.core.evaluate.statistics import Bootstrap
from stages.core.folder import seconds_per_film, set_aside
from stages.core.model.prediction import LIMITS
from stages.core.stage import Observer

if TYPE_CHECKING:
    pass

TIMED_FILMS = 32
"""of a folder, to say how long one film takes"""
BOOTSTRAP = Bootstrap(resamples=2000, level=0.95, method="bca", minimum_groups=6)


def evaluate_folder(model: Path, data: Path, scratch: Path, threads: int) -> dict[str, Any]:
    """Judge a model on the labelled films of `data`, labels taken as they come.

    Films that cannot be used are listed, not fatal; where none is left, StageError names them all. Where a
    film's spacing is unknown it counts in px and in percent of the S-N distance only.

    Args:
        model: folder of ceph-base or ceph-tuned.
        data: a folder in the raw layout; a split.csv in it is not looked at.
        scratch: an empty folder for the converted films.
        threads: native threads.
    Returns:
        n_films and the figures of `measures.figures`; `expected_error`: mean expected and actual errors in px of
        the films by group of expected error, with their mean difference and rank agreement; seconds_per_film
        from the file to the points, film by film; and `quarantined`: what was left out or noted, and why.
    """
    from stages.ceph.locating.model import TrainedCeph, mean_scale
    from stages.core.train import runtime

    runtime.prepare("cpu", threads, 0)
    trained = TrainedCeph.open(model)
    inventory = read_raw(data)
    info = DatasetInfo(dataset_name(data, DEFAULT_NAME), CEPH.lane)
    # One worker: films are small, and forking a process that has used OpenCV's threads can hang its children.
    settings = ConvertSettings(trained.stored_size, 1, "quarantine", LIMITS)
    observe = Observer.quiet(scratch / "work")
    convert_films(
        inventory.jobs, inventory.refusals, scratch / "films", info, CEPH.n_points, settings, observe
    )
    films = FilmSet.open(scratch / "films")
    rows = np.arange(len(films))
    found = trained.predict(np.asarray(films.images))
    predicted, truth = films.to_raw(found.points, rows), films.landmarks_raw.astype(np.float64)
    spacing = np.array([inventory.spacing_mm[i] for i in films.ids], float).reshape(-1, 2)
    enlarged = [
        mean_scale(geometry.resize_matrix(films.model_size, (height, width)))
        for width, height in films.sizes_raw
    ]
    expected = found.expected_error * np.array(enlarged)[:, None]
    errors = radial_errors(predicted, truth)
    groups = reliability(expected, errors)
    quarantined = set_aside(scratch / "films")
    by_id = {job.id: job for job in inventory.jobs}
    return {
        "n_films": len(films),
        "n_quarantined": len({entry["file"] for entry in quarantined if entry["action"] != "kept"}),
        **figures(predicted, truth, spacing, films.table["patient"].to_numpy(), BOOTSTRAP, 0),
        "expected_error": {
            "groups_px": groups,
            "calibration_error_px": _number(calibration_error(groups)),
            "rank_agreement": _number(rank_agreement(expected, errors)),
        },
        "seconds_per_film": seconds_per_film(
            trained.predict_film, [by_id[i] for i in films.ids[:TIMED_FILMS]]
        ),
        "threads": threads,
        "data": info.name,
        "trained_on": trained.card.dataset,
        "model_key": trained.card.key,
        "quarantined": quarantined,
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
