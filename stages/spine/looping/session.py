"""What an imagined user's clicks are worth: the system, and everything that it must be held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.core.data import tables
from stages.core.data.films import FilmSet
from stages.core.data.labels import LabelledFilms
from stages.core.evaluate.errors import film_errors, radial_errors
from stages.spine.checking.architecture import Threshold
from stages.spine.checking.threshold import limits_raw
from stages.spine.looping.clicks import Clicked, click_by_hand, click_through
from stages.spine.looping.counting import clicks_needed
from stages.spine.looping.loop import Loop, LoopRule
from stages.spine.looping.system import System, risk_scores
from stages.spine.measures import slips

CLICK_SCHEMA = pa.schema(
    [
        tables.column("id", pa.string()),
        tables.column("method", pa.string()),
        tables.column("clicks", pa.int32()),
        tables.column("error_raw_px", pa.float32(), "raw px, clicked points at the label"),
        tables.column("error_unpasted_raw_px", pa.float32(), "raw px, clicked points as the system answers"),
    ]
)
SUFFIX = {
    "refiner": "",
    "loop": "_loop",
    "manual": "_manual",
    "oracle_detector": "_oracle_detector",
    "oracle_corrector": "_oracle_corrector",
    "oracle_both": "_oracle_both",
}
"""method -> ending of its metrics mre_raw_px...@K"""


@dataclass(frozen=True)
class Session:
    """Tables and metrics of an interactive evaluation."""

    clicks: pd.DataFrame
    rounds: pd.DataFrame
    metrics: dict[str, float]

    def write(self, folder: Path) -> None:
        """clicks.parquet and rounds.csv."""
        table = self.clicks.sort_values(["method", "clicks", "id"])
        tables.write_table(folder / "clicks.parquet", table, CLICK_SCHEMA)
        self.rounds.to_csv(folder / "rounds.csv", index=False, lineterminator="\n")


def interactive(
    system: System, data: LabelledFilms, rows: np.ndarray, clicks: int, targets: Sequence[float]
) -> Session:
    """Answers on the films `rows` after 0 to `clicks` clicks on the worst point.

    Methods: the Refiner alone; with the loop; clicked points corrected by hand and nothing else; and, at 0
    clicks, the loop with a Detector that knows which points are wrong, with a Corrector that knows where
    they belong, and with both, which bounds what better ones could bring.
    """
    taken = replace_rows(data, rows)
    truth = data.landmarks_raw[rows].astype(np.float64)
    found = courses(system, taken, truth, clicks)
    images, scale = np.asarray(taken.images), _scale(taken)
    found |= {
        name: click_through(oracle, images, _model(taken, truth), scale, 0, with_loop=True)
        for name, oracle in _oracles(system, data, rows).items()
    }
    metrics = click_metrics(found, taken, truth, targets)
    rounds = _rounds(found["loop"], system, data, rows)
    for name in ("fixed", "broken", "net"):
        metrics[f"loop_{name}_points"] = int(rounds[name].sum()) if len(rounds) else 0
    return Session(_click_table(found, taken, truth), rounds, metrics)


def courses(system: System, films: FilmSet, truth_raw: np.ndarray, clicks: int) -> dict[str, Clicked]:
    """Sessions over all films of a store by the Refiner alone, with the loop, and by hand."""
    images, truth, scale = np.asarray(films.images), _model(films, truth_raw), _scale(films)
    alone = click_through(system.loop, images, truth, scale, clicks, with_loop=False)
    return {
        "refiner": alone,
        "loop": click_through(system.loop, images, truth, scale, clicks, with_loop=True),
        "manual": click_by_hand(alone.points[0], truth, scale, clicks),
    }


def click_metrics(
    found: Mapping[str, Clicked], films: FilmSet, truth_raw: np.ndarray, targets: Sequence[float]
) -> dict[str, float]:
    """Metrics of each course after K clicks.

    mre_raw_px@K with clicked points at the label, mre_unpasted_raw_px@K as answered, slipped_share@K of films
    displaced by more than half a vertebra as answered, and noc and fr for each target.
    """
    truth, metrics = _model(films, truth_raw), {}
    for method, course in found.items():
        pasted = _film_errors(course.pasted(truth), films, truth_raw)
        for count, errors in enumerate(pasted):
            metrics[f"mre_raw_px{SUFFIX[method]}@{count}"] = float(errors.mean())
        if method in ("refiner", "loop"):
            for count, errors in enumerate(_film_errors(course.points, films, truth_raw)):
                metrics[f"mre_unpasted_raw_px{SUFFIX[method]}@{count}"] = float(errors.mean())
            for count, points in enumerate(course.points):
                off = slips(films.to_raw(points, np.arange(len(films))), truth_raw)
                metrics[f"slipped_share{SUFFIX[method]}@{count}"] = float((np.abs(off) > 0.5).mean())
        if method in ("refiner", "loop", "manual"):
            for target in targets:
                needed, failed = clicks_needed(pasted, target)
                metrics[f"noc{SUFFIX[method]}@{target:g}_raw_px"] = needed
                metrics[f"fr{SUFFIX[method]}@{target:g}_raw_px"] = failed
    return metrics


def _click_table(found: Mapping[str, Clicked], films: FilmSet, truth_raw: np.ndarray) -> pd.DataFrame:
    truth, parts = _model(films, truth_raw), []
    for method, course in found.items():
        free = _film_errors(course.points, films, truth_raw)
        pasted = _film_errors(course.pasted(truth), films, truth_raw)
        for count in range(len(free)):
            parts.append(
                pd.DataFrame(
                    {
                        "id": films.ids,
                        "method": method,
                        "clicks": count,
                        "error_raw_px": pasted[count],
                        "error_unpasted_raw_px": free[count],
                    }
                )
            )
    return pd.concat(parts)


def replace_rows(data: LabelledFilms, rows: np.ndarray) -> FilmSet:
    """A store of the films `rows` alone."""
    films = data.films
    return replace(films, images=np.asarray(films.images[rows]), table=films.table.iloc[rows])


def _model(films: FilmSet, points_raw: np.ndarray) -> np.ndarray:
    return films.to_model(points_raw, np.arange(len(films)))


def _scale(films: FilmSet) -> np.ndarray:
    """(N, 1, 2) raw px a model px."""
    return films.sizes_raw[:, None, :] / np.array(films.model_size)[::-1]


def wrong_points(system: System, data: LabelledFilms, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n, K) bool: points (model px) further from the label than the Detector's threshold allows."""
    limits = _limits(system, data, rows)
    return radial_errors(data.films.to_raw(points, rows), data.landmarks_raw[rows]) > limits


