"""What a round of reviews is worth at a clinic where the base is new: a study on films that two readers labelled.

    python -m bench.ceph_clinic --clinic data/ceph/clinic --films data/ceph/films --split data/ceph/split.parquet
        --base models/ceph/base --work DIR [--threads 2] [--out reports/studies]

The clinic's films are dealt into three folds. The films of two folds are the pool that may be reviewed, those of
the third are judged, so that every film is judged once, by models that learned nothing from it. Reader A reviews the
first 0, 10, 20 or 40 films of the pool (ceph-simulate's reviewer: points within the tolerance are accepted where the
base put them), most uncertain films first (ceph-scores' choice, on the base's val films) or in random order; the base
is fine-tuned on them and on its own training films (replay). 40 films are the whole pool, so that both orders end in
one model. `trained on` is the base after as many further steps on its own films alone: what more training is worth
without any review.

    python -m bench.ceph_clinic --choose ...

says first how much replay and how many epochs: each of CANDIDATES is trained on 30 random films of each fold's pool and
measured on the base's val and gate films. Taken is the one that shows reviewed films most often while the base does
not get worse there in the mean (ceph_clinic_replay.csv). The change on the ten films of the pool that were not
reviewed stands beside it for information; it decides nothing, since other folds judge these films.

Errors are told against reader A, reader B and the mean of both, in px of the film and in percent of the S-N distance;
the distance of the readers from each other stands beside them. The base's own test films are measured before and
after, in mm. Intervals are bootstraps over films (no patients are known); differences are paired film by film. One
base, one seed, one clinic: differences near the interval's edge are no proof.

DIR keeps every finished training, by replay and epochs, and the study goes on there when it is started again. Writes
ceph_clinic.csv and prints it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.ceph import scores, simulate
from stages.ceph.locating.inference import Locator
from stages.ceph.locating.model import TrainedCeph
from stages.ceph.locating.network import build_network
from stages.ceph.locating.training import fit
from stages.ceph.readers import reader_points
from stages.ceph.schema import CEPH, INDEX
from stages.ceph.scoring.choice import Choice, film_scores
from stages.ceph.scoring.evidence import gather, open_model
from stages.ceph.scoring.shape import fit_shape_prior
from stages.ceph.spacing import read_spacing
from stages.ceph.tuning.films import base_films, reviewed_films, with_replay
from stages.core.data.films import FilmSet
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import patient_folds
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_errors, radial_errors
from stages.core.evaluate.statistics import Bootstrap, bootstrap_mean, compare
from stages.core.model.card import folder_digest
from stages.core.review.events import FoldSettings, fold, read_events
from stages.core.review.queue import write_queue
from stages.core.stage import Observer
from stages.core.train.plan import Plan

FOLDS = 3
SIZES = (10, 20, 40)
ORDERS = ("uncertain", "random")
TRAINED_ON = "trained on"
SEED = 20
RATE = 0.0003
CHOSEN_ON = 30
"""reviewed films of a pool on which replay and epochs are chosen"""
BOOTSTRAP = Bootstrap(resamples=2000, level=0.95, method="bca", minimum_groups=6)
WEIGHTS = FoldSettings(tolerance_mm=2.0, tolerance_px=8.0, accepted=0.5, corrected=1.0, hidden=1.0)
REVIEWER: dict[str, Any] = {
    "seed": SEED,
    "reader": "a",
    "round": 1,
    "tolerance_mm": 2.0,
    "tolerance_percent_sn": 2.8,
    "repeat_sd_percent_sn": 0.0,
    "dwell": {"look": 0, "move": 0, "reach": 0},
}
SCORES: dict[str, Any] = {
    "seed": SEED,
    "candidates": ["rank_mean", "tta", "peak", "spread"],
    "rank_mean": ["peak", "tta"],
    "draws": {"augmented": 5, "dropped": 2},
    "wrong_mm": 2.0,
    "wrong_model_px": 4.0,
    "precision_at": 20,
    "bins": 8,
    "folds": 3,
    "bootstrap": {"resamples": 200, "level": 0.95},
}


@dataclass(frozen=True)
class Settings:
    """Share of an epoch's films that are the base's, at least; and epochs."""

    replay: float
    epochs: int

    @property
    def name(self) -> str:
        return f"{self.replay:g}-{self.epochs}"


CANDIDATES = [Settings(replay, epochs) for replay in (0.5, 0.75, 0.9) for epochs in (2, 4)]


@dataclass(frozen=True)
class Arm:
    """One fine-tuned model. `order` is `all` where the whole pool is reviewed, TRAINED_ON where nothing is; that one
    is judged on every film and has no fold (-1)."""

    fold: int
    order: str
    films: int

    @property
    def name(self) -> str:
        return f"fold{self.fold}-{self.order}-{self.films}"


def arms(pool: int) -> Iterator[Arm]:
    """All models of the study, for pools of so many films."""
    yield Arm(-1, TRAINED_ON, 0)
    for number in range(FOLDS):
        for size in SIZES:
            if size >= pool:
                yield Arm(number, "all", pool)
            else:
                yield from (Arm(number, order, size) for order in ORDERS)


@dataclass(frozen=True)
class Study:
    """What all arms share."""

    films: Path
    split: Path
    clinic: Path
    base: Path
    work: Path
    threads: int
    device: str
    settings: Settings

    @cached_property
    def data(self) -> LabelledFilms:
        return LabelledFilms.open(self.films, self.split)

    @cached_property
    def store(self) -> FilmSet:
        return FilmSet.open(self.clinic)

    @cached_property
    def model(self) -> TrainedCeph:
        return TrainedCeph.open(self.base)

    @cached_property
    def folds(self) -> np.ndarray:
        """(N,) fold in which a film of the clinic is judged."""
        return patient_folds(self.store.ids, FOLDS, SEED)

    @property
    def observe(self) -> Observer:
        return Observer.quiet(self.work / "scratch", key=folder_digest(self.base))

    def order(self, arm: Arm) -> np.ndarray:
        """Rows of the pool in the order of their review."""
        pool = np.flatnonzero(self.folds != arm.fold)
        rng = np.random.default_rng([SEED, arm.fold])
        if arm.order == "uncertain":
            return pool[np.argsort(-self.uncertainty[pool], kind="stable")]
        return rng.permutation(pool)

    @cached_property
    def uncertainty(self) -> np.ndarray:
        """(N,) how much a reviewer's minute is worth on each film, by the scorer that val picks."""
        kept = self.work / "uncertainty.npy"
        if not kept.is_file():
            folder = self.work / "scores"
            params = scores.Params.model_validate(SCORES | {"threads": self.threads})
            scores.run(params, self.films, self.split, self.base, folder, self.observe)
            choice = Choice.open(folder)
            prior = fit_shape_prior(self.data.landmarks_raw[self.data.trainable()])
            rows = np.arange(len(self.store))
            evidence = gather(
                open_model(self.base, self.threads, SEED), self.store, rows, choice.draws, prior, SEED
            )
            np.save(kept, film_scores(choice.unusual(evidence)))
        return np.load(kept)

    @cached_property
    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, K, 2) and expected errors (N, K) of the base on all films of the clinic, raw px."""
        rows = np.arange(len(self.store))
        found = self.model.predict(np.asarray(self.store.images))
        sizes, stored = self.store.sizes_raw, self.store.model_size
        scale = np.sqrt(sizes.prod(1) / (stored[0] * stored[1]))
        return self.store.to_raw(found.points, rows), found.expected_error * scale[:, None]

    def review(self, arm: Arm) -> pd.DataFrame:
        """Labels of the films that reader A reviews for this arm."""
        rows = self.order(arm)[: arm.films]
        points, expected = self.seen
        folder = self.work / "reviews" / arm.name
        spacing = read_spacing(self.clinic, self.store.ids[rows])
        queue = pd.DataFrame(
            {
                "rank": np.arange(1, len(rows) + 1),
                "id": self.store.ids[rows],
                "kind": "uncertain",
                "blinded": False,
                "score": self.uncertainty[rows],
                "reason": arm.order,
                "landmarks": list(points[rows]),
                "expected_error": list(expected[rows]),
                "spacing_x_mm": spacing[:, 0],
                "spacing_y_mm": spacing[:, 1],
            }
        )
        write_queue(folder / "queue.parquet", queue)
        params = simulate.Params.model_validate(REVIEWER | {"films": len(rows)})
        simulate.run(params, folder / "queue.parquet", self.clinic, folder / "events.parquet", self.observe)
        return fold(read_events(folder), WEIGHTS)


def tune(study: Study, arm: Arm, chosen: Settings) -> Locator:
    """Fine-tune the base on an arm's reviews."""
    known = base_films(study.data, "train")
    if arm.films:
        reviewed = reviewed_films(study.store, study.review(arm))
        base_rows, reviewed_rows = with_replay(len(known), len(reviewed), chosen.replay)
        epoch = known.take(base_rows).followed_by(reviewed.take(reviewed_rows))
    else:
        steps = sum(map(len, with_replay(len(known), SIZES[-1], chosen.replay)))
        epoch = known.take(np.arange(steps) % len(known))
    settings = study.model.settings
    trained = fit(
        settings,
        epoch.images,
        epoch.points,
        epoch.weight,
        None,
        plan(settings.fit, chosen.epochs),
        study.model.state,
        study.observe,
        seed=SEED,
        threads=study.threads,
        device_name=study.device,
        sizes_raw=epoch.sizes_raw,
        name=f"{arm.name}-{chosen.name}",
    )
    import torch

    network = build_network(settings.network, CEPH.n_points, settings.input.size)
    network.load_state_dict(trained.state)
    device = torch.device(study.device)
    return Locator(network.to(device).eval(), settings, device)


