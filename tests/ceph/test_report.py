"""The ceph page says what the evaluation says, whatever the films are called and however few there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.ceph import report
from stages.ceph.evaluation.films import BASE, TUNED
from stages.ceph.evaluation.judge import MM, PERCENT
from stages.ceph.reporting.calibration import calibration_words
from stages.ceph.reporting.claims import CLAIMS, measured_claims
from stages.ceph.reporting.clinic import SetEvidence, change_words
from stages.ceph.reporting.errors import Radial, common_error, rate, where_it_fails
from stages.core.data import tables
from stages.core.params import load_params
from stages.core.report import anatomy
from stages.core.report.page import read_summary
from stages.core.report.wording import Estimate
from tests.report_pages import PageReader, read_page

from .judged import BOOTSTRAP, Judged, evaluated, write_lane


def params(**changes: Any) -> report.Params:
    settings = {
        "seed": 1,
        "images": True,
        "cases": 2,
        "film_height": 120,
        "jpeg_quality": 60,
        "bootstrap": BOOTSTRAP,
        "reader": "a",
        "groups": 4,
    }
    return report.Params.model_validate({**settings, **changes})


def lane_at(folder: Path, **options: Any) -> Judged:
    lane = write_lane(folder / "ceph", **options)
    evaluated(lane)
    return lane


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    return lane_at(tmp_path_factory.mktemp("lane"))


def write(lane: Judged, output: Path, **changes: Any) -> PageReader:
    report.run(
        params(**changes),
        films=lane.films,
        split=lane.split,
        clinic=lane.clinic,
        clinic_split=lane.clinic_split,
        evaluation=lane.evaluation,
        verdict=lane.verdict,
        history=lane.history,
        output=output,
        observe=lane.observe,
    )
    return read_page(output)


def test_page_answers_is_it_any_good_and_what_reviews_changed(lane: Judged, tmp_path: Path) -> None:
    page = write(lane, tmp_path / "ceph.html")
    assert "Generated phantom, not real data" in page.text
    assert "On 10 test films the model is off by" in page.text
    assert "It beats" in page.text
    assert "On 7 test films of the clinic the round moves the mean error" in page.text
    assert ": the reviews help." in page.text
    assert all(title in page.text for title in report.LANE.titles.values())
    assert "another reader (b)" in page.text
    assert "no verdict: phantom" in page.text
    assert "better here" not in page.text


def test_figures_are_those_of_the_evaluation(lane: Judged, tmp_path: Path) -> None:
    text = write(lane, tmp_path / "ceph.html").text
    films = tables.read_table(lane.evaluation / "base" / "per_film.parquet")
    own = films.query("method == 'base' and role == 'test'")
    assert f"off by {own[MM].mean():.2f} mm" in text
    radial = tables.read_table(lane.evaluation / "base" / "radial.parquet")
    radial = radial.query("method == 'base' and role == 'test'")
    for limit in (2.0, 2.5, 3.0, 4.0):
        assert f"{100 * (radial[MM] <= limit).mean():.1f} (" in text
    clinic = tables.read_table(lane.evaluation / "clinic" / "per_film.parquet").query("role == 'test'")
    before, after = (clinic.query("method == @m")[PERCENT].mean() for m in (BASE, TUNED))
    assert f"from {before:.2f} to {after:.2f} % of S–N" in text


def test_summary_carries_all_answers_to_the_page_of_all_lanes(lane: Judged, tmp_path: Path) -> None:
    write(lane, tmp_path / "ceph.html")
    summary = read_summary(tmp_path / "ceph.html")
    assert summary.lane == "ceph"
    assert summary.phantom
    assert summary.unit == "mm"
    assert len(summary.answers) == 3
    assert [m.key for m in summary.methods][:2] == [BASE, TUNED]


def test_a_real_set_is_named_and_claims_are_judged(tmp_path: Path) -> None:
    page = write(lane_at(tmp_path, dataset="isbi2015", base_error=0.3), tmp_path / "ceph.html")
    assert "isbi2015" in page.text
    assert "Generated phantom" not in page.text
    assert "better here" in page.text


def test_base_films_without_a_spacing_are_said_in_percent(tmp_path: Path) -> None:
    lane = lane_at(tmp_path, spacing_mm=None)
    page = write(lane, tmp_path / "ceph.html")
    assert "% of S–N (" in page.text.split("It beats")[0]
    assert "Not every film has a known spacing" in page.text
    assert read_summary(tmp_path / "ceph.html").unit == "% of S–N"
    radial = Radial.read(lane.evaluation / "base")
    assert radial.error == PERCENT
    rows = tables.read_table(lane.evaluation / "base" / "radial.parquet")
    rows.loc[rows.index[0], MM] = 1.0
    assert common_error(rows) == PERCENT, "one film with a spacing does not make the others known"


def test_same_inputs_give_the_same_bytes(lane: Judged, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write(lane, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert str(tmp_path) not in (tmp_path / "a.html").read_text()


def test_without_images_no_film_is_read(
    lane: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = write(lane, tmp_path / "with.html")
    assert sum(name == "image" for name, _ in page.elements) == 12

    def never(*_: object) -> str:
        raise AssertionError("a film was embedded")

    monkeypatch.setattr(anatomy, "film_jpeg", never)
    page = write(lane, tmp_path / "without.html", images=False)
    assert not any(name == "image" for name, _ in page.elements)
    assert "data:" not in (tmp_path / "without.html").read_text()
    assert page.text.count("Films are left out") == 2


def test_one_film_and_missing_labels_still_give_a_page(tmp_path: Path) -> None:
    lane = lane_at(tmp_path, n_test=1, n_clinic=1, lost=[(0, 0), (0, 5)])
    page = write(lane, tmp_path / "ceph.html")
    assert "On 1 test film the model" in page.text
    assert "too few" in page.text
    assert "No test film of the clinic was judged" in page.text, "its S-N distance is unknown"


def test_a_model_that_loses_is_said_to_lose(tmp_path: Path) -> None:
    page = write(lane_at(tmp_path, base_error=60.0, gain=-3.0), tmp_path / "ceph.html")
    assert "It is worse than" in page.text
    assert "It beats" not in page.text


def test_a_round_that_does_harm_is_said_to(tmp_path: Path) -> None:
    lane = lane_at(tmp_path, gain=-2.0)
    found = SetEvidence.read(lane.evaluation / "clinic", report.LANE.titles)
    style, said = change_words(found, params().sampling)
    assert style == "bad"
    assert "the reviews do harm" in said
    assert found.relative_change("test", 0.9).low > 0


def test_the_verdict_and_its_reasons_are_on_the_page(tmp_path: Path) -> None:
    lane = lane_at(tmp_path)
    lane.verdict.write_text(json.dumps({"verdict": "keep", "reasons": ["<b>gonion</b> is worse"]}))
    page = write(lane, tmp_path / "ceph.html")
    assert "The comparison says: keep." in page.text
    assert "<b>gonion</b> is worse" in page.text
    assert "ceph-compare.html" in [a.get("href") for _, a in page.elements]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = "<script src=//x>\"'&</script><img onerror=x>"
    lane = lane_at(tmp_path, prefix=hostile)
    page = write(lane, tmp_path / "ceph.html")
    assert f"{hostile}-" in page.text
    assert not {"img"} & {name for name, _ in page.elements}


def test_rates_and_worst_landmarks_come_from_the_points(lane: Judged) -> None:
    radial = Radial.read(lane.evaluation / "clinic")
    own = radial.of(BASE)
    found = rate(radial, BASE, 2.0, params().sampling)
    assert found.value == pytest.approx(100 * (own[PERCENT] <= 2).mean())
    assert found.low <= found.value <= found.high
    by_landmark = radial.by_landmark(BASE, params().sampling)
    assert where_it_fails(by_landmark, "mm").startswith("Worst landmarks: gonion (")
    assert where_it_fails([Estimate(np.nan)] * 19, "mm") == "No landmark has a label."


@pytest.mark.parametrize(
    ("factor", "style", "said"),
    [(1.0, "good", "even on average"), (0.3, "bad", "promises too much"), (4.0, "open", "more careful")],
)
def test_expected_errors_of_the_wrong_size_are_said_to_be_wrong(
    lane: Judged, factor: float, style: str, said: str
) -> None:
    radial = Radial.read(lane.evaluation / "base")
    table = radial.table.assign(expected_mm=radial.table[MM] * factor)
    found = calibration_words(Radial(table, MM), BASE, "its films", 4)
    assert found[0] == style
    assert said in found[1]


def test_claims_are_answered_by_measures_that_exist(lane: Judged) -> None:
    from stages.core.report.films import FilmEvidence

    sampling = params().sampling
    radial = Radial.read(lane.evaluation / "base")
    found = FilmEvidence.read(
        report.LANE, lane.films, lane.split, lane.evaluation / "base", lane.history, sampling
    )
    clinic = SetEvidence.read(lane.evaluation / "clinic", report.LANE.titles)
    measured = measured_claims(found, radial, clinic, sampling)
    assert {claim.measure for claim in CLAIMS if claim.measure} == set(measured)
    within = rate(radial, BASE, 2.0, sampling)
    assert measured["base_beyond"][0].value == pytest.approx(100 - within.value)
    assert measured["base_beyond"][0].high == pytest.approx(100 - within.low)
    compared = pd.read_csv(lane.evaluation / "clinic" / "comparison.csv")
    change = compared.query("role == 'test' and method_a == 'tuned' and method_b == 'base'").iloc[0]
    films = clinic.cases.query("method == 'base' and role == 'test'")
    expected = 100 * change["mean_difference"] / films[PERCENT].mean()
    assert measured["relative_change"][0].value == pytest.approx(expected, rel=1e-4)


def test_params_are_complete() -> None:
    assert load_params(report.Params).cases >= 1
