"""Stage ceph-queue: which films of the clinic a reviewer is asked to look at, in which order, and why.

The pool is the clinic's films of the role train that no closed round has reviewed. Films are ranked, not points:
a film is opened once and all of its landmarks are confirmed. A share of the queue is drawn by chance, for what
the model is worth on the pool as a whole, and some films come twice.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from stages.ceph.schema import CEPH
from stages.ceph.scoring import selection
from stages.ceph.scoring.choice import Choice, film_scores
from stages.ceph.scoring.evidence import Evidence, gather, open_model
from stages.ceph.scoring.reasons import AUDIT, GATE, reason_for, repeat_of, worst_landmarks
from stages.ceph.scoring.selection import Mix, Row, Shares
from stages.ceph.scoring.shape import fit_shape_prior
from stages.ceph.spacing import read_spacing
from stages.core.data.labels import LabelledFilms
from stages.core.errors import StageError
from stages.core.model.card import load_card
from stages.core.params import StageParams
from stages.core.review.events import SHOWN, read_events, standing
from stages.core.review.queue import write_queue
from stages.core.stage import Observer, stage_main

HELD_OUT = ("gate", "test")


class Params(StageParams):
    """Attributes:
    films: rows of the queue, repeats included; fewer where the pool has fewer.
    shares: of the rows, by kind.
    blinded: share of each kind whose prediction is hidden until the reviewer has placed the points.
    gate_films: so many of the clinic's gate films are added, always blinded; their labels serve as gate labels
        alone.
    landmark_cap: share of the uncertain films that one and the same landmark may bring in.
    diversity: power of a film's distance from those chosen before it in what it is worth; 0 for its score alone.
    """

    section: ClassVar[str] = "ceph.queue"
    seed: int
    threads: int
    films: int = Field(ge=1)
    shares: Shares
    blinded: Mix
    gate_films: int = Field(ge=0)
    landmark_cap: float = Field(gt=0, le=1)
    diversity: float = Field(ge=0)


@dataclass(frozen=True)
class Pool:
    """Films that may come into the queue, by their row in the clinic's store; and what was left out, and why."""

    open: np.ndarray
    gate: np.ndarray
    n_reviewed: int
    n_held_out: int

    @property
    def rows(self) -> np.ndarray:
        return np.concatenate([self.open, self.gate])


def run(
    params: Params,
    films: Path,
    split: Path,
    clinic: Path,
    clinic_split: Path,
    model: Path,
    scores: Path,
    output: Path,
    observe: Observer,
    reviewed: Path | None = None,
) -> dict[str, float]:
    """Write the queue to `output`.

    Args:
        reviewed: folder of closed rounds; films with a verdict in an events.parquet below it are not asked again.
    Returns:
        Rows by kind, blinded rows, films of the pool, and films left out as reviewed, or as copies of films of
        the roles gate or test.
    Raises:
        StageError: no film is left to review, or a film of the roles gate or test would be in the queue.
    """
    base, own = LabelledFilms.open(films, split), LabelledFilms.open(clinic, clinic_split)
    pool = gather_pool(base, own, reviewed_films(reviewed), params)
    choice = Choice.open(scores)
    prior = fit_shape_prior(base.landmarks_raw[base.trainable("train")])
    trained = open_model(model, params.threads, params.seed)
    evidence = gather(trained, own.films, pool.rows, choice.draws, prior, params.seed)
    rows, unusual = choose(params, own, pool, evidence, choice)
    table = queue_table(own, pool, rows, unusual, evidence, choice)
    table = table.assign(**spacing_columns(clinic, table["id"]), model_key=load_card(model).key)
    require_not_held_out(table, base, own)
    write_queue(output, table)
    kinds = table["kind"].value_counts()
    return {
        "n_rows": len(table),
        "n_films": table["id"].nunique(),
        **{f"n_{kind}": int(kinds.get(kind, 0)) for kind in Mix.model_fields},
        "n_gate": int(table["id"].isin(own.films.ids[own.rows("gate")]).sum()),
        "n_blinded": int(table["blinded"].sum()),
        "n_pool": len(pool.open),
        "n_reviewed": pool.n_reviewed,
        "n_held_out_copies": pool.n_held_out,
        "mean_score_uncertain": float(table["score"][table["kind"] == "uncertain"].mean()),
        "mean_score_audit": float(table["score"][table["kind"] == "random_audit"].mean()),
    }


def reviewed_films(rounds: Path | None) -> set[str]:
    """Films with a verdict that stands in any round's events."""
    if rounds is None or not rounds.is_dir():
        return set()
    events = [event for file in sorted(rounds.rglob("events.parquet")) for event in read_events(file)]
    return {event.film for event in standing(events) if event.lane == CEPH.lane}


