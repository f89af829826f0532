"""Stage chest-phantom: a made-up data set in the raw layout of the real one, with planted defects.

dataset/{COVID,Normal,Viral_Pneumonia}/<name>.png   299 x 299, 8 bit; names have spaces, folders do not
coordenadas/coordenadas_maestro.csv                  no header: index, x1, y1, ..., x15, y15, name
dataset.json                                         {"name": "phantom"}
planted.csv                                          file, defect, detail: what was spoilt on purpose
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from stages.chest.phantom_film import Chest, draw_film
from stages.chest.phantom_shape import AxisSpread, WidthSpread, chest_points, sample_chest
from stages.chest.raw.structure import GRID_CELLS, grid_values, snap_to_grid
from stages.chest.schema import AXIS_QUARTERS, CLASSES
from stages.chest.schema import LABEL_SIZE as SIZE
from stages.core.data.decode import PHANTOM_MARK
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

STRAY_CLASS = "Lung_Opacity"
"""A class of the public collection that has no landmarks."""


class Defects(BaseModel):
    """How many labelled films get each defect."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    missing_film: int
    broken_film: int
    other_size: int
    unknown_class: int
    not_a_number: int
    column_count: int
    out_of_range: int
    duplicate_name: int
    copied_film: int
    sides_swapped: int
    off_grid: int
    off_axis: int
    class_mismatch: int
    channels_differ: int


class Params(StageParams):
    section: ClassVar[str] = "chest.phantom"
    seed: int
    films: dict[str, int]  # labelled films by class folder, those with planted defects included
    unlabelled: int  # films without a row in the label file
    colour: int  # films stored as RGB, as a few of the real ones are
    axis: dict[str, AxisSpread]
    widths: WidthSpread
    defects: Defects


@dataclass(frozen=True)
class Film:
    """One film to be written: `cells` is its row of the label file, empty where it has none."""

    name: str
    folder: str
    kind: str
    chest: Chest
    seed: tuple[int, int]
    cells: tuple[str, ...]
    mode: str = "L"
    tint: int = 0  # grey values by which red is brighter
    size: int = SIZE
    written: bool = True
    broken: bool = False
    copy: str = ""  # name of a second file with the same bytes
    second_row: tuple[str, ...] = ()  # cells of a second row, for this film or its copy

    @property
    def offender(self) -> str:
        """The name that the truth table gives."""
        return self.copy or self.name


