"""The chest page says what the evaluation says, whatever the films are called and however few there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.chest import evaluate, report, report_calibration, report_phases
from stages.chest.schema import CHEST
from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.evaluate.statistics import Bootstrap, compare_methods, write_comparison
from stages.core.params import load_params
from stages.core.report import anatomy
from stages.core.report.films import FilmEvidence
from stages.core.report.wording import Estimate
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


PARENTS = {"head_mse": "start", "full_mse": "head_mse", "complete": "full_mse"}
LANE = Evaluating(
    CHEST,
    SHAPE,
    "system",
    "val_error_px224",
    "error_px224",
    evaluate.judge,
    evaluate.FILM_COLUMNS,
    tuple(PARENTS),
)


def evaluated(
    folder: Path,
    radius_px224: float = 8.0,
    begun: str = "random",
    parents: dict[str, str] = PARENTS,
    **options: Any,
) -> EvaluatedFilms:
    """An evaluation as chest-evaluate leaves it: phases as far off as the system, a radius for all points."""
    found = write_evaluated_films(folder, LANE, **{"groups": CLASSES, **options})
    cases = tables.read_table(found.evaluation / "per_film.parquet")
    children = [(name, parent) for name, parent in parents.items() if parent in parents]
    last = list(parents)[-1:]
    pairs = [("system", m) for m in (*FLOORS, *last)] + children + [(m, f) for m in last for f in FLOORS]
    compared = compare_methods(cases, pairs, "error_px224", ["test"], BOOTSTRAP, 1)
    write_comparison(found.evaluation / "comparison.csv", compared)
    listed = [(name, parent, begun) for name, parent in parents.items()]
    table = pd.DataFrame(listed, columns=["phase", "parent", "begun"])
    table.to_csv(found.evaluation / "phases.csv", index=False)
    write_discs(found, radius_px224)
    return found


def write_discs(found: EvaluatedFilms, radius_px224: float) -> None:
    data = LabelledFilms.open(found.films, found.split)
    points = tables.read_table(found.evaluation / "per_point.parquet")
    own = points[(points["method"] == "system") & (points["role"] == "test")].sort_values(["id", "point"])
    rows = data.films.rows(own["id"].unique())
    predicted = own[["x_raw", "y_raw"]].to_numpy(float).reshape(-1, 15, 2)
    discs = evaluate.radius_table(data, rows, predicted, np.full((len(rows), 15), radius_px224))
    tables.write_table(found.evaluation / "radius.parquet", discs, evaluate.RADIUS_SCHEMA)
    settings = evaluate.Params(seed=1, threads=1, pairs=(), discs_px224=(4.0, 10.0), bootstrap=BOOTSTRAP)
    calibration = evaluate.calibrate(discs, 0.9, settings)
    calibration.to_csv(found.evaluation / "calibration.csv", index=False)


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
    assert all(report.LANE.titles[method] in page.text for method in ("system", *FLOORS))
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
    assert "It beats" not in text.split("The last phase")[0]


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
    table = table.query("method == 'system' and role == 'test'")
    classes = np.array([CLASSES[int(name[-2:]) % 3].replace("_", " ") for name in table["id"]])
    by_class = report.class_errors(evidence, params())
    assert {name: error.value for name, (_, error) in by_class.items()} == pytest.approx(
        table.groupby(classes)["error_px224"].mean().to_dict()
    )
    assert sum(n for n, _ in by_class.values()) == 11


def test_every_phase_stands_beside_its_parent_and_what_was_published(tmp_path: Path) -> None:
    write(evaluated(tmp_path / "data", dataset="covid15"), tmp_path / "chest.html")
    text = read_page(tmp_path / "chest.html").text
    rows = text.split("The regressor's phases")[-1].split("Where the error lies")[0]
    assert "head mse start" in rows
    assert "full mse head mse" in rows
    assert "11.34" in rows
    assert "8.13 8.5 yes" in rows
    assert "begin from random weights" in rows
    assert "The last phase, complete, is off by" in rows


def test_phases_from_other_weights_say_so(tmp_path: Path) -> None:
    write(evaluated(tmp_path / "data", begun="sha256 12ab"), tmp_path / "chest.html")
    text = read_page(tmp_path / "chest.html").text
    assert "random weights" not in text
    assert "sha256 12ab" in text


def test_a_lane_without_phases_has_a_page(tmp_path: Path) -> None:
    write(evaluated(tmp_path / "data", parents={}), tmp_path / "chest.html")
    assert "No phase was trained" in read_page(tmp_path / "chest.html").text


def test_changes_of_phases_answer_claims(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "data")
    cases = tables.read_table(found.evaluation / "per_film.parquet")
    curriculum = report_phases.Curriculum.read(found.evaluation, cases, {}, params().sampling)
    assert curriculum.last == "complete"
    assert [m.key for m in curriculum.floors] == sorted(
        FLOORS, key=lambda f: cases[(cases["method"] == f) & (cases["role"] == "test")]["error_px224"].mean()
    )
    test = cases[cases["role"] == "test"].pivot(index="id", columns="method", values="error_px224")
    measured = curriculum.measured()
    assert measured["full_mse_change"][0].value == pytest.approx(
        (test["full_mse"] - test["head_mse"]).mean(), rel=1e-4
    )
    assert "head_mse_change" not in measured


@pytest.mark.parametrize(
    ("value", "low", "high", "said", "style"),
    [
        (8.0, 7.6, 8.4, "yes", "good"),
        (8.0, 7.0, 9.0, "yes, not beyond doubt", "open"),
        (9.0, 8.0, 10.0, "no, not beyond doubt", "open"),
        (9.0, 8.6, 9.4, "no", "bad"),
        (8.0, np.nan, np.nan, "yes, not beyond doubt", "open"),
    ],
)
def test_a_target_is_reached_beyond_doubt_or_not(
    value: float, low: float, high: float, said: str, style: str
) -> None:
    cell = report_phases.target_cell(Estimate(value, low, high, 0.95), 8.5, "")
    assert (cell.text, cell.style) == (said, style)
    assert report_phases.target_cell(Estimate(value, low, high), 8.5, "phantom").style == "open"


@pytest.mark.parametrize(("radius", "said"), [(1.0, "promise too much"), (400.0, "wider than they need be")])
def test_discs_of_the_wrong_size_are_said_to_be_wrong(tmp_path: Path, radius: float, said: str) -> None:
    write(evaluated(tmp_path / "data", radius_px224=radius), tmp_path / "chest.html")
    assert said in read_page(tmp_path / "chest.html").text


def test_radii_that_are_right_lie_on_the_line() -> None:
    """Errors that grow with the radius; groups are of one size and in the order of their radius."""
    rng = np.random.default_rng(1)
    radii = rng.uniform(4, 20, 20_000)
    errors = radii * np.sqrt(np.log(1 - rng.random(20_000)) / np.log(0.1))
    means, reached = report_calibration.by_radius(errors, radii, 0.9)
    assert len(means) == report_calibration.GROUPS
    assert (np.diff(means) > 0).all()
    np.testing.assert_allclose(reached, means, rtol=0.06)
    _, flat = report_calibration.by_radius(rng.permutation(errors), radii, 0.9)
    assert np.ptp(flat) < 0.2 * np.ptp(reached)


def test_quality_bins_count_every_film_once() -> None:
    errors = np.array([4.0, 6.0, 9.0, 12.0, 18.0, 90.0])
    text = report.quality_bins(errors) + report.quality_steps(errors)
    for name, films in (("under 5", 1), ("5 to 8.5", 1), ("8.5 to 15", 2), ("from 15", 2)):
        assert f'{name}</th><td class="number">{films}<' in text
    assert 'under 20</th><td class="number">83 %' in text
    assert "linical" not in text


def test_params_are_complete() -> None:
    assert load_params(report.Params).cases >= 1