def risk_table(system: System, data: LabelledFilms, rows: np.ndarray) -> pd.DataFrame:
    """Average precision of everything that may find wrong points among the Refiner's own, beside prevalence."""
    from sklearn.metrics import average_precision_score

    films = np.asarray(data.films.images[rows])
    none = np.full((len(rows), system.schema.n_points, 2), np.nan)
    state = system.loop.refine(films, none)
    wrong = wrong_points(system, data, rows, state.points).ravel()
    scores = risk_scores(system.loop, films, state, none)
    scores["peak"] = -state.maps.amax((-2, -1)).double().numpy()
    entries = [("prevalence", float(wrong.mean()))]
    if 0 < wrong.sum() < len(wrong):
        entries += [
            (f"pr_auc_{name}", float(average_precision_score(wrong, score.ravel())))
            for name, score in sorted(scores.items())
        ]
    threshold = system.loop.rule.threshold
    flagged = scores["detector"].ravel() >= threshold
    if flagged.any():
        entries.append(("precision_at_threshold", float(wrong[flagged].mean())))
    if wrong.any():
        entries.append(("recall_at_threshold", float(flagged[wrong].mean())))
    return pd.DataFrame(entries, columns=["name", "value"])


def _limits(system: System, data: LabelledFilms, rows: np.ndarray) -> np.ndarray:
    threshold = Threshold.model_validate(system.card.params["detector"]["threshold"])
    return limits_raw(threshold, data.landmarks_raw[rows], data.films.sizes_raw[rows][:, 1])


def _oracles(system: System, data: LabelledFilms, rows: np.ndarray) -> dict[str, Loop]:
    """The loop with the truth in place of one part or both; every round is then kept, one is enough.

    A loop that val switched off runs with its most careful rule here.
    """
    truth = data.landmarks_model[rows]

    def knows_wrong(at: np.ndarray, _: np.ndarray, points: np.ndarray) -> np.ndarray:
        return wrong_points(system, data, rows[at], points).astype(float)

    def knows_where(at: np.ndarray, _: np.ndarray, points: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(truth[at]), truth[at], points)

    rule = system.loop.rule
    always = LoopRule(
        update=rule.update, rounds=max(1, rule.rounds), threshold=min(rule.threshold, 0.5), accept=None
    )
    return {
        "oracle_detector": replace(system.loop, check=knows_wrong, rule=always),
        "oracle_corrector": replace(system.loop, propose=knows_where, rule=always),
        "oracle_both": replace(system.loop, check=knows_wrong, propose=knows_where, rule=always),
    }


def _film_errors(points: np.ndarray, films: FilmSet, truth_raw: np.ndarray) -> np.ndarray:
    """(C + 1, N, K, 2) model px -> (C + 1, N) mean errors in raw px."""
    rows = np.arange(len(films))
    return np.stack([film_errors(radial_errors(films.to_raw(p, rows), truth_raw)) for p in points])


def _rounds(course: Clicked, system: System, data: LabelledFilms, rows: np.ndarray) -> pd.DataFrame:
    """One row a round at 0 clicks: films changed, points flagged, and points fixed and broken by it."""
    entries, films, truth = [], replace_rows(data, rows), data.landmarks_raw[rows]
    for number, one in enumerate(course.rounds, 1):
        before = wrong_points(system, data, rows, one.before)
        after = wrong_points(system, data, rows, one.after)
        fixed, broken = int((before & ~after).sum()), int((~before & after).sum())
        entries.append(
            {
                "round": number,
                "films_flagged": int(one.flagged.any(1).sum()),
                "films_changed": int(one.kept.sum()),
                "flagged": int(one.flagged.sum()),
                "fixed": fixed,
                "broken": broken,
                "net": fixed - broken,
                "error_before_raw_px": float(_film_errors(one.before[None], films, truth).mean()),
                "error_after_raw_px": float(_film_errors(one.after[None], films, truth).mean()),
            }
        )
    columns = ["round", "films_flagged", "films_changed", "flagged", "fixed", "broken", "net",
               "error_before_raw_px", "error_after_raw_px"]  # fmt: skip
    return pd.DataFrame(entries, columns=columns)
