"""A trained model on any folder in the raw layout: accuracy and speed on films that no stage has seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.chest.measures import shares_under
from stages.chest.raw.inventory import take_inventory
from stages.chest.raw.layout import DEFAULT_NAME, read_raw
from stages.chest.schema import CHEST, REPORT_FRAME
from stages.core.data.convert import ConvertSettings, convert_films
from stages.core.data.films import DatasetInfo, FilmSet, dataset_name
from stages.core.evaluate.errors import film_errors, scaled_errors
from stages.core.folder import seconds_per_film, set_aside
from stages.core.model.prediction import LIMITS
from stages.core.stage import Observer

if TYPE_CHECKING:
    pass

TIMED_FILMS = 32
"""of a folder, to say how long one film takes"""


def evaluate_folder(model: Path, data: Path, scratch: Path, threads: int) -> dict[str, Any]:
    """Judge a model on the labelled films of `data`, labels taken as they come.

    Films that cannot be used are listed, not fatal; where none is left, StageError names them all.

    Args:
        model: folder of chest-system.
        data: a folder in the raw layout; a split.csv in it is not looked at.
        scratch: an empty folder for the converted films.
        threads: native threads.
    Returns:
        n_films, mean_px224 and median_px224 with their spread and the shares of films under published
        thresholds, the same by class; `coverage`: the share of labels within the radius about their point,
        beside what was claimed of it; seconds_per_film from the file to the points, film by film; and
        `quarantined`: what was left out or noted, and why.
    """
    from stages.chest.system_model import TrainedSystem
    from stages.core.train import runtime

    runtime.prepare("cpu", threads, 0)
    trained = TrainedSystem.open(model)
    inventory = take_inventory(read_raw(data))
    info = DatasetInfo(dataset_name(data, DEFAULT_NAME), CHEST.lane)
    # One worker: films are small, and forking a process that has used OpenCV's threads can hang its children.
    settings = ConvertSettings(trained.stored_size, 1, "quarantine", LIMITS)
    observe = Observer.quiet(scratch / "work")
    convert_films(
        inventory.jobs, inventory.refusals, scratch / "films", info, CHEST.n_points, settings, observe
    )
    films = FilmSet.open(scratch / "films")
    rows = np.arange(len(films))
    found = trained.predict(np.asarray(films.images))
    predicted = films.to_raw(found.points, rows)
    errors = scaled_errors(predicted, films.landmarks_raw, films.sizes_raw, REPORT_FRAME)
    per_film = film_errors(errors)
    classes = films.table["group"].to_numpy()
    quarantined = set_aside(scratch / "films")
    by_id = {job.id: job for job in inventory.jobs}
    return {
        "n_films": len(films),
        "n_quarantined": len({entry["file"] for entry in quarantined if entry["action"] != "kept"}),
        **_spread(per_film),
        "by_class": {
            name: {"n_films": int((classes == name).sum()), **_spread(per_film[classes == name])}
            for name in sorted(set(classes))
        },
        "coverage": float((errors <= found.radius).mean()),
        "coverage_claimed": trained.card.params["coverage"],
        "mean_px224_by_landmark": dict(zip(CHEST.names, errors.mean(0).tolist(), strict=True)),
        "seconds_per_film": seconds_per_film(
            trained.predict_film, [by_id[i] for i in films.ids[:TIMED_FILMS]]
        ),
        "threads": threads,
        "data": info.name,
        "trained_on": trained.card.dataset,
        "model_key": trained.card.key,
        "quarantined": quarantined,
    }


def _spread(errors: np.ndarray) -> dict[str, Any]:
    return {
        "mean_px224": float(errors.mean()),
        "median_px224": float(np.median(errors)),
        "p10_px224": float(np.percentile(errors, 10)),
        "p90_px224": float(np.percentile(errors, 90)),
        "share_under_px224": {f"{step:g}": share for step, share in shares_under(errors).items()},
    }