def plan(base: Plan, epochs: int) -> Plan:
    """The base's optimiser for few epochs at a small rate."""
    last = base.phases[-1]
    phase = last.model_copy(update={"epochs": epochs, "rates": dict.fromkeys(last.rates, RATE)})
    return base.model_copy(update={"phases": (phase,), "monitor": "", "patience": 0, "ema_decay": 0.95})


@dataclass(frozen=True)
class Answers:
    """What one model says: raw px on all films of the clinic, (N, K, 2) (NaN on films not judged), and film errors in
    mm on the base's test films, or None where they were not measured."""

    points: np.ndarray
    base_mm: np.ndarray | None
    effort: dict[str, int]


def answers(study: Study, arm: Arm) -> Answers:
    """Those of an arm, from the work folder where it is there."""
    kept = study.work / "answers" / study.settings.name / f"{arm.name}.npz"
    if not kept.is_file():
        clock = time.monotonic()
        locator = tune(study, arm, study.settings)
        judged = np.flatnonzero((study.folds == arm.fold) | (arm.fold < 0))
        points = np.full((len(study.store), CEPH.n_points, 2), np.nan)
        found = locator.locate(np.asarray(study.store.images[judged])).points
        points[judged] = study.store.to_raw(found, judged)
        after = base_mm(study, locator, "test") if arm.order in ("all", TRAINED_ON) else np.empty(0)
        events = read_events(study.work / "reviews" / arm.name) if arm.films else []
        verdicts = [event.verdict for event in events]
        effort = [verdicts.count(verdict) for verdict in ("accept", "correct")]
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial.npz")
        np.savez(partial, points=points, base_mm=after, effort=effort)
        partial.replace(kept)
        print(f"{arm.name}: {time.monotonic() - clock:.0f} s", flush=True)
    with np.load(kept) as saved:
        accepted, corrected = (int(n) for n in saved["effort"])
        mm = saved["base_mm"] if len(saved["base_mm"]) else None
        return Answers(saved["points"], mm, {"accepted": accepted, "corrected": corrected})


