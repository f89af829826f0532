"""What a choice of the spine lane is worth on your films: arms that differ in one thing, on one split.

    python -m bench.studies STUDY [STUDY ...] --raw DIR [--out reports/studies]

    start     the backbone's weights: ImageNet's, random ones, and an HRNet of like cost with random ones
    swap      left and right exchange names on mirrored training films, or not (the reference does not)
    labels    training labels as the audit repairs them and without those that it drops, or as they came
    errors    Detector and Corrector learn from out-of-fold errors, planted ones, or both
    curve     a quarter, half, three quarters and all of the training patients: what would more films bring?

A cheap profile: films of 128 x 64 px, few epochs. Every arm is judged on the same val, gate and test films (their
labels after the audit), differences are paired film by film, intervals are bootstraps over patients. The arms
of a study share seed and schedule; one seed only, so that differences near the interval's edge are no proof.
Writes STUDY.csv and prints the tables. DIR is a folder in the AASCE layout.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.data.labels import LabelledFilms
from stages.core.evaluate.errors import film_errors, radial_errors
from stages.core.evaluate.statistics import Bootstrap, bootstrap_mean, compare
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.spine import audit, convert, corrector, detector, errors, folds, pairs, refiner, split
from stages.spine.schema import SCHEMA

JUDGED = ("val", "gate", "test")
BOOTSTRAP = Bootstrap(resamples=2000, level=0.95, method="bca", minimum_groups=6)
EPOCHS = 10


@dataclass(frozen=True)
class Work:
    """A folder with the films as the first stages leave them, and what was fitted to them so far."""

    folder: Path
    data: LabelledFilms
    fitted: dict[tuple[str, bool, bytes], np.ndarray] = field(default_factory=dict)

    @classmethod
    def prepare(cls, raw: Path, folder: Path) -> Work:
        """Convert, audit and split as the pipeline does, with the checkout's parameters."""
        observe = Observer.quiet(folder / "scratch")
        films, found, roles = folder / "films", folder / "audit", folder / "split.parquet"
        convert.run(load_params(convert.Params), raw, films, observe)
        audit.run(load_params(audit.Params), films, raw, found, observe)
        split.run(load_params(split.Params), films, found, roles, observe)
        pairs.run(load_params(pairs.Params), films, found, roles, folder / "pairs.json", observe)
        return cls(folder, LabelledFilms.open(films, roles, found))

    def observe(self) -> Observer:
        return Observer.quiet(self.folder / "scratch")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+", choices=list(STUDIES), metavar="STUDY")
    parser.add_argument("--raw", type=Path, required=True, help="films in the AASCE layout")
    parser.add_argument("--out", type=Path, default=Path("reports/studies"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
        work = Work.prepare(arguments.raw, Path(scratch))
        for name in arguments.studies:
            started = time.monotonic()
            table = STUDIES[name](work)
            table.to_csv(arguments.out / f"{name}.csv", index=False, lineterminator="\n", float_format="%.6g")
            print(
                f"\n{name} ({time.monotonic() - started:.0f} s)\n{table.to_string(index=False)}", flush=True
            )


def cheap(epochs: int = EPOCHS) -> refiner.Params:
    """The Refiner's parameters at a size that takes a minute."""
    params = load_params(refiner.Params, profile="demo")
    phases = tuple(p.model_copy(update={"epochs": epochs}) for p in params.fit.phases)
    fit = params.fit.model_copy(update={"batch_size": 16, "phases": phases})
    return params.model_copy(update={"val_clicks": 0, "fit": fit})


def start(work: Work) -> pd.DataFrame:
    """What the shipped weights are worth, and the backbone itself."""
    arms = {
        "ImageNet": fitted_errors(work, cheap()),
        "random": fitted_errors(work, _with_network(weights="random")),
        "HRNet, random": fitted_errors(work, _with_network(backbone="hrnet_w18_small", weights="random")),
    }
    return compared(work, arms, "ImageNet")


def _with_network(**changes: object) -> refiner.Params:
    params = cheap()
    return params.model_copy(update={"network": params.network.model_copy(update=changes)})


def swap(work: Work) -> pd.DataFrame:
    """Mirroring with and without exchanging names."""
    arms = {
        "swapped": fitted_errors(work, cheap()),
        "not swapped": fitted_errors(work, cheap().model_copy(update={"swap_on_mirror": False})),
    }
    return compared(work, arms, "swapped")


def labels(work: Work) -> pd.DataFrame:
    """Training labels after the audit, or as they came; judged on the same labels."""
    data = work.data
    as_came = replace(data, landmarks_raw=data.films.landmarks_raw, use=np.ones(len(data.films), bool))
    arms = {
        "audited": fitted_errors(work, cheap()),
        "as they came": fitted_errors(work, cheap(), learn_from=as_came),
    }
    return compared(work, arms, "audited")


def curve(work: Work) -> pd.DataFrame:
    """Nested parts of the training patients, in the order of a seeded shuffle."""
    data = work.data
    rows = data.trainable()
    patients = np.random.default_rng(0).permutation(np.unique(data.patients[rows]))
    entries, sizes, means = [], [], []
    for share in (0.25, 0.5, 0.75, 1.0):
        chosen = rows[np.isin(data.patients[rows], patients[: round(share * len(patients))])]
        # Fewer films make shorter epochs: every part gets the same number of steps.
        found = fitted_errors(work, cheap(round(EPOCHS * len(rows) / len(chosen))), rows=chosen)
        interval = bootstrap_mean(found, judged_patients(work), BOOTSTRAP, 0)
        sizes.append(len(chosen))
        means.append(interval.mean)
        entries.append(
            {"films": len(chosen), "error_raw_px": interval.mean, "low": interval.low, "high": interval.high}
        )
    slope, level = np.polyfit(np.log(sizes), np.log(means), 1)  # error = e^level * films^slope
    more = sizes[-1] + 100
    entries.append(
        {"films": more, "error_raw_px": float(np.exp(level) * more**slope), "low": None, "high": None}
    )
    table = pd.DataFrame(entries)
    table["kind"] = ["measured"] * len(sizes) + [f"power law, exponent {slope:.3f}"]
    return table


def from_errors(work: Work) -> pd.DataFrame:
    """Detector and Corrector by what they learn from, judged on what one Refiner says of films new to it."""
    from sklearn.metrics import average_precision_score

    from stages.spine.checking.inference import TrainedDetector
    from stages.spine.checking.threshold import limits_raw
    from stages.spine.correcting.inference import TrainedCorrector
    from stages.spine.refining.inference import open_refiner

    folder, data = work.folder, work.data
    files = (folder / "films", folder / "audit", folder / "split.parquet")
    refiner.run(cheap(), *files, folder / "pairs.json", folder / "refiner", work.observe())
    fold_params = load_params(folds.Params).model_copy(update={"folds": 2, "epochs": 1.0, "clicks": 0})
    predictions = folder / "folds.parquet"
    folds.run(
        fold_params,
        *files,
        folder / "pairs.json",
        folder / "refiner",
        predictions,
        folder / "folds",
        work.observe(),
    )
    rows = data.rows(*JUDGED)
    images, (_, first) = np.asarray(data.films.images[rows]), open_refiner(folder / "refiner", SCHEMA)
    points = first.run(images).points
    before = radial_errors(data.films.to_raw(points, rows), data.landmarks_raw[rows])
    planted = {"shift": 0.4, "neighbours": 0.3, "sides": 0.1, "clean": 0.2}
    mixes = {
        "both": load_params(errors.Params).mix,
        "out of fold": {"out_of_fold": 1.0, **dict.fromkeys(planted, 0.0)},
        "planted": {"out_of_fold": 0.0, **planted},
    }
    entries, arms = [], {"Refiner alone": film_errors(before)}
    for name, mix in mixes.items():
        table = folder / "errors.parquet"
        given = load_params(errors.Params).model_copy(update={"mix": mix})
        errors.run(given, *files, predictions, table, work.observe())
        checked = load_params(detector.Params, profile="demo")
        detector.run(checked, *files, table, folder / "detector", work.observe())
        corrector.run(
            load_params(corrector.Params, profile="demo"), *files, table, folder / "corrector", work.observe()
        )
        limits = limits_raw(checked.threshold, data.landmarks_raw[rows], data.films.sizes_raw[rows][:, 1])
        wrong = before > limits
        risk = TrainedDetector.open(folder / "detector", SCHEMA).probabilities(images, points)
        proposed = TrainedCorrector.open(folder / "corrector", SCHEMA).propose(images, points)
        arms[name] = film_errors(radial_errors(data.films.to_raw(proposed, rows), data.landmarks_raw[rows]))
        entries.append(
            {
                "arm": name,
                "detector_pr_auc": average_precision_score(wrong.ravel(), risk.ravel()),
                "prevalence": wrong.mean(),
            }
        )
    return compared(work, arms, "both").merge(pd.DataFrame(entries), on="arm", how="left")


STUDIES: dict[str, Callable[[Work], pd.DataFrame]] = {
    "start": start,
    "swap": swap,
    "labels": labels,
    "errors": from_errors,
    "curve": curve,
}


def fitted_errors(
    work: Work,
    params: refiner.Params,
    learn_from: LabelledFilms | None = None,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """(n,) error in raw px of each judged film by a Refiner that was fitted with `params`, without clicks."""
    from stages.spine.refining.training import train_refiner

    data, learning = work.data, learn_from or work.data
    rows = learning.trainable() if rows is None else rows
    arm = (params.model_dump_json(), learning is data, rows.tobytes())
    if arm in work.fitted:
        return work.fitted[arm]
    fitted, _ = train_refiner(
        learning, rows, data.trainable("val"), SCHEMA, params, params.seed, params.threads, params.device,
        None, work.observe(),
    )  # fmt: skip
    judged = data.rows(*JUDGED)
    points = fitted.run(np.asarray(data.films.images[judged])).points
    found = film_errors(radial_errors(data.films.to_raw(points, judged), data.landmarks_raw[judged]))
    return work.fitted.setdefault(arm, found)


def judged_patients(work: Work) -> np.ndarray:
    return work.data.patients[work.data.rows(*JUDGED)]


def compared(work: Work, arms: dict[str, np.ndarray], base: str) -> pd.DataFrame:
    """One row an arm: its mean error, and its difference from `base` with interval and verdict."""
    entries = []
    for name, found in arms.items():
        entry = {"arm": name, "films": len(found), "error_raw_px": found.mean()}
        if name != base:
            said = compare(found, arms[base], judged_patients(work), BOOTSTRAP, 0)
            entry |= {
                f"minus_{base}": said.mean_difference,
                "low": said.low,
                "high": said.high,
                "verdict": said.verdict,
            }
        entries.append(entry)
    return pd.DataFrame(entries)


if __name__ == "__main__":
    main()
