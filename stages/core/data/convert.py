"""The conversion engine of the film lanes: film files in, a film store out (see films.py for its layout).

A lane lists its films as `FilmJob`s, labels already read and checked, and calls `convert_films`. The engine
decodes and resizes on all cores with bounded memory, sets aside what cannot be used, and writes the same
bytes whatever the number of workers and however often it was killed: finished films lie in
`observe.scratch`, next to a log of what is finished, and a rerun goes on from there.

    jobs = [FilmJob(pseudonym(lane, path.name), patient, group, path, points_or_none) for path in ...]
    metrics = convert_films(jobs, [Refusal(...), ...], output, DatasetInfo(...), n_points, settings, observe)

A film that a lane refuses gets a `Refusal` with the action LEFT_OUT and no job; something that it puts right
or lets pass gets a job and a `Refusal` with KEPT.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core.data import geometry, tables
from stages.core.data.decode import FilmError, FilmLimits, decode_film
from stages.core.data.films import DatasetInfo, film_schema
from stages.core.data.pool import map_unordered
from stages.core.data.resumable import PictureFile, ResumableRows
from stages.core.errors import StageError
from stages.core.stage import Observer

LEFT_OUT, KEPT = "left out", "kept"
"""what was done about an entry of quarantine.csv"""
_LOGGED_AT_ONCE = 8
_SENT_AT_ONCE = 4
"""films"""


@dataclass(frozen=True)
class FilmJob:
    """One film to take in.

    Attributes:
        id, patient: pseudonyms; ids must be unique.
        group: class of the film, or "".
        path: the film file; its name goes into the private table of names and into error messages only.
        landmarks: (K, 2) labels in raw px, or None for a film without them.
    """

    id: str
    patient: str
    group: str
    path: Path
    landmarks: np.ndarray | None


@dataclass(frozen=True)
class Refusal:
    """What is wrong with a film or its label, and what was done about it.

    `name` (of the file, for error messages) is the only part that does not go into quarantine.csv.
    """

    id: str
    name: str
    reason: str
    action: str
    detail: str


@dataclass(frozen=True)
class ConvertSettings:
    """How to convert.

    Attributes:
        size: (height, width) of the stored films.
        workers: processes; 0 = one a core. No effect on the result.
        on_error: "quarantine" goes on without the films that cannot be used, "stop" names them all and fails.
        limits: which pictures count as films.
    """

    size: geometry.Size
    workers: int
    on_error: str
    limits: FilmLimits


def convert_films(
    jobs: Sequence[FilmJob],
    refusals: Sequence[Refusal],
    output: Path,
    info: DatasetInfo,
    n_points: int,
    settings: ConvertSettings,
    observe: Observer,
) -> dict[str, float]:
    """Convert films into the film store `output` (replaced if it exists).

    Args:
        jobs: the films; any order, the store is sorted by id.
        refusals: what the lane itself found wrong; goes into quarantine.csv beside the engine's findings.
        output: folder of the film store.
        info: goes into dataset.json.
        n_points: K, landmarks of a film; a film without labels gets NaN.
        settings: size, workers and policy.
        observe: progress, and the scratch folder that makes the run resumable.
    Returns:
        Counts: n_files, n_films, n_labelled, n_left_out, n_noted (kept, but listed) and one a reason.
    Raises:
        StageError: no film is left, ids repeat, or (on_error "stop") something was refused; names them all.
    """
    jobs = sorted(jobs, key=lambda job: job.id)
    if repeated := sorted({a.id for a, b in itertools.pairwise(jobs) if a.id == b.id}):
        names = [job.path.name for job in jobs if job.id in repeated]
        raise StageError(f"films with equal names: {', '.join(names)}; give each its own name")
    rows = ResumableRows(observe.scratch, _fingerprint(jobs, settings), len(jobs), settings.size)
    _convert_missing(rows, jobs, settings, observe)
    facts = [rows.facts[i] for i in range(len(jobs))]
    found = [
        Refusal(job.id, job.path.name, fact["reason"], LEFT_OUT, fact["detail"])
        for job, fact in zip(jobs, facts, strict=True)
        if "reason" in fact
    ]
    everything = sorted([*refusals, *found], key=lambda r: (r.id, r.reason))
    kept = [i for i, fact in enumerate(facts) if "reason" not in fact]
    _apply_policy(everything, len(kept), settings.on_error)

    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    rows.save(kept, partial / "images.npy")
    table = _film_table([jobs[i] for i in kept], [facts[i] for i in kept], n_points)
    tables.write_table(partial / "films.parquet", table, film_schema(n_points))
    quarantine = [(r.id, r.reason, r.action, r.detail) for r in everything]
    write_csv(partial / "quarantine.csv", ("file", "reason", "action", "detail"), quarantine)
    labelled = sum(jobs[i].landmarks is not None for i in kept)
    described = {**asdict(info), "films": len(kept), "labelled": labelled, "size": list(settings.size)}
    (partial / "dataset.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    partial.replace(output)
    return {
        "n_files": len({job.id for job in jobs} | {r.id for r in everything}),
        "n_films": len(kept),
        "n_labelled": labelled,
        "n_left_out": len({r.id for r in everything if r.action == LEFT_OUT}),
        "n_noted": len({r.id for r in everything if r.action == KEPT}),
        **{f"n_{reason}": count for reason, count in Counter(r.reason for r in everything).items()},
    }


def names_file(output: Path, info: DatasetInfo) -> Path:
    """data/raw/names/<lane>-<data set>.csv, for the film store data/<lane>/films. Git ignores data/raw."""
    return output.parent.parent / "raw" / "names" / f"{info.lane}-{info.name}.csv"


def write_names(file: Path, names: Iterable[tuple[str, str, str]]) -> None:
    """Write the private table from pseudonyms to file names, rows (id, patient, name); see `names_file`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_csv(file, ("id", "patient", "name"), sorted(set(names)))


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A CSV file with the same line ends everywhere."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    path.write_text(text.getvalue(), encoding="utf-8")


