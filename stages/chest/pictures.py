"""Stage chest-pictures: every test film with label and prediction, named by its class and error."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from stages.chest.measures import ERROR, METHOD, at_224
from stages.chest.overlay import comparison
from stages.chest.schema import CHEST, CLASSES, REPORT_SIZE
from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

INDEX = "index.csv"


class Params(StageParams):
    section: ClassVar[str] = "chest.pictures"
    images: bool
    height: int = Field(ge=224, le=1200)  # of the film on a picture, px


def run(
    params: Params, films: Path, split: Path, evaluation: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Write CLASS_ID_error_E.EEpx.png for every test film and index.csv, the worst film first.

    The error in a name is the system's mean error in px at 224. Without `images` only the index is written.

    Raises:
        StageError: if the evaluation lacks test films of the split.
    """
    data = LabelledFilms.open(films, split)
    rows = data.rows("test")
    labels, points = read_points(evaluation, data, rows)
    errors = np.linalg.norm(
        at_224(points, data.films.sizes_raw[rows]) - at_224(labels, data.films.sizes_raw[rows]), axis=2
    )
    means, worst = errors.mean(1), errors.argmax(1)
    groups = data.films.table["group"].to_numpy()[rows]
    output.mkdir(parents=True, exist_ok=True)
    entries = []
    for k in sorted(range(len(rows)), key=lambda k: (-means[k], data.films.ids[rows[k]])):
        name, group = str(data.films.ids[rows[k]]), str(groups[k])
        file = f"{group}_{name}_error_{means[k]:.2f}px.png" if params.images else ""
        if file:
            width, height = (int(v) for v in data.films.sizes_raw[rows[k]])
            title = f"{CLASSES.get(group, group)}  {name}  mean error {means[k]:.2f} px at {REPORT_SIZE}"
            film = np.asarray(data.films.images[rows[k]])
            picture = comparison(film, (height, width), title, labels[k], points[k], params.height)
            (output / file).write_bytes(picture)
        at = int(worst[k])
        entries.append((file, name, group, means[k], CHEST.names[at], errors[k, at]))
        observe.progress(len(entries), len(rows), "films")
    columns = ["picture", "id", "class", ERROR, "worst_landmark", f"worst_{ERROR}"]
    index = pd.DataFrame(entries, columns=columns)
    index.to_csv(output / INDEX, index=False, float_format="%.4f", lineterminator="\n")
    return {"n_films": len(rows), "n_pictures": len(rows) if params.images else 0}


def read_points(evaluation: Path, data: LabelledFilms, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels and the system's points of the films `rows`, both (n, 15, 2) raw px, as they were judged."""
    table = tables.read_table(evaluation / "per_point.parquet")
    own = table[table["method"] == METHOD].sort_values("point")
    by_film = {str(name): film for name, film in own.groupby("id")}
    ids = [str(name) for name in data.films.ids[rows]]
    if missing := [name for name in ids if len(by_film.get(name, ())) != CHEST.n_points]:
        raise StageError(
            f"{evaluation} holds no points of the {METHOD} for {len(missing)} test films: "
            f"{', '.join(missing[:10])}; run `dvc repro` to evaluate again"
        )
    labels, points = (
        np.stack([by_film[name][list(columns)].to_numpy(np.float64) for name in ids])
        for columns in (("x_label_raw", "y_label_raw"), ("x_raw", "y_raw"))
    )
    return labels, points


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
