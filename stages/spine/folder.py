"""A trained model on any folder in the raw layout: accuracy and speed on films that no stage has seen."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.core.data.convert import ConvertSettings, convert_films
from stages.core.data.films import DatasetInfo, FilmSet, dataset_name
from stages.core.evaluate.errors import film_errors, radial_errors, scaled_errors
from stages.core.folder import seconds_per_film, set_aside
from stages.core.model.prediction import LIMITS
from stages.core.params import load_params, project_root
from stages.core.stage import Observer
from stages.spine import audit
from stages.spine.cobb import cobb_angles, cobb_smape
from stages.spine.convert import DEFAULT_NAME, film_id, take_inventory
from stages.spine.layout import find_root, list_films
from stages.spine.measures import slips
from stages.spine.schema import SCHEMA

if TYPE_CHECKING:
    pass

REFERENCE_FRAME = (512, 256)
"""height and width of the frame in which the reference code reports errors"""
TIMED_FILMS = 16
TARGETS_RAW_PX = (20.0, 30.0, 40.0)


def evaluate_folder(model: Path, data: Path, scratch: Path, threads: int, clicks: int = 5) -> dict[str, Any]:
    """Judge a model on the labelled films of `data` (training/, test/ or both).

    Labels are taken as they come, which is what published figures do; `audited` figures take them after the
    audit of the active profile, and leave those out that it would not train on or suspects.

    Films that cannot be used are listed, not fatal; where none is left, StageError names them all.

    Args:
        model: folder of spine-system.
        data: a folder in the AASCE layout.
        scratch: an empty folder for the converted films.
        threads: native threads.
        clicks: of the oracle user.
    Returns:
        n_films; mre_raw_px@K of the Refiner alone and mre_raw_px_loop@K with Detector and Corrector after K
        clicks on the worst point, clicked points at the label; noc and fr for each target; the spread and the
        directions of the system's error without clicks; cobb_smape against `cobb_reference` ("angles.csv"
        where the folder has one for every film, else "labels"); seconds_per_film from the file to the points,
        film by film; and `quarantined`: what was left out and why.
    """
    from stages.core.train import runtime
    from stages.spine.looping.session import click_metrics, courses
    from stages.spine.looping.system import System

    runtime.prepare("cpu", threads, 0)
    system = System.open(model, SCHEMA)
    jobs, refusals = take_inventory(list_films(data))
    info = DatasetInfo(dataset_name(find_root(data), DEFAULT_NAME), SCHEMA.lane)
    settings = ConvertSettings(system.model_size, threads, "quarantine", LIMITS)
    convert_films(
        jobs, refusals, scratch / "films", info, SCHEMA.n_points, settings, Observer.quiet(scratch / "work")
    )
    films = FilmSet.open(scratch / "films")
    rows = np.arange(len(films))
    answer = system.predict(films.images)
    predicted = films.to_raw(answer.points, rows)
    truth, heights = films.landmarks_raw.astype(np.float64), films.sizes_raw[:, 1]

    per_film = film_errors(radial_errors(predicted, truth))
    audited, trusted = audited_labels(films)
    audited_errors = film_errors(radial_errors(predicted, audited))
    published = published_angles(data, films.ids)
    label_angles = cobb_angles(truth, heights)
    angles = cobb_angles(predicted, heights)
    quarantined = set_aside(scratch / "films")
    by_id = {job.id: job for job in jobs}
    return {
        "n_films": len(films),
        "n_quarantined": len({entry["file"] for entry in quarantined if entry["action"] != "kept"}),
        **click_metrics(courses(system, films, truth, clicks), films, truth, TARGETS_RAW_PX),
        "mre_raw_px": float(per_film.mean()),
        "median_raw_px": float(np.median(per_film)),
        "p10_raw_px": float(np.percentile(per_film, 10)),
        "p90_raw_px": float(np.percentile(per_film, 90)),
        "n_repaired": int((audited != truth).any((1, 2)).sum()),
        "n_not_trusted": int((~trusted).sum()),
        "audited_mre_raw_px": float(audited_errors[trusted].mean()) if trusted.any() else None,
        "mre_px512x256": float(scaled_errors(predicted, truth, films.sizes_raw, REFERENCE_FRAME).mean()),
        "dx_raw_px": float(np.abs(predicted - truth)[..., 0].mean()),
        "dy_raw_px": float(np.abs(predicted - truth)[..., 1].mean()),
        "slipped_share": float((np.abs(slips(predicted, truth)) > 0.5).mean()),
        "cobb_smape": cobb_smape(angles, label_angles if published is None else published),
        "cobb_reference": "labels" if published is None else "angles.csv",
        "cobb_smape_of_labels": cobb_smape(angles, label_angles),
        "seconds_per_film": seconds_per_film(
            lambda pixels: system.predict(pixels[None]), [by_id[i] for i in films.ids[:TIMED_FILMS]]
        ),
        "threads": threads,
        "data": info.name,
        "trained_on": system.card.dataset,
        "model_key": system.card.key,
        "quarantined": quarantined,
    }


def audited_labels(films: FilmSet) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N, K, 2) in raw px after the audit's policy, and (N,) bool: neither dropped nor suspect."""
    params = load_params(audit.Params, project_root(Path(__file__).parent) / "params.yaml")
    verdicts = audit.audit_labels(films.landmarks_raw, films.sizes_raw, params)
    labels = np.stack([verdict.corners for verdict in verdicts]).reshape(films.landmarks_raw.shape)
    return labels, np.array([verdict.status in ("ok", "repaired") for verdict in verdicts])


def published_angles(data: Path, ids: np.ndarray) -> np.ndarray | None:
    """(N, 3) degrees from the folder's angles.csv for the films `ids`, or None unless all of them have a row.

    angles.csv has a row for each row of the filenames.csv beside it.
    """
    found: dict[str, list[float]] = {}
    for table in sorted(find_root(data).glob("labels/*/angles.csv")):
        names_file = table.with_name("filenames.csv")
        if not names_file.is_file():
            continue
        names = [line.strip() for line in names_file.read_text(encoding="utf-8").splitlines() if line.strip()]
        with table.open(encoding="utf-8", newline="") as file:
            angles = [[float(cell) for cell in row] for row in csv.reader(file) if row]
        if len(names) == len(angles) and all(len(row) == 3 for row in angles):
            found |= dict(zip(map(film_id, names), angles, strict=True))
    if not all(i in found for i in ids):
        return None
    return np.array([found[i] for i in ids])
