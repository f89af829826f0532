"""Bad input is named, kept or left out as it should be, and counted: planted by the phantom, and by hand."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.chest import convert, phantom
from stages.chest.raw.layout import LABEL_FILE, REASONS, find_problems, parse_points, read_raw
from stages.chest.raw.structure import grid_values
from stages.chest.schema import CLASSES, LABEL_SIZE
from stages.core.data.films import FilmSet, pseudonym
from stages.core.errors import StageError
from stages.core.stage import Observer

from .conftest import Lane, convert_params, phantom_params

KEPT = ("off_grid", "off_axis", "class_mismatch", "channels_differ")
"""planted oddities that do not keep a film from being used"""
REASON = {"broken_film": "film_truncated"}
"""reasons that the engine has other words for than the truth table"""


@pytest.fixture
def planted(raw: Path) -> pd.DataFrame:
    return pd.read_csv(raw / "planted.csv")


def quarantine(films: Path) -> pd.DataFrame:
    return pd.read_csv(films / "quarantine.csv")


def test_every_planted_defect_is_named_and_nothing_else(lane: Lane, planted: pd.DataFrame):
    """Colour films and points on the border are no defects of the phantom: they are as in the real folder."""
    raw = read_raw(lane.raw)
    expected = {
        (pseudonym("chest", row.file), REASON.get(row.defect, row.defect)) for row in planted.itertuples()
    }
    unlabelled = {(pseudonym("chest", name), "no_label") for name in raw.unlabelled}
    assert len(unlabelled) == 3
    natural = set()
    for name, points in find_problems(raw)[0].items():
        film = pseudonym("chest", name)
        if film in set(FilmSet.open(lane.films).ids):
            with Image.open(raw.films[name][0]) as image:
                natural |= {(film, "stored_as_colour")} if image.mode == "RGB" else set()
            natural |= {(film, "on_border")} if points.min() == 0 or points.max() == 294 else set()
    assert {reason for _, reason in natural} == {"stored_as_colour", "on_border"}
    found = {(row.file, row.reason) for row in quarantine(lane.films).itertuples()}
    assert found == expected | unlabelled | natural


def test_films_with_oddities_are_used_and_films_with_defects_are_not(lane: Lane, planted: pd.DataFrame):
    store = FilmSet.open(lane.films)
    stored = set(store.ids)
    for row in planted.itertuples():
        assert (pseudonym("chest", row.file) in stored) == (row.defect in KEPT), row.defect
    assert len(store) == 50 + 1 - len(planted) + len(KEPT)  # the copied film is one more
    actions = quarantine(lane.films).set_index("reason")["action"]
    kept = {*KEPT, "stored_as_colour", "on_border"}
    assert all((action == "kept") == (reason in kept) for reason, action in actions.items())


def test_stop_names_every_offender_at_once(lane: Lane, planted: pd.DataFrame, tmp_path: Path):
    with pytest.raises(StageError) as error:
        convert.run(
            convert_params(on_error="stop"), lane.raw, tmp_path / "films", Observer.quiet(tmp_path / "s")
        )
    lacking = [
        row.file
        for row in planted.itertuples()
        if row.defect not in KEPT and row.file not in str(error.value)
    ]
    assert not lacking


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (("1",) * 29, "column_count"),
        (("1",) * 29 + ("x",), "not_a_number"),
        (("1",) * 29 + ("inf",), "not_a_number"),
    ],
)
def test_cells_that_are_no_coordinates(cells, reason):
    assert parse_points(cells).reason == reason


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Nine sound films of a phantom, none with a point on the border."""
    params = phantom_params()
    none = phantom.Defects(**dict.fromkeys(phantom.Defects.model_fields, 0))
    films = dict.fromkeys(CLASSES, 3)
    sound = params.model_copy(update={"films": films, "unlabelled": 0, "colour": 0, "defects": none})
    folder = tmp_path / "raw" / "chest-phantom"
    phantom.run(sound, folder, Observer.quiet(tmp_path / "s"))
    rows = read_labels(folder)
    step = grid_values(LABEL_SIZE)
    for row in rows:  # one cell inwards for all points keeps the structure, and the border free
        points = np.array(row[1:-1], int).reshape(-1, 2)
        cells = np.searchsorted(step, points)
        cells += np.where(cells.min(0) == 0, 1, 0) - np.where(cells.max(0) == 63, 1, 0)
        row[1:-1] = [str(v) for v in step[cells].ravel()]
    write_labels(folder, rows)
    return folder


def read_labels(raw: Path) -> list[list[str]]:
    with (raw / LABEL_FILE).open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def write_labels(raw: Path, rows: list[list[str]]) -> None:
    with (raw / LABEL_FILE).open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def film_of(raw: Path, name: str) -> Path:
    (path,) = (raw / "dataset").glob(f"*/{name}.png")
    return path


def remove_film(raw: Path, row: list[str]) -> None:
    film_of(raw, row[-1]).unlink()


def spell_a_cell_out(raw: Path, row: list[str]) -> None:
    row[7] = "twelve"


def move_to_another_collection(raw: Path, row: list[str]) -> None:
    (raw / "dataset" / "Tuberculosis").mkdir()
    path = film_of(raw, row[-1])
    path.rename(raw / "dataset" / "Tuberculosis" / path.name)


def halve_film(raw: Path, row: list[str]) -> None:
    path = film_of(raw, row[-1])
    with Image.open(path) as image:
        image.resize((150, 150)).save(path)


