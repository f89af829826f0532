"""The model of a described lane on any folder of labelled films: accuracy and speed on films that no stage has seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.core.data.convert import ConvertSettings, convert_films
from stages.core.data.films import DatasetInfo, FilmSet
from stages.core.evaluate.statistics import Bootstrap
from stages.core.folder import seconds_per_film, set_aside
from stages.core.model.prediction import LIMITS
from stages.core.stage import Observer
from stages.custom.measures import figures
from stages.custom.raw.forms import find_labels, form_of
from stages.custom.raw.inventory import read_raw
from stages.custom.spacing import read_spacing, write_spacing

TIMED_FILMS = 32
"""of a folder, to say how long one film takes"""
LEAST_SHARE = 0.0
"""a film counts with whatever landmarks it has"""
BOOTSTRAP = Bootstrap(resamples=2000, level=0.95, method="bca", minimum_groups=6)


def evaluate_folder(model: Path, data: Path, scratch: Path, threads: int) -> dict[str, Any]:
    """Judge a model on the labelled films of `data`, labels taken as they come.

    Films that cannot be used are listed, not fatal; where none is left, StageError names them all.

    Args:
        model: folder of NAME-train.
        data: films, and their labels in any of the forms (see `find_labels`).
        scratch: an empty folder for the converted films.
        threads: native threads.
    Returns:
        What `figures` says; seconds_per_film from the file to the points; and `quarantined`.
    """
    from stages.core.train import runtime
    from stages.custom.locating.model import TrainedLane

    runtime.prepare("cpu", threads, 0)
    trained = TrainedLane.open(model)
    labels = find_labels(data)
    described = trained.described.model_copy(update={"form": form_of(labels)})
    found = read_raw(described, data, labels, LEAST_SHARE)
    # One worker: films are small, and forking a process that has used OpenCV's threads can hang its children.
    settings = ConvertSettings(trained.stored_size, 1, "quarantine", LIMITS)
    info = DatasetInfo(described.dataset, described.name)
    observe = Observer.quiet(scratch / "work")
    convert_films(
        found.jobs, found.refusals, scratch / "films", info, len(described.landmarks), settings, observe
    )
    films = FilmSet.open(scratch / "films")
    write_spacing(scratch / "films", films.ids, found.spacing_mm)
    answer = trained.predict(np.asarray(films.images), films.sizes_raw)
    by_id = {job.id: job for job in found.jobs}
    quarantined = set_aside(scratch / "films")
    return {
        **figures(
            answer.points,
            films.landmarks_raw.astype(np.float64),
            answer.radius,
            trained.mean_shape,
            read_spacing(scratch / "films", films.ids),
            described.landmarks,
            films.table["patient"].to_numpy(),
            BOOTSTRAP,
            0,
        ),
        "coverage_claimed": trained.radius.coverage,
        "n_quarantined": len({entry["file"] for entry in quarantined if entry["action"] != "kept"}),
        "seconds_per_film": seconds_per_film(
            trained.predict_film, [by_id[i] for i in films.ids[:TIMED_FILMS]]
        ),
        "threads": threads,
        "data": data.name,
        "trained_on": trained.card.dataset,
        "model_key": trained.card.key,
        "quarantined": quarantined,
    }