def gather_pool(base: LabelledFilms, clinic: LabelledFilms, reviewed: set[str], params: Params) -> Pool:
    """The films that may be asked about.

    A film whose stored picture is that of a gate or test film, of either set, under another name is left out.
    """
    held = {_digest(s.films.images[i]) for s in (base, clinic) for i in s.rows(*HELD_OUT)}
    candidates = clinic.rows("train")
    copies = np.array([_digest(clinic.films.images[i]) in held for i in candidates], bool)
    done = np.isin(clinic.films.ids[candidates], sorted(reviewed))
    free = candidates[~copies & ~done]
    if not len(free):
        raise StageError(
            f"no film of {clinic.films.folder} is left to review: of {len(candidates)} with the role train, "
            f"{done.sum()} are reviewed and {copies.sum()} are copies of gate or test films; add films to "
            "raw.ceph_clinic"
        )
    gate = clinic.rows("gate")[: params.gate_films] if params.gate_films else np.empty(0, np.int64)
    return Pool(free, gate, int(done.sum()), int(copies.sum()))


def choose(
    params: Params, clinic: LabelledFilms, pool: Pool, evidence: Evidence, choice: Choice
) -> tuple[list[Row], np.ndarray]:
    """The queue's rows, films numbered as in the pool, and how unusual each point of the pool (N, K) is."""
    rng = np.random.default_rng(params.seed)
    unusual = choice.unusual(evidence)
    free = np.arange(len(pool.open))
    wanted = selection.counts(params.films, params.shares, len(free))
    audit = rng.choice(free, wanted.random_audit, replace=False)
    gate = np.arange(len(pool.open), len(pool.rows))
    uncertain = selection.pick_uncertain(
        film_scores(unusual),
        np.array([worst_landmarks(u)[0] for u in unusual]),
        selection.thumbnails(clinic.films.images[pool.rows]),
        np.setdiff1d(free, audit),
        audit,
        wanted.uncertain,
        params.diversity,
        params.landmark_cap,
    )
    return selection.arrange(uncertain, audit, gate, wanted.repeat, params.blinded, rng), unusual


def queue_table(
    clinic: LabelledFilms,
    pool: Pool,
    rows: list[Row],
    unusual: np.ndarray,
    evidence: Evidence,
    choice: Choice,
) -> pd.DataFrame:
    """The columns of the queue but for spacing and model, in order."""
    store = clinic.films
    sizes, stored = store.sizes_raw[pool.rows], store.model_size
    raw_per_model = np.sqrt(sizes.prod(1) / (stored[0] * stored[1]))
    scores, references = film_scores(unusual), choice.curves

    def reason(row: Row) -> str:
        if row.repeat_of is not None:
            return repeat_of(row.repeat_of + 1)
        if row.kind == "uncertain":
            return reason_for(row.film, unusual, evidence, references)
        return GATE if row.film >= len(pool.open) else AUDIT

    films = [row.film for row in rows]
    expected = evidence.expected_error * raw_per_model[:, None]
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(rows) + 1),
            "id": store.ids[pool.rows[films]],
            "kind": [row.kind for row in rows],
            "blinded": [row.blinded for row in rows],
            "score": scores[films],
            "reason": [reason(row) for row in rows],
            "landmarks": list(evidence.points_raw[films]),
            "expected_error": list(expected[films]),
        }
    )


def spacing_columns(folder: Path, ids: pd.Series) -> dict[str, np.ndarray]:
    """spacing_x_mm and spacing_y_mm of films."""
    spacing = read_spacing(folder, ids)
    return {"spacing_x_mm": spacing[:, 0], "spacing_y_mm": spacing[:, 1]}


def require_not_held_out(queue: pd.DataFrame, base: LabelledFilms, clinic: LabelledFilms) -> None:
    """StageError naming every film of the base's gate or test, of the clinic's test, or of the clinic's gate with
    its prediction shown, that is in the queue."""
    held = {
        f"{role} of the {name} set": set(data.films.ids[data.rows(role)])
        for name, data in (("base", base), ("clinic", clinic))
        for role in HELD_OUT
    }
    shown = set(queue["id"][~queue["blinded"]])
    held["gate of the clinic set"] &= shown
    found = [f"{film} ({where})" for where, ids in held.items() for film in sorted(set(queue["id"]) & ids)]
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise StageError(f"held-out films would be reviewed: {', '.join(found[:SHOWN])}{more}")


def _digest(picture: np.ndarray) -> bytes:
    return hashlib.sha256(picture.tobytes()).digest()


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
