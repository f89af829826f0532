"""The chest page says what the evaluation says, whatever the films are called and however few there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from stages.chest import report
from stages.chest.schema import CHEST
from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.evaluate.errors import film_table
from stages.core.evaluate.statistics import Bootstrap
from stages.core.params import load_params
from stages.core.report import anatomy
from stages.core.report.films import FilmEvidence
from stages.core.stage import Observer
from tests.report_pages import BOOTSTRAP, FLOORS, EvaluatedFilms, Evaluating, read_page, write_evaluated_films

SHAPE = np.column_stack([np.linspace(40, 200, 15), 40 + 150 * (np.arange(15) % 5) / 4])
CLASSES = ("COVID", "Normal", "Viral_Pneumonia")


def params(images: bool = True) -> report.Params:
    return report.Params(
        seed=1,
        images=images,
        cases=2,
        film_height=120,
        jpeg_quality=60,
        bootstrap=Bootstrap(**BOOTSTRAP.model_dump()),
    )


def judge(data: LabelledFilms, rows: np.ndarray, method: str, predicted: np.ndarray) -> pd.DataFrame:
    return film_table(data, rows, method, predicted, {"px224": (224, 224)})


LANE = Evaluating(
    CHEST,
    SHAPE,
    "regressor",
    "val_error_px224",
    "error_px224",
    judge,
    [tables.column("error_px224", pa.float32(), "px224")],
)


def evaluated(folder: Path, **options: Any) -> EvaluatedFilms:
    return write_evaluated_films(folder, LANE, **{"groups": CLASSES, **options})


def write(found: EvaluatedFilms, output: Path, images: bool = True) -> dict[str, float]:
    observe = Observer.quiet(output.parent / "scratch")
    return report.run(
        params(images), found.films, found.split, found.evaluation, found.history, output, observe
    )


def test_page_names_data_methods_verdicts_and_classes(tmp_path: Path) -> None:
    metrics = write(evaluated(tmp_path / "data"), tmp_path / "chest.html")
    page = read_page(tmp_path / "chest.html")
    assert metrics["n_films_test"] == 12
    assert "Generated phantom, not real data" in page.text
    assert all(title in page.text for title in report.LANE.titles.values())
    assert page.text.count("beats") >= len(FLOORS)
    assert all(name in page.text for name in ("COVID", "Normal", "Viral Pneumonia", "L15"))
    assert "no verdict: phantom" in page.text
    assert "better here" not in page.text


def test_a_real_set_is_named_and_claims_are_judged(tmp_path: Path) -> None:
    write(evaluated(tmp_path / "data", dataset="covid15"), tmp_path / "chest.html")
    page = read_page(tmp_path / "chest.html")
    assert "covid15" in page.text
    assert "phantom" not in page.text.lower()
    assert "better here" in page.text


def test_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "data")
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for page in pages:
        write(found, page)
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_without_images_no_film_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = evaluated(tmp_path / "data")
    write(found, tmp_path / "with.html")
    assert sum(name == "image" for name, _ in read_page(tmp_path / "with.html").elements) == 6

    def never(*_: object) -> str:
        raise AssertionError("a film was embedded")

    monkeypatch.setattr(anatomy, "film_jpeg", never)
    write(found, tmp_path / "without.html", images=False)
    page = read_page(tmp_path / "without.html")
    assert not any(name == "image" for name, _ in page.elements)
    assert "data:" not in (tmp_path / "without.html").read_text()
    assert "Films are left out" in page.text


def test_one_film_and_missing_labels_still_give_a_page(tmp_path: Path) -> None:
    write(evaluated(tmp_path / "data", n_test=1, lost_points=4), tmp_path / "chest.html")
    page = read_page(tmp_path / "chest.html")
    assert "On 1 test film the model" in page.text
    assert "too few cases to tell" in page.text


def test_a_model_that_loses_is_said_to_lose(tmp_path: Path) -> None:
    write(evaluated(tmp_path / "data", model_error=60.0), tmp_path / "chest.html")
    text = read_page(tmp_path / "chest.html").text
    assert "It is worse than" in text
    assert "beats" not in text.replace("beats the four phases", "")


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = "<script src=//x>\"'&</script><img onerror=x>"
    found = evaluated(tmp_path / "data", prefix=hostile)
    (found.films / "quarantine.csv").write_text(
        'file,reason,action,detail\n"<b>x</b>",<i>bad</i>,left out,"a <u>tale</u>"\n'
    )
    write(found, tmp_path / "chest.html")
    page = read_page(tmp_path / "chest.html")
    assert f"{hostile}-" in page.text
    assert "<i>bad</i> 1 left out a <u>tale</u>" in page.text
    assert not {"b", "i", "u", "img"} & {name for name, _ in page.elements}


def test_errors_of_a_class_are_those_of_its_films(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "data", n_test=11)
    evidence = FilmEvidence.read(
        report.LANE, found.films, found.split, found.evaluation, found.history, params().sampling
    )
    table = pd.read_parquet(found.evaluation / "per_film.parquet")
    table = table.query("method == 'regressor' and role == 'test'")
    classes = np.array([CLASSES[int(name[-2:]) % 3].replace("_", " ") for name in table["id"]])
    by_class = report.class_errors(evidence, params())
    assert {name: error.value for name, (_, error) in by_class.items()} == pytest.approx(
        table.groupby(classes)["error_px224"].mean().to_dict()
    )
    assert sum(n for n, _ in by_class.values()) == 11


@pytest.mark.parametrize(
    ("error", "bin_"), [(4.99, 0), (5.0, 1), (8.5, 2), (14.99, 2), (15.0, 3), (400.0, 3)]
)
def test_every_film_falls_into_one_quality_bin(error: float, bin_: int) -> None:
    counts = [n for _, n in report.quality_bins(np.array([error]))]
    assert counts == [int(k == bin_) for k in range(4)]


def test_params_are_complete() -> None:
    assert load_params(report.Params).cases >= 1