def base_mm(study: Study, locator: Locator, *roles: str) -> np.ndarray:
    """Mean radial error of each of the base's films of some roles, each looked at once, mm."""
    rows = study.data.rows(*roles)
    store = study.data.films
    found = store.to_raw(locator.locate_once(np.asarray(store.images[rows])).points, rows)
    spacing = read_spacing(study.films, store.ids[rows])[:, None]
    return film_errors(radial_errors(found * spacing, study.data.landmarks_raw[rows] * spacing))


def choose(study: Study) -> tuple[Settings, pd.DataFrame]:
    """Replay and epochs, and one row a candidate; see the module's docstring."""
    rows = []
    for candidate in CANDIDATES:
        tried = [tried_on_fold(study, number, candidate) for number in range(FOLDS)]
        base, clinic = (np.mean([one[i] for one in tried], axis=0) for i in (0, 1))
        known = len(study.data.trainable("train"))
        shown = candidate.epochs * len(with_replay(known, CHOSEN_ON, candidate.replay)[1])
        row = {"replay": candidate.replay, "epochs": candidate.epochs, "reviewed_shown": shown}
        ids = study.data.films.ids[study.data.rows("val", "gate")]
        row |= _paired("base_minus_before_mm", base, np.zeros(len(base)), ids)
        rows.append(row | {"clinic_minus_before_percent_sn": float(clinic.mean())})
        print(rows[-1], flush=True)
    found = pd.DataFrame(rows)
    harmless = found[found["base_minus_before_mm"] <= 0]
    if harmless.empty:
        raise StageError("every candidate makes the base worse: add candidates with more replay")
    best = harmless.loc[harmless["reviewed_shown"].idxmax()]
    return Settings(float(best["replay"]), int(best["epochs"])), found