def run(params: Params, output: Path, observe: Observer) -> dict[str, float]:
    """Write the phantom data set into the folder `output`, replacing what is there."""
    films, planted = plan_films(params)
    shutil.rmtree(output, ignore_errors=True)
    for folder in sorted({film.folder for film in films}):
        (output / "dataset" / folder).mkdir(parents=True)
    for done, film in enumerate(films, start=1):
        write_film(film, output / "dataset")
        observe.progress(done, len(films), "films")
    write_labels(output / "coordenadas" / "coordenadas_maestro.csv", films)
    _write_csv(output / "planted.csv", [("file", "defect", "detail"), *planted])
    described = {"name": "phantom", "lane": "chest", "films": len(films), "seed": params.seed}
    (output / "dataset.json").write_text(
        json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    return {
        "n_films": len(films),
        "n_labelled": sum(bool(film.cells) for film in films),
        "n_planted": len(planted),
    }


def plan_films(params: Params) -> tuple[list[Film], list[tuple[str, str, str]]]:
    """All films in the order of the label file, and the truth table of the planted defects."""
    if unknown := sorted(set(params.films) ^ set(CLASSES) | set(params.axis) ^ set(CLASSES)):
        raise StageError(
            f"chest.phantom: films and axis need exactly the classes {sorted(CLASSES)}; see {unknown}"
        )
    rng = np.random.default_rng([params.seed, 0])
    kinds = [kind for kind in CLASSES for _ in range(params.films[kind])]
    labelled = len(kinds)
    kinds += rng.choice(list(CLASSES), params.unlabelled).tolist()
    names = _names(kinds, rng)
    films = [
        _film(params, number, kind, name, labelled=number < labelled)
        for number, (kind, name) in enumerate(zip(kinds, names, strict=True))
    ]
    for number in rng.choice(len(films), params.colour, replace=False):
        films[number] = replace(films[number], mode="RGB")
    planted = _plant(films, labelled, params.defects, rng)
    order = sorted(range(len(films)), key=lambda n: (list(CLASSES).index(films[n].kind), rng.random()))
    return [films[n] for n in order], sorted(planted)


def _names(kinds: list[str], rng: np.random.Generator) -> list[str]:
    """Distinct names like those of the collection, for example "Viral Pneumonia-101"."""
    pools = {kind: iter((rng.permutation(9 * len(kinds)) + 1).tolist()) for kind in CLASSES}
    return [f"{CLASSES[kind]}-{next(pools[kind])}" for kind in kinds]


def _film(params: Params, number: int, kind: str, name: str, labelled: bool) -> Film:
    seed = (params.seed, number + 1)
    chest = sample_chest(params.axis[kind], params.widths, np.random.default_rng([*seed, 0]))
    points = snap_to_grid(chest_points(chest) * SIZE / GRID_CELLS, SIZE)
    cells = tuple(str(v) for v in points.ravel()) if labelled else ()
    return Film(name, kind, kind, chest, seed, cells)


def _shift(film: Film, indices: tuple[int, ...], pixels: int) -> Film:
    """Move single coordinates (0 = x1, 1 = y1, 2 = x2, ...) inwards by some pixels."""
    cells = list(film.cells)
    for i in indices:
        value = int(cells[i])
        cells[i] = str(value + pixels if value < SIZE / 2 else value - pixels)
    return replace(film, cells=tuple(cells))


def _shift_cells(film: Film, i: int, cells: int) -> Film:
    """Move one coordinate inwards by some cells of the label grid, so that it stays on the grid."""
    grid = grid_values(SIZE)
    place = int(np.searchsorted(grid, int(film.cells[i])))
    return _set(film, i, str(grid[place + cells if place < GRID_CELLS / 2 else place - cells]))


def _swap_sides(film: Film) -> Film:
    from stages.chest.schema import CHEST

    points = np.array(film.cells).reshape(-1, 2)[CHEST.swap]
    return replace(film, cells=tuple(points.ravel().tolist()))


def _set(film: Film, place: int, value: str) -> Film:
    return replace(film, cells=(*film.cells[:place], value, *film.cells[place + 1 :]))


SPOIL: dict[str, tuple[str, Callable[[Film], Film]]] = {
    "missing_film": ("has a label but no film", lambda f: replace(f, written=False)),
    "broken_film": ("the file ends early", lambda f: replace(f, broken=True)),
    "other_size": ("256 x 256 pixels", lambda f: replace(f, size=256)),
    "unknown_class": (
        f"lies in folder {STRAY_CLASS}",
        lambda f: replace(f, folder=STRAY_CLASS, name=f"{STRAY_CLASS}-{f.name.rsplit('-', 1)[1]}"),
    ),
    "not_a_number": ("y7 is NA", lambda f: _set(f, 13, "NA")),
    "column_count": ("31 coordinates", lambda f: replace(f, cells=(*f.cells, "150"))),
    "out_of_range": ("x15 is 312", lambda f: _set(f, 28, "312")),
    "duplicate_name": ("two rows that differ", lambda f: replace(f, second_row=_shift(f, (0, 2), 14).cells)),
    "copied_film": (
        "the same file as the film whose name lacks the last four digits",
        lambda f: replace(f, copy=f"{f.name}0000", second_row=f.cells),
    ),
    "sides_swapped": ("left and right points change places", _swap_sides),
    "off_grid": ("two coordinates 2 px off the label grid", lambda f: _shift(f, (4, 7), 2)),
    "off_axis": ("L10 is 4 cells beside the axis", lambda f: _shift_cells(f, 2 * AXIS_QUARTERS[1], 4)),
    "class_mismatch": (
        "lies in the folder of another class than its name's",
        lambda f: replace(f, folder=next(folder for folder in CLASSES if folder != f.kind)),
    ),
    "channels_differ": ("stored as RGB with a red tint", lambda f: replace(f, mode="RGB", tint=12)),
}
"""Defect -> what the truth table says of it, and what is done to the film."""


def _plant(
    films: list[Film], labelled: int, defects: Defects, rng: np.random.Generator
) -> list[tuple[str, str, str]]:
    """Spoil films in place, each in one way; rows (file, defect, detail) of the truth table."""
    wanted = [name for name, count in defects.model_dump().items() for _ in range(count)]
    if len(wanted) > labelled:
        raise StageError(f"chest.phantom: {len(wanted)} defects but only {labelled} labelled films")
    planted = []
    for name, number in zip(wanted, rng.choice(labelled, len(wanted), replace=False), strict=True):
        detail, spoil = SPOIL[name]
        films[number] = spoil(films[number])
        planted.append((films[number].offender, name, detail))
    return planted


def write_film(film: Film, folder: Path) -> None:
    """Draw and store one film under `folder`/<class>."""
    if film.written:
        picture = draw_film(film.chest, film.kind, SIZE, np.random.default_rng([*film.seed, 1]))
        data = encode_film(picture, film)
        for name in filter(None, (film.name, film.copy)):
            (folder / film.folder / f"{name}.png").write_bytes(
                data[: len(data) // 3] if film.broken else data
            )


def encode_film(picture: np.ndarray, film: Film) -> bytes:
    """PNG bytes that carry the phantoms' mark, so that a lone film is known as one."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    image = Image.fromarray(picture).convert(film.mode)
    if film.tint:
        channels = np.array(image)
        channels[..., 0] = np.clip(channels[..., 0].astype(int) + film.tint, 0, 255)
        image = Image.fromarray(channels)
    if film.size != image.width:
        image = image.resize((film.size, film.size), Image.Resampling.BILINEAR)
    mark = PngInfo()
    mark.add_text("Comment", PHANTOM_MARK)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=mark, compress_level=3)
    return buffer.getvalue()


def write_labels(path: Path, films: list[Film]) -> None:
    """The label file: the index counts all films, so unlabelled ones leave gaps; no header."""
    rows = [(str(i), *film.cells, film.name) for i, film in enumerate(films) if film.cells]
    spoilt = [film for film in films if film.second_row]
    rows += [(str(i), *film.second_row, film.offender) for i, film in enumerate(spoilt, start=len(films))]
    _write_csv(path, rows)


def _write_csv(path: Path, rows: list[tuple[str, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