def move_to_another_class(raw: Path, row: list[str]) -> None:
    path = film_of(raw, row[-1])
    other = next(folder for folder in CLASSES if folder != path.parent.name)
    path.rename(raw / "dataset" / other / path.name)


def double_in_another_class(raw: Path, row: list[str]) -> None:
    path = film_of(raw, row[-1])
    other = next(folder for folder in CLASSES if folder != path.parent.name)
    (raw / "dataset" / other / path.name).write_bytes(path.read_bytes())


def store_as_colour(raw: Path, row: list[str]) -> None:
    path = film_of(raw, row[-1])
    with Image.open(path) as image:
        image.convert("RGB").save(path)


def colour_one_pixel(raw: Path, row: list[str]) -> None:
    path = film_of(raw, row[-1])
    with Image.open(path) as image:
        coloured = image.convert("RGB")
    coloured.putpixel((9, 9), (200, 0, 0))
    coloured.save(path)


def push_to_the_border(raw: Path, row: list[str]) -> None:
    """All points to the left, until the leftmost touches the film's edge."""
    step = grid_values(LABEL_SIZE)
    cells = np.searchsorted(step, np.array(row[1:-1], int).reshape(-1, 2))
    cells[:, 0] -= cells[:, 0].min()
    row[1:-1] = [str(v) for v in step[cells].ravel()]


FAULTS: dict[Callable[[Path, list[str]], None], tuple[str, ...]] = {
    remove_film: ("missing_film",),
    spell_a_cell_out: ("not_a_number",),
    move_to_another_collection: ("unknown_class",),
    halve_film: ("other_size",),
    double_in_another_class: ("duplicate_name",),
    move_to_another_class: ("class_mismatch",),
    store_as_colour: ("stored_as_colour",),
    colour_one_pixel: ("channels_differ", "stored_as_colour"),
    push_to_the_border: ("on_border",),
}
"""what is done to a film and its row -> what has to be found"""
USED = {"class_mismatch", "stored_as_colour", "channels_differ", "on_border"}


def test_a_sound_folder_has_no_findings_and_says_so(clean: Path, tmp_path: Path):
    metrics = convert.run(
        convert_params(), clean, tmp_path / "data" / "chest" / "films", Observer.quiet(tmp_path / "s")
    )
    assert metrics["n_films"] == metrics["n_labelled"] == 9
    assert {f"n_{reason}" for reason in REASONS} <= metrics.keys()
    assert not any(metrics[f"n_{reason}"] for reason in REASONS)
    assert quarantine(tmp_path / "data" / "chest" / "films").empty


def test_each_fault_is_named_counted_and_the_run_goes_on(clean: Path, tmp_path: Path):
    rows = read_labels(clean)
    expected = set()
    for row, (spoil, reasons) in zip(rows, FAULTS.items(), strict=True):
        spoil(clean, row)
        expected |= {(pseudonym("chest", row[-1]), reason) for reason in reasons}
    write_labels(clean, rows)
    films = tmp_path / "data" / "chest" / "films"
    metrics = convert.run(convert_params(), clean, films, Observer.quiet(tmp_path / "s"))

    assert {(row.file, row.reason) for row in quarantine(films).itertuples()} == expected
    counts = Counter(reason for _, reason in expected)
    assert {reason: metrics[f"n_{reason}"] for reason in REASONS if metrics[f"n_{reason}"]} == counts
    assert set(FilmSet.open(films).ids) == {film for film, reason in expected if reason in USED}
    assert metrics["n_left_out"] == 5
    assert metrics["n_noted"] == 4
    bad = [row[-1] for row, reasons in zip(rows, FAULTS.values(), strict=True) if not USED & set(reasons)]
    with pytest.raises(StageError) as error:
        convert.run(
            convert_params(on_error="stop"), clean, tmp_path / "other", Observer.quiet(tmp_path / "t")
        )
    assert all(name in str(error.value) for name in bad)


def test_the_folder_decides_a_films_class(clean: Path, tmp_path: Path):
    rows = read_labels(clean)
    move_to_another_class(clean, rows[0])
    films = tmp_path / "data" / "chest" / "films"
    convert.run(convert_params(), clean, films, Observer.quiet(tmp_path / "s"))
    group = FilmSet.open(films).table.set_index("id")["group"][pseudonym("chest", rows[0][-1])]
    assert group == film_of(clean, rows[0][-1]).parent.name


def test_a_film_named_after_no_class_is_not_suspected(clean: Path, tmp_path: Path):
    rows = read_labels(clean)
    film_of(clean, rows[0][-1]).rename(film_of(clean, rows[0][-1]).with_name("IM-0001.png"))
    rows[0][-1] = "IM-0001"
    write_labels(clean, rows)
    films = tmp_path / "data" / "chest" / "films"
    metrics = convert.run(convert_params(), clean, films, Observer.quiet(tmp_path / "s"))
    assert metrics["n_films"] == 9
    assert metrics["n_class_mismatch"] == 0


def test_tinted_and_grey_colour_films_are_stored_as_their_grey(clean: Path, tmp_path: Path):
    first = tmp_path / "data" / "chest" / "films"
    convert.run(convert_params(), clean, first, Observer.quiet(tmp_path / "s"))
    before = FilmSet.open(first).images.copy()
    rows = read_labels(clean)
    for row in rows:
        store_as_colour(clean, row)
    second = tmp_path / "again" / "chest" / "films"
    metrics = convert.run(convert_params(), clean, second, Observer.quiet(tmp_path / "t"))
    assert metrics["n_stored_as_colour"] == 9
    np.testing.assert_array_equal(FilmSet.open(second).images, before)
