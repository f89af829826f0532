"""The spine page shows what the evaluation and the audit found, whatever films are called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.core.data import tables
from stages.core.data.films import FilmSet
from stages.core.data.split import read_split
from stages.core.evaluate.statistics import Bootstrap
from stages.core.params import load_params
from stages.core.report import anatomy
from stages.core.report.evidence import Points
from stages.core.stage import Observer
from stages.spine import evaluate, report, report_clicks, report_labels, report_risk
from stages.spine.audit import FINDING_SCHEMA, LABEL_SCHEMA, REASONS
from stages.spine.report_loop import COURSES, ORACLES
from stages.spine.schema import LEVELS, SCHEMA
from tests.report_pages import BOOTSTRAP, EvaluatedFilms, Evaluating, read_page, write_evaluated_films
from tests.spine.clicked import write_session

TOPS = 40 + 50 * np.arange(17)
SWAY = 25 * np.sin(np.arange(17) / 3)
CORNERS = np.array([[-40, 0], [40, 0], [-42, 36], [42, 36]])
SHAPE = (np.column_stack([120 + SWAY, TOPS])[:, None] + CORNERS).reshape(-1, 2)
LANE = Evaluating(
    SCHEMA,
    SHAPE,
    "system",
    "val_error_raw_px",
    "error_raw_px",
    evaluate.judge,
    evaluate.FILM_COLUMNS,
    parts=("refiner",),
)


def evaluated(
    folder: Path,
    findings: list[tuple[int, str, str, str]] | None = None,
    session: dict[str, Any] | None = None,
    **options: Any,
) -> EvaluatedFilms:
    """The lane's outputs; `findings` are (film, reason, action, vertebrae), repairs roll the stored label."""
    found = write_evaluated_films(folder, LANE, **options)
    split = read_split(found.split)
    write_session(found.evaluation, split.loc[split["role"] == "test", "id"].tolist(), **(session or {}))
    labels = list(FilmSet.open(found.films).landmarks_raw)
    statuses = ["ok"] * len(labels)
    rows = []
    for film, reason, action, vertebrae in findings or []:
        statuses[film] = {"repair": "repaired", "drop": "dropped", "keep": "suspect"}[action]
        if action == "repair":
            labels[film] = np.roll(labels[film], 4, axis=0)
        rows.append((found.ids[film], reason, action, vertebrae, "<measured>"))
    audit = {"id": found.ids, "landmarks": labels, "status": statuses, "reasons": "", "use": True}
    tables.write_table(found.audit / "labels.parquet", pd.DataFrame(audit), LABEL_SCHEMA)
    table = pd.DataFrame(rows, columns=FINDING_SCHEMA.names)
    tables.write_table(found.audit / "findings.parquet", table, FINDING_SCHEMA)
    return found


FINDINGS = [
    (9, "rolled", "repair", "0;16"),
    (10, "rolled", "repair", "0;16"),
    (11, "duplicated", "drop", "15;16"),
    (11, "spacing", "drop", "15"),
    (12, "width", "keep", "3"),
]


def write(found: EvaluatedFilms, output: Path, images: bool = True, findings: int = 3) -> dict[str, float]:
    bootstrap = Bootstrap(**BOOTSTRAP.model_dump())
    params = report.Params(
        seed=1,
        images=images,
        cases=2,
        findings=findings,
        film_height=120,
        jpeg_quality=60,
        bootstrap=bootstrap,
    )
    observe = Observer.quiet(output.parent / "scratch")
    paths = (found.films, found.audit, found.split, found.evaluation, found.history, output)
    return report.run(params, *paths, observe)


def test_page_shows_methods_vertebrae_angles_and_findings(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "data", FINDINGS)
    metrics = write(found, tmp_path / "spine.html")
    page = read_page(tmp_path / "spine.html")
    assert metrics["n_films_test"] == 12
    assert "Generated phantom, not real data" in page.text
    assert all(title in page.text for title in report.LANE.titles.values())
    assert all(level in page.text for level in LEVELS)
    assert "SMAPE over the three angles" in page.text
    assert "21 labels: 17 ok, 2 repaired, 1 suspect, 1 dropped" in page.text
    assert "<measured>" in page.text
    # six cases, then a film for every reason before a second one for any, and no film twice
    shown = [
        a["aria-label"] for name, a in page.elements if name == "svg" and a["aria-label"].startswith("Film")
    ]
    reasons = [label.rpartition(": ")[2] for label in shown[6:]]
    assert reasons == ["duplicated, spacing", "rolled", "width"]


