"""What the spine page says of clicks, of the loop and of risk follows from the evaluation, films paired."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.report.evidence import Sampling
from stages.core.report.wording import figure
from stages.spine import report, report_clicks, report_loop, report_risk
from stages.spine.looping.counting import clicks_needed
from stages.spine.looping.session import Session
from stages.spine.report_loop import LoopEvidence
from tests.report_pages import BOOTSTRAP
from tests.spine.clicked import ROUND_COLUMNS, write_session

SAMPLING = Sampling(BOOTSTRAP, 1)


def evidence(folder: Path, n_test: int = 12, **session: Any) -> LoopEvidence:
    """What the page reads of a session over `n_test` films of as many patients."""
    ids = [f"film-{i:02}" for i in range(n_test)]
    write_session(folder, ids, **session)
    return LoopEvidence.read(folder, pd.Series([f"patient-{i}" for i in ids], index=ids))


def test_every_claim_is_answered_by_a_measured_figure_or_by_none(tmp_path: Path) -> None:
    found = evidence(tmp_path)
    measured = {"model", "smape", "mean_shape", *report_loop.measured_claims(found, SAMPLING)}
    assert {claim.measure for claim in report.CLAIMS} - {""} == measured
    change, _ = report_loop.measured_claims(found, SAMPLING)["relative_change"]
    before, after = (found.errors[method][0].mean() for method in ("refiner", "loop"))
    assert change.value == pytest.approx(100 * (after / before - 1))
    assert not change.has_interval, "a claim is not decided by a figure without an interval"
    short = evidence(tmp_path / "short", clicks=4, risk={"prevalence": 0.0})
    assert set(report_loop.measured_claims(short, SAMPLING)) == {"relative_change"}


@pytest.mark.parametrize(
    ("loop", "style", "words"),
    [
        (-8.0, "good", "The loop helps"),
        (8.0, "bad", "The loop does harm"),
        (0.05, "open", "No difference is shown"),
    ],
)
def test_the_loop_is_judged_film_by_film(tmp_path: Path, loop: float, style: str, words: str) -> None:
    found = evidence(tmp_path, loop=loop)
    (said_style, said), bound = report_loop.worth_of_loop(found, SAMPLING)
    assert (said_style, words in said) == (style, True)
    assert "24 wrong points right and 10 right points wrong" in said
    assert bound[0] == "open"


def test_few_patients_decide_nothing(tmp_path: Path) -> None:
    style, said = report_loop.worth_of_loop(evidence(tmp_path, n_test=2), SAMPLING)[0]
    assert style == "open"
    assert "too few cases" in said


def test_a_loop_that_did_nothing_is_said_to_be_off_or_taken_back(tmp_path: Path) -> None:
    off = evidence(tmp_path / "off", loop=0.0, rounds=())
    assert "switched off" in report_loop.worth_of_loop(off, SAMPLING)[0][1]
    back = evidence(tmp_path / "back", loop=0.0, rounds=((1, 5, 0, 30, 0, 0, 0, 40.0, 40.0),))
    assert "taken back" in report_loop.worth_of_loop(back, SAMPLING)[0][1]


@pytest.mark.parametrize(
    ("by_hand", "style"),
    [(-0.5, "good"), (-4.0, "open"), (-9.0, "bad")],
    ids=["moves its neighbours", "moves its point", "does harm"],
)
def test_a_click_is_held_against_a_correction_by_hand(tmp_path: Path, by_hand: float, style: str) -> None:
    found = evidence(tmp_path, loop=-8.0, per_click=(-5.0, -4.0, by_hand))
    said_style, said = report_clicks.worth_of_clicks(found, SAMPLING)
    assert said_style == style
    assert "5 clicks a film take" in said
    assert figure(found.errors["loop"][5].mean()) in said


def test_clicks_needed_stand_in_the_table(tmp_path: Path) -> None:
    found = evidence(tmp_path, loop=-5.0, per_click=(-10.0, 0.0, 0.0))
    drawn = report_clicks.needs_table(found)
    # from 34 to 41 raw px down to 20 in two or three clicks; the others never
    needed, failed = clicks_needed(found.errors["loop"], 20.0)
    assert f'<td class="number">{needed:.1f}</td><td class="number">{100 * failed:.0f} %</td>' in drawn
    assert drawn.count('<td class="number">6.0</td><td class="number">100 %</td>') == 2 * 3


def test_a_film_without_labels_is_left_out_of_the_clicks(tmp_path: Path) -> None:
    found = evidence(tmp_path)
    lost = {m: np.column_stack([np.full(len(e), np.nan), e[:, 1:]]) for m, e in found.errors.items()}
    kept = {m: e[:, 1:] for m, e in found.errors.items()}
    drawn = report_clicks.needs_table(replace(found, errors=lost))
    assert drawn == report_clicks.needs_table(replace(found, errors=kept))


@pytest.mark.parametrize(
    ("found", "style", "words"),
    [
        ({"detector": 0.7, "spread": 0.5, "peak": 0.3}, "open", "The Detector finds wrong points best"),
        ({"detector": 0.4, "spread": 0.5, "peak": 0.3}, "open", "Not the Detector: the spread"),
        ({"detector": 0.1, "spread": 0.2, "peak": 0.15}, "bad", "no better than a random order"),
        (
            {"detector": 0.7, "spread": float("nan"), "peak": 0.3},
            "open",
            "0.70; peak of the Refiner's map 0.30",
        ),
    ],
)
def test_who_finds_wrong_points_best_is_said(found: dict[str, float], style: str, words: str) -> None:
    said_style, said = report_risk.best_signal(found, 0.2)
    assert (said_style, words in said) == (style, True), said


def test_a_detector_that_flags_nothing_is_said() -> None:
    assert "flags no point" in report_risk.at_threshold({"recall_at_threshold": 0.0})
    said = report_risk.at_threshold({"precision_at_threshold": 0.8, "recall_at_threshold": 0.6})
    assert "80 % of the flagged points are wrong; of the wrong points it flags 60 %" in said


def test_an_evaluation_of_other_films_or_without_a_method_is_refused(tmp_path: Path) -> None:
    ids = ["a", "b", "c"]
    write_session(tmp_path, ids)
    path = tmp_path / "clicks.parquet"
    clicks = tables.read_table(path)
    clicks = clicks[(clicks["method"] != "manual") & ((clicks["method"] != "loop") | (clicks["id"] != "b"))]
    Session(clicks, pd.DataFrame(columns=list(ROUND_COLUMNS)), {}).write(tmp_path)
    with pytest.raises(StageError, match=r"no method 'manual'; other films than the test films by 'loop'"):
        LoopEvidence.read(tmp_path, pd.Series(ids, index=ids))