@dataclass(frozen=True)
class _Task:
    """What a worker needs for one film, which becomes row `row` of `pictures`."""

    path: str
    limits: FilmLimits
    pictures: PictureFile
    row: int

    def __str__(self) -> str:
        return Path(self.path).name


def _convert_one(task: _Task) -> dict[str, Any]:
    """Write a film's picture in the model frame; facts about the film, or why it is left out."""
    try:
        film = decode_film(Path(task.path), task.limits)
    except FilmError as error:
        return {"reason": error.reason, "detail": error.detail}
    task.pictures.write(task.row, geometry.resize(film.pixels, task.pictures.size))
    height, width = film.pixels.shape
    return {"width": width, "height": height, "phantom": film.phantom}


def _convert_missing(
    rows: ResumableRows, jobs: Sequence[FilmJob], settings: ConvertSettings, observe: Observer
) -> None:
    """Convert the films that `rows` does not hold yet."""
    missing = [i for i in range(len(jobs)) if i not in rows.facts]
    tasks = [_Task(str(jobs[i].path), settings.limits, rows.pictures, i) for i in missing]
    finished: dict[int, dict[str, Any]] = {}
    try:
        results = map_unordered(_convert_one, tasks, settings.workers, group=_SENT_AT_ONCE)
        for done, (k, facts) in enumerate(results, 1):
            finished[missing[k]] = facts
            if len(finished) == _LOGGED_AT_ONCE:
                rows.log(finished)
                finished = {}
            observe.progress(len(jobs) - len(tasks) + done, len(jobs), "films")
    finally:
        rows.log(finished)


def _fingerprint(jobs: Sequence[FilmJob], settings: ConvertSettings) -> str:
    """Changes with all that decides a row: films (name, size, time of change), their order, frame, limits."""

    def state(path: Path) -> tuple[int, int]:
        try:
            return path.stat().st_size, path.stat().st_mtime_ns
        except OSError:
            return -1, -1

    films = [(job.id, str(job.path), *state(job.path)) for job in jobs]
    decisive = json.dumps([films, settings.size, asdict(settings.limits)])
    return hashlib.sha256(decisive.encode()).hexdigest()


def _apply_policy(refusals: Sequence[Refusal], kept: int, on_error: str) -> None:
    """Fail, with all offenders named, where nothing is left or the policy is to stop."""
    offenders = [r for r in refusals if r.action != KEPT]
    listing = "".join(f"\n  {r.name}: {r.reason} ({r.detail})" for r in offenders)
    if not kept:
        raise StageError(f"no film could be used of {len({r.id for r in refusals})}:{listing}")
    if offenders and on_error == "stop":
        raise StageError(f"{len(offenders)} films or labels cannot be used, and on_error is 'stop':{listing}")


def _film_table(jobs: Sequence[FilmJob], facts: Sequence[dict[str, Any]], n_points: int) -> pd.DataFrame:
    unlabelled = np.full((n_points, 2), np.nan, np.float32)
    points = [unlabelled if job.landmarks is None else job.landmarks.astype(np.float32) for job in jobs]
    return pd.DataFrame(
        {
            "id": [job.id for job in jobs],
            "patient": [job.patient for job in jobs],
            "group": [job.group for job in jobs],
            "width": [f["width"] for f in facts],
            "height": [f["height"] for f in facts],
            "landmarks": points,
            "phantom": [f["phantom"] for f in facts],
        }
    )
