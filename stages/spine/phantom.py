"""Stage spine-phantom: a made-up data set in the raw layout of AASCE, with planted defects.

    data/training/NAME.jpg          grey films
    labels/training/NAME.jpg.mat    their points: variable p2, uint16 (68, 2), raw px
    labels/training/filenames.csv, angles.csv (3 Cobb angles), landmarks.csv
                                    (68 x / width, then 68 y / height)
    data/test, labels/test          the same again, where test films are asked for
    dataset.json                    {"name": "phantom", ...}
    planted.csv                     the truth table: file, defect, detail

The tables give labels as the files have them, wrong ones included; the angles are those of the true labels.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from stages.core.data.convert import write_csv
from stages.core.data.pool import map_unordered
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.spine.cobb import cobb_angles
from stages.spine.drawing.defects import FILE_DEFECTS, LABEL_DEFECTS
from stages.spine.drawing.film import DrawnFilm, FilmPlan, Range, draw_film

_MONTHS = ("Jan", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FIRST_PATIENT = 401
_MAT_HEADER = b"MATLAB 5.0 MAT-file, plumbline phantom"


class Params(StageParams):
    """See params.yaml for what each key means."""

    section: ClassVar[str] = "spine.phantom"
    seed: int
    films: int = Field(ge=1)
    test_films: int = Field(ge=0)
    patients: int = Field(ge=1)
    rows: Range
    rows_per_column: Range
    canvas_rows: int = Field(ge=64)
    cobb_mean: float = Field(gt=0)
    cobb_sd: float = Field(gt=0)
    label_noise: float = Field(ge=0)
    jpeg_quality: int = Field(ge=1, le=95)
    workers: int = Field(ge=0)
    defects: dict[str, int]


def run(params: Params, output: Path, observe: Observer) -> dict[str, float]:
    """Write the phantom data set into the folder `output`, replacing what is there."""
    rng = np.random.default_rng([params.seed, 1])
    total = params.films + params.test_films
    names, patients = film_names(rng, total, min(params.patients, total))
    parts = ["training"] * params.films + ["test"] * params.test_films
    planted = choose_defects(rng, params.defects, names[: params.films])

    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for part in set(parts):
        (partial / "data" / part).mkdir(parents=True)
        (partial / "labels" / part).mkdir(parents=True)
    drawing = params.model_dump(include=set(FilmPlan.__dataclass_fields__) - {"rows", "rows_per_column"})
    plans = [
        FilmPlan(
            path=partial / "data" / part / name, patient=patient, number=i,
            rows=params.rows, rows_per_column=params.rows_per_column, **drawing,
        )
        for i, (name, patient, part) in enumerate(zip(names, patients, parts, strict=True))
    ]  # fmt: skip
    films: dict[int, DrawnFilm] = {}
    for i, film in map_unordered(draw_film, plans, params.workers):
        films[i] = film
        observe.progress(len(films), total, "films")

    truth = []
    for part in sorted(set(parts)):
        members = {names[i]: films[i] for i in range(total) if parts[i] == part}
        truth += _write_part(rng, partial, part, members, planted)
    write_csv(partial / "planted.csv", ("file", "defect", "detail"), truth)
    described = {"name": "phantom", "lane": "spine", "films": total, "seed": params.seed}
    (partial / "dataset.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    partial.replace(output)
    return {"n_films": total, "n_patients": len(set(patients)), "n_planted": len(truth)}


def film_names(rng: np.random.Generator, films: int, patients: int) -> tuple[list[str], list[int]]:
    """File names as AASCE has them, sorted, and the patient of each: several films by some patients.

    Most are `sunhl-1th-02-Jan-2017-162 A AP.jpg`; a few end in `AP2` or `AP (2)`, and a few patients have
    only a film `...-coronal7.jpg` that does not give their number.
    """
    owners = np.concatenate([np.arange(patients), rng.integers(0, patients, films - patients)])
    counts = np.bincount(owners, minlength=patients)
    entries: list[tuple[str, int]] = []
    nameless = 0
    for patient in range(patients):
        date = f"{rng.integers(1, 29):02d}-{rng.choice(_MONTHS)}-{2016 + rng.integers(2)}"
        if counts[patient] == 1 and rng.random() < 0.08:
            nameless += 1
            entries.append((f"sunhl-1th-{date}-coronal{nameless}.jpg", patient))
            continue
        for film in range(counts[patient]):
            ending = str(rng.choice(["AP", "AP2", "AP (2)"], p=[0.96, 0.02, 0.02]))
            number = f"{_FIRST_PATIENT + patient} {_letters(film)} {ending}"
            entries.append((f"sunhl-1th-{date}-{number}.jpg", patient))
    entries.sort()
    return [name for name, _ in entries], [patient for _, patient in entries]


def choose_defects(
    rng: np.random.Generator, wanted: Mapping[str, int], names: Sequence[str]
) -> dict[str, str]:
    """Which film gets which defect, at most one a film: {name: defect}."""
    known = {*LABEL_DEFECTS, *FILE_DEFECTS}
    if unknown := sorted(set(wanted) - known):
        raise StageError(f"spine.phantom.defects: {unknown} are not known; known are {sorted(known)}")
    flat = [defect for defect in sorted(wanted) for _ in range(wanted[defect])]
    if len(flat) > len(names):
        raise StageError(
            f"spine.phantom.defects: {len(flat)} defects for {len(names)} films; at most one a film"
        )
    chosen = rng.choice(len(names), len(flat), replace=False)
    return {names[int(i)]: defect for i, defect in zip(chosen, flat, strict=True)}


def mat_bytes(points: np.ndarray) -> bytes:
    """A MATLAB 5 file with `points` as variable p2, uint16. SciPy's own header would state the time."""
    from scipy.io import savemat

    buffer = io.BytesIO()
    savemat(buffer, {"p2": np.asarray(points).astype(np.uint16)})
    return _MAT_HEADER.ljust(116) + buffer.getvalue()[116:]