def tried_on_fold(study: Study, number: int, candidate: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Changes of the base's val and gate films, mm, and of the unreviewed films of a fold's pool, percent of S-N."""
    arm = Arm(number, "random", CHOSEN_ON)
    kept = study.work / "tried" / candidate.name / f"{arm.name}.npz"
    if not kept.is_file():
        others = study.order(arm)[CHOSEN_ON:]
        locators = tune(study, arm, candidate), study.model.locator
        after, before = (base_mm(study, one, "val", "gate") for one in locators)
        percent_after, percent_before = (clinic_percent(study, one, others) for one in locators)
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, base=after - before, clinic=percent_after - percent_before)
    with np.load(kept) as saved:
        return saved["base"], saved["clinic"]


def clinic_percent(study: Study, locator: Locator, rows: np.ndarray) -> np.ndarray:
    """Error against reader A of each of some films of the clinic, each looked at once, percent of S-N."""
    truth = truths(study)
    points = np.full((len(study.store), CEPH.n_points, 2), np.nan)
    points[rows] = study.store.to_raw(locator.locate_once(np.asarray(study.store.images[rows])).points, rows)
    return errors(points, truth["reader_a"], truth["mean"])[1][rows]


def truths(study: Study) -> dict[str, np.ndarray]:
    """Points (N, K, 2) raw px of reader A, reader B and their mean; NaN where either is missing."""
    a, b = (reader_points(study.clinic, reader, study.store.ids) for reader in "ab")
    return {"reader_a": a, "reader_b": b, "mean": (a + b) / 2}


def errors(found: np.ndarray, truth: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Film errors (N,) in raw px, and in percent of the readers' mean S-N distance; NaN on films not judged."""
    judged = np.isfinite(found).all((1, 2))
    truth = np.where(judged[:, None, None], truth, np.nan)
    px = radial_errors(np.where(judged[:, None, None], found, 0.0), truth)
    sn = np.linalg.norm(mean[:, INDEX["nasion"]] - mean[:, INDEX["sella"]], axis=-1)
    return film_errors(px), film_errors(100 * px / sn[:, None])


def table(study: Study) -> pd.DataFrame:
    """One row a way of review, number of films and truth; see the module's docstring."""
    ids, truth = study.store.ids, truths(study)
    pool = int((study.folds != 0).sum())
    by_way: dict[tuple[str, int], list[Answers]] = {}
    for arm in arms(pool):
        by_way.setdefault((arm.order, SIZES[-1] if arm.order == "all" else arm.films), []).append(
            answers(study, arm)
        )
    ways: dict[tuple[str, int], np.ndarray] = {("base", 0): study.seen[0]}
    for way, found in by_way.items():
        ways[way] = np.nansum([one.points for one in found], axis=0)  # each film is judged in one fold
    rows = []
    for against, points in truth.items():
        judged = {way: errors(seen, points, truth["mean"]) for way, seen in ways.items()}
        if against != "mean":
            other = truth["reader_b" if against == "reader_a" else "reader_a"]
            both = np.where(np.isfinite(other).all(-1, keepdims=True), points, np.nan)
            filled = np.where(np.isfinite(other), other, 0.0)
            judged["other reader", 0] = errors(filled, both, truth["mean"])
        for (order, films), (px, percent) in judged.items():
            row = {"order": order, "films": films, "against": against}
            row |= _mean("error_raw_px", px, ids) | _mean("error_percent_sn", percent, ids)
            row |= _paired("minus_base_percent_sn", percent, judged["base", 0][1], ids)
            row |= _paired("minus_trained_on_percent_sn", percent, judged[TRAINED_ON, 0][1], ids)
            if order == "uncertain":
                row |= _paired("minus_random_percent_sn", percent, judged["random", films][1], ids)
            effort = [one.effort for one in by_way.get((order, films), [])]
            row |= {
                key: float(np.mean([e[key] for e in effort])) for key in ("accepted", "corrected") if effort
            }
            rows.append(row)
    return pd.concat([pd.DataFrame(rows), _base_rows(study, by_way)], ignore_index=True)


def _base_rows(study: Study, by_way: dict[tuple[str, int], list[Answers]]) -> pd.DataFrame:
    """The base's own test films before and after; after reviews, the mean over the folds' models."""
    kept = study.work / "base_test.npy"
    if not kept.is_file():
        np.save(kept, base_mm(study, study.model.locator, "test"))
    ids, before = study.data.films.ids[study.data.rows("test")], np.load(kept)
    rows = [{"order": "base", "films": 0, "against": "base test"} | _mean("error_mm", before, ids)]
    for order, films in ((TRAINED_ON, 0), ("all", SIZES[-1])):
        measured = [one.base_mm for one in by_way[order, films] if one.base_mm is not None]
        after = np.mean(measured, axis=0)
        row = {"order": order, "films": films, "against": "base test"}
        rows.append(row | _mean("error_mm", after, ids) | _paired("minus_base_mm", after, before, ids))
    return pd.DataFrame(rows)


def _mean(name: str, values: np.ndarray, ids: np.ndarray) -> dict[str, float | None]:
    found = bootstrap_mean(values, ids, BOOTSTRAP, SEED)
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high, "n_films": found.n_films}