def test_as_many_examples_as_asked_for_and_there_are(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "data", FINDINGS)
    for asked, shown in ((0, 0), (2, 2), (9, 4)):
        write(found, tmp_path / "spine.html", findings=asked)
        labels = [a["aria-label"] for name, a in read_page(tmp_path / "spine.html").elements if name == "svg"]
        examples = [label for label in labels if label.startswith("Film") and "mean error" not in label]
        assert len(set(examples)) == len(examples) == shown


def test_no_findings_are_said(tmp_path: Path) -> None:
    write(evaluated(tmp_path / "data"), tmp_path / "spine.html")
    assert "It found nothing wrong" in read_page(tmp_path / "spine.html").text


def test_one_film_and_missing_labels_still_give_a_page(tmp_path: Path) -> None:
    write(evaluated(tmp_path / "data", n_test=1, lost_points=5), tmp_path / "spine.html")
    assert "On 1 test film of 1 patient" in read_page(tmp_path / "spine.html").text


def test_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "data", FINDINGS)
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for page in pages:
        write(found, page)
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_without_images_no_film_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = evaluated(tmp_path / "data", FINDINGS)

    def never(*_: object) -> str:
        raise AssertionError("a film was embedded")

    monkeypatch.setattr(anatomy, "film_jpeg", never)
    with pytest.raises(AssertionError, match="embedded"):
        write(found, tmp_path / "spine.html")
    write(found, tmp_path / "spine.html", images=False)
    assert not any(name == "image" for name, _ in read_page(tmp_path / "spine.html").elements)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = "\"><svg onload='x'>&amp;</script>"
    found = evaluated(tmp_path / "data", FINDINGS, prefix=hostile)
    write(found, tmp_path / "spine.html")
    assert f"{hostile}-11" in read_page(tmp_path / "spine.html").text


def test_direction_and_place_of_the_error_are_named() -> None:
    labels = np.broadcast_to(SHAPE, (4, 68, 2)).copy()
    predicted = labels + np.array([1.0, 0.0])
    predicted[:, 20:24, 1] += 400.0  # T6
    said = report.where_it_fails(Points(np.arange(4), predicted, labels), np.array([0.6, -0.6, 0.1, np.nan]))
    assert "lies along the spine" in said
    assert "In 2 of 4 films" in said
    assert "T6 is worst (400)" in said


def test_every_reason_of_the_audit_has_a_meaning() -> None:
    assert set(report_labels.MEANINGS) == set(REASONS)


def test_centres_follow_the_order_of_the_label() -> None:
    points = report_labels.with_centres(SHAPE)
    np.testing.assert_allclose(points[68:, 1], TOPS + 18)
    some = report_labels.only(SHAPE, [0, 16])
    assert np.isfinite(some).all(1).sum() == 8
    np.testing.assert_array_equal(some[:4], SHAPE[:4])


def test_params_are_complete() -> None:
    assert load_params(report.Params).findings >= 0


def test_page_shows_clicks_loop_risk_and_claims(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "data", FINDINGS)
    history = pd.read_csv(found.history)
    history.assign(**{"val_error_raw_px@3": history["val_error_raw_px"] / 2}).to_csv(
        found.history, index=False
    )
    write(found, tmp_path / "spine.html")
    page = read_page(tmp_path / "spine.html")
    headings = ("What clicks are worth", "Does the loop help", "Can it tell when it is wrong")
    assert all(heading in page.text for heading in headings)
    assert "validation error after 3 clicks (raw px)" in page.text
    for course in (*COURSES.values(), *ORACLES.values(), *report_risk.SIGNALS.values()):
        assert course.lower() in page.text.lower()
    for claim in report.CLAIMS:
        assert claim.claimed in page.text
    assert "no verdict: phantom" in page.text


def test_published_curves_are_drawn_beside_real_films_only(tmp_path: Path) -> None:
    for dataset, shown in (("phantom", 0), ("aasce", 1)):
        write(evaluated(tmp_path / dataset, dataset=dataset), tmp_path / f"{dataset}.html")
        html = (tmp_path / f"{dataset}.html").read_text()
        chart = html[html.index("Mean error by number of clicks") :].partition("</svg>")[0]
        for name in report_clicks.DRAWN:
            assert (name in chart) == bool(shown)
        for name in report_clicks.PUBLISHED:
            assert name in html, "the table always has them"


def test_an_evaluation_without_clicks_shows_no_chart(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "data", session={"clicks": 0, "rounds": (), "risk": {"prevalence": 1.0}})
    write(found, tmp_path / "spine.html")
    page = read_page(tmp_path / "spine.html")
    labels = [a["aria-label"] for name, a in page.elements if name == "svg"]
    assert "Mean error by number of clicks" not in labels
    assert "100 % of the points that the Refiner sets are wrong" in page.text
    assert "There is nothing to tell apart" in page.text


def test_a_report_needs_no_torch() -> None:
    code = "import sys, stages.spine.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
