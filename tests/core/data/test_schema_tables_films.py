"""Schema, tables and film store."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core.data import tables
from stages.core.data.films import FilmSet, dataset_name, film_schema, pseudonym
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError


def test_swap_is_an_involution_and_moves_every_pair() -> None:
    schema = LandmarkSchema("spine", ("tl", "tr", "bl", "br", "mid"), pairs=((0, 1), (2, 3)))
    assert schema.swap.tolist() == [1, 0, 3, 2, 4]
    assert schema.swap[schema.swap].tolist() == list(range(5))


@pytest.mark.parametrize(
    "wrong",
    [
        {"pairs": ((0, 1), (1, 2))},
        {"pairs": ((0, 9),)},
        {"pairs": (), "edges": ((0, 7),)},
        {"pairs": (), "names": ("a", "a", "b")},
    ],
)
def test_an_impossible_schema_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="spine"):
        LandmarkSchema(**({"lane": "spine", "names": ("a", "b", "c")} | wrong))  # type: ignore[arg-type]


SCHEMA = pa.schema([tables.column("id", pa.string()), tables.points_column("points", 2, "raw px")])


def frame() -> pd.DataFrame:
    return pd.DataFrame({"points": [np.eye(2), np.full((2, 2), np.nan)], "id": ["a", "b"]})


def test_table_round_trip_with_units_and_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        tables.write_table(tmp_path / name, frame(), SCHEMA)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    back = tables.read_table(tmp_path / "one")
    np.testing.assert_array_equal(tables.stack_points(back["points"]), np.stack(frame()["points"].tolist()))
    assert pq.read_schema(tmp_path / "one").field("points").metadata == {b"unit": b"raw px"}


def test_wrong_columns_and_wrong_point_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"unexpected columns \['more'\]"):
        tables.write_table(tmp_path / "t", frame().assign(more=1), SCHEMA)
    with pytest.raises(StageError, match="points"):
        tables.write_table(tmp_path / "t", frame().assign(points=[np.zeros(3), np.zeros(4)]), SCHEMA)
    assert not (tmp_path / "t").exists()


def store(folder: Path, sizes: list[tuple[int, int]]) -> FilmSet:
    folder.mkdir()
    rows = [
        {"id": f"f{i}", "patient": "p", "group": "", "width": w, "height": h,
         "landmarks": np.array([[0, 0], [w - 1, h - 1]]), "phantom": True}
        for i, (w, h) in enumerate(sizes)
    ]  # fmt: skip
    tables.write_table(folder / "films.parquet", pd.DataFrame(rows), film_schema(2))
    np.save(folder / "images.npy", np.zeros((len(sizes), 64, 32), np.uint8))
    (folder / "dataset.json").write_text(
        json.dumps({"name": "phantom", "lane": "spine", "frame": "raw", "n": 1})
    )
    return FilmSet.open(folder)


def test_film_store_maps_between_frames(tmp_path: Path) -> None:
    films = store(tmp_path / "films", [(320, 640), (100, 77)])
    rows = films.rows(["f1", "f0"])
    assert rows.tolist() == [1, 0]
    raw = films.landmarks_raw[rows]
    model = films.to_model(raw, rows)
    np.testing.assert_allclose(films.to_raw(model, rows), raw, atol=1e-4)
    np.testing.assert_allclose(model[1, 0], [-0.45, -0.45], atol=1e-9)
    with pytest.raises(StageError, match="nobody"):
        films.rows(["nobody"])


def test_a_store_with_pictures_and_rows_apart_is_refused(tmp_path: Path) -> None:
    store(tmp_path / "films", [(10, 10)])
    np.save(tmp_path / "films" / "images.npy", np.zeros((3, 64, 32), np.uint8))
    with pytest.raises(StageError, match="3 pictures but 1 rows"):
        FilmSet.open(tmp_path / "films")


def test_pseudonyms_are_stable_and_tell_lanes_apart() -> None:
    assert pseudonym("spine", "a b.jpg") == pseudonym("spine", "a b.jpg")
    assert len({pseudonym(lane, name) for lane in ("spine", "chest") for name in ("a", "b")}) == 4


def test_dataset_name(tmp_path: Path) -> None:
    assert dataset_name(tmp_path, "aasce") == "aasce"
    (tmp_path / "dataset.json").write_text('{"name": "clinic-7"}')
    assert dataset_name(tmp_path, "aasce") == "clinic-7"
    for wrong in ('{"name": "../x"}', "[1]", "{"):
        (tmp_path / "dataset.json").write_text(wrong)
        with pytest.raises(StageError, match=r"dataset\.json"):
            dataset_name(tmp_path, "aasce")