def _paired(name: str, a: np.ndarray, b: np.ndarray, ids: np.ndarray) -> dict[str, Any]:
    found = compare(a, b, ids, BOOTSTRAP, SEED)
    bounds = {f"{name}_low": found.low, f"{name}_high": found.high}
    return {name: found.mean_difference, **bounds, f"{name}_verdict": found.verdict}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ceph_clinic", description=__doc__.partition("\n")[0]
    )
    for name in ("clinic", "films", "split", "base", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--replay", type=float, default=0.9)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--choose", action="store_true", help="choose replay and epochs, and end")
    parser.add_argument("--out", type=Path, default=Path("reports/studies"))
    told = parser.parse_args(argv)
    settings = Settings(told.replay, told.epochs)
    study = Study(
        told.films, told.split, told.clinic, told.base, told.work, told.threads, told.device, settings
    )
    pool = int((study.folds != 0).sum())
    if pool < SIZES[0]:
        raise StageError(f"{told.clinic} has {len(study.store)} films: too few for a pool of {SIZES[0]}")
    told.out.mkdir(parents=True, exist_ok=True)
    if told.choose:
        best, done = choose(study)
        print(f"taken: replay {best.replay}, {best.epochs} epochs")
        name = "ceph_clinic_replay.csv"
    else:
        done, name = table(study), "ceph_clinic.csv"
    done.to_csv(told.out / name, index=False, float_format="%.4g", lineterminator="\n")
    print(done.to_string(float_format=lambda v: f"{v:.3f}"))


if __name__ == "__main__":
    main()
