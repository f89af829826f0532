"""Two models on the same films: what is equal is called equal, a gain is found, and no part may pay for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from bench.ceph_aa import said, simulated_pair
from stages.ceph import compare
from stages.ceph.compare_page import changed
from stages.ceph.comparing.answers import JudgedTables, SideBySide, side_by_side
from stages.ceph.comparing.offline import compare_folders
from stages.ceph.comparing.paired import (
    KEEP,
    PROMOTE,
    Guardrails,
    Outcome,
    compare_models,
    holm,
    share_within,
)
from stages.ceph.evaluation.films import BASE_SET, CLINIC_SET, JudgedFilms
from stages.ceph.evaluation.verdict import read_verdict
from stages.ceph.schema import CEPH, INDEX
from stages.core.errors import StageError
from stages.core.evaluate.statistics import Bootstrap
from stages.core.stage import Observer
from tests.ceph.judged import Judged, evaluated, standing_in, write_lane

BOOTSTRAP = Bootstrap(resamples=400, level=0.95, method="bca", minimum_groups=6)
WIDE = Guardrails(
    set_percent_sn=1.0, landmark_percent_sn=2.0, worst_percent_sn=2.0, angle_deg=2.0, calibration=0.5
)


def judged(pair: SideBySide, guardrails: Guardrails = WIDE, seed: int = 0) -> Outcome:
    return compare_models(pair, guardrails, BOOTSTRAP, seed)


def worse(pair: SideBySide, rows: np.ndarray | slice, landmarks: slice | int, by: float) -> SideBySide:
    """The same pair with errors of A on some films and landmarks larger by `by` percent of S-N."""
    errors = pair.a.errors.copy()
    errors[rows, landmarks] += by
    return replace(pair, a=replace(pair.a, errors=errors))


@pytest.fixture(scope="module")
def gained() -> SideBySide:
    """A is better by 0.6 % of S-N on every film; its expected errors fit."""
    return simulated_pair(np.random.default_rng(3), films=60, gain_percent_sn=0.6)


def test_equal_models_are_called_equal_as_often_as_promised() -> None:
    shares = said(200, films=30, gain_mm=0.0, seed=11)
    assert 0.90 <= shares["no difference"] <= 0.98


def test_a_planted_gain_of_a_third_of_a_millimetre_is_found() -> None:
    assert said(30, films=40, gain_mm=0.3, seed=12)["better"] >= 0.95


def test_counting_points_as_films_would_find_differences_where_there_are_none() -> None:
    assert said(100, films=50, gain_mm=0.0, seed=13, by_point=True)["wilcoxon"] > 0.12


def test_a_gain_without_a_loss_anywhere_is_promoted(gained: SideBySide) -> None:
    outcome = judged(gained)
    assert outcome.verdict == PROMOTE
    assert outcome.reasons == ()
    assert outcome.overall.comparison.mean_difference == pytest.approx(-0.6, abs=0.15)


def test_swapping_the_models_swaps_the_signs(gained: SideBySide) -> None:
    back = judged(replace(gained, a=gained.b, b=gained.a))
    assert back.verdict == KEEP
    assert back.overall.comparison.verdict == "worse"
    forth = judged(gained)
    for one, other in zip(
        (*forth.sets, *forth.landmarks, forth.worst), (*back.sets, *back.landmarks, back.worst), strict=True
    ):
        assert one.comparison.mean_difference == pytest.approx(-other.comparison.mean_difference)


def test_no_difference_keeps_the_base() -> None:
    outcome = judged(simulated_pair(np.random.default_rng(4), films=60))
    assert outcome.verdict == KEEP
    assert "not lower beyond doubt" in outcome.reasons[0]


def test_one_spoilt_landmark_keeps_the_base_whatever_the_mean_says(gained: SideBySide) -> None:
    spoilt = worse(gained, slice(None), INDEX["porion"], 4.0)
    outcome = judged(spoilt)
    assert outcome.overall.comparison.verdict == "better"
    assert outcome.verdict == KEEP
    assert [p.name for p in outcome.landmarks if p.breaks_guardrail] == ["porion"]
    assert any("porion" in reason for reason in outcome.reasons)
    (porion,) = [p for p in outcome.landmarks if p.name == "porion"]
    assert porion.p_holm is not None
    assert porion.p_holm < 0.05


def test_a_guardrail_is_kept_by_the_whole_interval_not_by_the_mean(gained: SideBySide) -> None:
    """A landmark that jumps to and fro is as good on average; whether it is no worse, nobody can say."""
    to_and_fro = np.where(np.arange(60) % 2, 12.0, -12.0)
    errors = gained.a.errors.copy()
    errors[:, INDEX["porion"]] += to_and_fro
    outcome = judged(replace(gained, a=replace(gained.a, errors=errors)))
    (porion,) = [p for p in outcome.landmarks if p.name == "porion"]
    assert porion.comparison.mean_difference < WIDE.landmark_percent_sn
    assert porion.breaks_guardrail
    assert outcome.verdict == KEEP


def test_a_set_that_got_worse_is_not_hidden_by_the_other(gained: SideBySide) -> None:
    spoilt = worse(gained, gained.rows(BASE_SET), slice(None), 1.9)
    spoilt = worse(spoilt, gained.rows(CLINIC_SET), slice(None), -1.9)
    outcome = judged(spoilt)
    assert outcome.overall.comparison.verdict == "better"
    assert [p.name for p in outcome.sets if p.breaks_guardrail] == [BASE_SET]
    assert outcome.verdict == KEEP


def test_a_few_ruined_films_break_the_guardrail_of_the_worst(gained: SideBySide) -> None:
    ruined = worse(gained, np.arange(0, 60, 12), slice(None), 5.0)
    outcome = judged(ruined, WIDE.model_copy(update={"landmark_percent_sn": 50.0, "set_percent_sn": 50.0}))
    assert outcome.worst.breaks_guardrail
    assert outcome.verdict == KEEP
    assert not judged(gained).worst.breaks_guardrail


def test_an_angle_that_got_worse_keeps_the_base(gained: SideBySide) -> None:
    angles = gained.a.angles_deg | {"SNB": gained.a.angles_deg["SNB"] + 6.0}
    outcome = judged(replace(gained, a=replace(gained.a, angles_deg=angles)))
    assert [p.name for p in outcome.angles if p.breaks_guardrail] == ["SNB"]
    assert any("SNB" in reason for reason in outcome.reasons)


@pytest.mark.parametrize("factor", [0.3, 4.0])
def test_errors_that_are_expected_wrongly_keep_the_base(gained: SideBySide, factor: float) -> None:
    outcome = judged(replace(gained, a=replace(gained.a, expected=factor * gained.a.expected)))
    assert any("calibration" in reason for reason in outcome.reasons)


def test_too_few_films_decide_nothing(gained: SideBySide) -> None:
    few = simulated_pair(np.random.default_rng(5), films=4, gain_percent_sn=3.0)
    outcome = judged(few)
    assert outcome.verdict == KEEP
    assert any("too few" in reason for reason in outcome.reasons)
    assert outcome.overall.comparison.verdict == "too few groups"


def test_unlabelled_points_count_nowhere(gained: SideBySide) -> None:
    """A landmark without any label is no reason for anything; other parts do not see it."""
    sides = []
    for side in (gained.a, gained.b):
        errors = side.errors.copy()
        errors[5, INDEX["ans"]] = np.nan
        sides.append(replace(side, errors=errors))
    part = {p.name: p for p in judged(replace(gained, a=sides[0], b=sides[1])).landmarks}
    assert part["ans"].comparison.n_films == 59
    assert part["pns"].comparison.n_films == 60
    assert part["pns"] == {p.name: p for p in judged(gained).landmarks}["pns"]


def test_holm_corrects_like_its_definition() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    p = np.random.default_rng(0).uniform(size=19) ** 2
    corrected = holm(p)
    assert (corrected >= p).all()
    assert (corrected >= false_discovery_control(p) - 1e-12).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()
    assert holm(np.array([0.2])) == pytest.approx([0.2])


def test_share_within_counts_labelled_points() -> None:
    errors = np.array([[1.0, 2.0, 3.0], [np.nan, 1.0, np.nan], [np.nan] * 3])
    np.testing.assert_allclose(share_within(errors, 2.0), [200 / 3, 100, np.nan])


def test_films_are_shown_once_and_by_their_change() -> None:
    differences = np.array([-3.0, 0.1, 2.0, -1.0, np.nan, 0.0, 5.0, -0.2, 0.3])
    shown = changed(differences, 2)
    assert shown == {"Most improved": [0, 3], "Least changed": [5, 1], "Most worsened": [6, 2]}
    assert changed(np.array([-1.0, -2.0]), 3) == {
        "Most improved": [1],
        "Least changed": [0],
        "Most worsened": [],
    }


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    lane = write_lane(tmp_path_factory.mktemp("compare") / "lane", n_clinic=12)
    evaluated(lane)
    return lane


def params(**changes: Any) -> compare.Params:
    values: dict[str, Any] = {
        "seed": 2,
        "images": True,
        "guardrails": WIDE.model_copy(update={"landmark_percent_sn": 6.0, "calibration": 0.2}),
        "bootstrap": BOOTSTRAP,
        "cases": 2,
        "film_height": 120,
        "jpeg_quality": 60,
    }
    return compare.Params.model_validate(values | changes)


def run(lane: Judged, folder: Path, **changes: Any) -> tuple[dict[str, Any], str, dict[str, float]]:
    """verdict.json, the page and the figures."""
    verdict, page = folder / "verdict.json", folder / "page.html"
    figures = compare.run(
        params(**changes), lane.evaluation, lane.films, lane.clinic, verdict, page, Observer.quiet(folder)
    )
    return json.loads(verdict.read_text()), page.read_text(), figures


def test_the_stage_compares_the_gate_films_of_both_sets(lane: Judged, tmp_path: Path) -> None:
    verdict, _, figures = run(lane, tmp_path)
    assert figures["n_films"] == 6 + 12
    pair = side_by_side(JudgedTables.read(lane.evaluation), "gate")
    assert figures["gate_tuned"] == pytest.approx(pair.a.film_errors.mean())
    assert figures["gate_clinic_tuned"] < figures["gate_clinic_base"]
    assert figures["gate_base_tuned"] == pytest.approx(figures["gate_base_base"])
    assert verdict["verdict"] in (PROMOTE, KEEP)
    assert read_verdict(tmp_path / "verdict.json") == (verdict["verdict"], tuple(verdict["reasons"]))
    (gonion,) = [p for p in verdict["landmarks"] if p["name"] == "gonion"]
    assert gonion["comparison"]["verdict"] == "better"


def test_the_same_inputs_give_the_same_bytes(lane: Judged, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(lane, tmp_path / name)
    for file in ("verdict.json", "page.html"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_page_shows_both_models_on_the_same_films_and_says_what_to_type(
    lane: Judged, tmp_path: Path
) -> None:
    _, page, _ = run(lane, tmp_path)
    assert page.count("base model:") == page.count("tuned model:") > 0
    for command in ("plumbline promote ceph", "plumbline rollback ceph", "plumbline evaluate ceph"):
        assert command in page
    for name in CEPH.names:
        assert name.replace("_", " ") in page
    assert "data:image/jpeg" in page
    assert "Generated phantom" in page


def test_without_images_no_film_is_on_the_page(lane: Judged, tmp_path: Path) -> None:
    _, page, _ = run(lane, tmp_path, images=False)
    assert "data:image" not in page
    assert "Films are left out" in page


def test_reasons_stand_on_the_page(lane: Judged, tmp_path: Path) -> None:
    strict = WIDE.model_copy(update={"calibration": 0.999})
    verdict, page, figures = run(lane, tmp_path, guardrails=strict)
    assert verdict["verdict"] == KEEP
    assert figures["promote"] == 0
    assert figures["n_reasons"] == len(verdict["reasons"]) > 0
    assert all(reason.split(":")[0] in page for reason in verdict["reasons"])


def test_films_that_only_one_model_judged_are_named(lane: Judged, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="did not judge the same gate films"):
        side_by_side(JudgedTables.read(lane.evaluation), "gate", b="nobody")


def test_an_offline_test_of_two_folders_says_what_the_evaluation_of_both_says(lane: Judged) -> None:
    """The stage reads ceph-evaluate's tables, the function asks the models itself: one result."""
    guardrails = params().guardrails
    with standing_in():
        films = [
            JudgedFilms.of_base(lane.films, lane.split),
            JudgedFilms.of_clinic(lane.clinic, lane.clinic_split, "a"),
        ]
        outcome, pair = compare_folders(lane.tuned, lane.base, films, "gate", guardrails, BOOTSTRAP, 2)
    read = side_by_side(JudgedTables.read(lane.evaluation), "gate")
    np.testing.assert_array_equal(pair.ids, read.ids)
    for name in ("errors", "errors_mm", "expected", "points", "labels"):
        for one, other in ((pair.a, read.a), (pair.b, read.b)):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-4)
    again = compare_models(read, guardrails, BOOTSTRAP, 2)
    assert again.verdict == outcome.verdict
    assert again.overall.comparison.mean_difference == pytest.approx(
        outcome.overall.comparison.mean_difference, rel=1e-4
    )


def test_an_offline_test_needs_films(lane: Judged) -> None:
    with pytest.raises(StageError, match="needs films"):
        compare_folders(lane.tuned, lane.base, [], "gate", WIDE, BOOTSTRAP, 0)