def _write_part(
    rng: np.random.Generator,
    folder: Path,
    part: str,
    films: Mapping[str, DrawnFilm],
    planted: Mapping[str, str],
) -> list[tuple[str, str, str]]:
    """Write the labels and tables of one part, planting defects; returns their rows of the truth table."""
    truth, landmarks, angles = [], [], []
    labels = folder / "labels" / part
    for name, film in films.items():
        points, defect = film.points, planted.get(name)
        height, width = film.size
        angles.append(cobb_angles(points.reshape(68, 2), height))
        if defect in LABEL_DEFECTS:
            points, detail = LABEL_DEFECTS[defect](points, rng, film.size)
            truth.append((f"data/{part}/{name}", defect, detail))
        flat = points.reshape(68, 2)
        landmarks.append(np.concatenate([flat[:, 0] / width, flat[:, 1] / height]))
        if defect == "label_missing":
            truth.append((f"data/{part}/{name}", defect, "no .mat file"))
            continue
        if defect == "label_shape":
            truth.append((f"data/{part}/{name}", defect, "67 points"))
            flat = flat[:-1]
        (labels / f"{name}.mat").write_bytes(mat_bytes(flat))
        if defect == "film_truncated":
            path = folder / "data" / part / name
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
            truth.append((f"data/{part}/{name}", defect, "the first third of the file"))
    for table, rows in (("landmarks.csv", landmarks), ("angles.csv", angles)):
        lines = [",".join(f"{v:.5g}" for v in row) + "\n" for row in rows]
        (labels / table).write_text("".join(lines), encoding="utf-8")
    (labels / "filenames.csv").write_text("".join(f"{name}\n" for name in films), encoding="utf-8")
    return truth


def _letters(number: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    return (_letters(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
