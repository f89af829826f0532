"""Which films of a pool a reviewer sees, and in which order.

The random audit is drawn first and from the whole pool, the films that the model is unsure of included: drawn
from what the uncertain ones leave over, it would flatter the model. Everything follows from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.core.data import geometry

THUMBNAIL: geometry.Size = (16, 12)
"""px; enough to tell one film from a copy of it at another contrast"""


class Mix(BaseModel):
    """A number for each kind of row, for example its share of the queue."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    uncertain: float = Field(ge=0, le=1)
    random_audit: float = Field(ge=0, le=1)
    repeat: float = Field(ge=0, le=1)


class Shares(Mix):
    """Shares of the queue's rows; they add up to 1."""

    @model_validator(mode="after")
    def _whole(self) -> Shares:
        if abs(self.uncertain + self.random_audit + self.repeat - 1) > 1e-9:
            raise ValueError("the shares of uncertain, random_audit and repeat must add up to 1")
        if self.repeat > 0.5:
            raise ValueError("a share of repeats over 0.5 would show films a third time")
        return self


@dataclass(frozen=True)
class Counts:
    """Rows of each kind."""

    uncertain: int
    random_audit: int
    repeat: int


@dataclass(frozen=True)
class Row:
    """A row of the queue: a film by its number in the pool, or again (`repeat_of`: its earlier place, from 0)."""

    film: int
    kind: str
    blinded: bool
    repeat_of: int | None = None


def counts(rows: int, shares: Shares, available: int) -> Counts:
    """Rows of each kind of a queue of `rows` rows, or of fewer where only so many films are `available`."""
    rows = min(rows, int(available / (1 - shares.repeat) + 1e-9))
    repeat = min(round(rows * shares.repeat), rows // 2)
    audit = min(round(rows * shares.random_audit), rows - repeat)
    return Counts(rows - repeat - audit, audit, repeat)


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Films (N, H, W) uint8 -> (N, 192) float64, each of mean 0 and deviation 1, for how alike films look."""
    small = np.stack([geometry.resize(np.asarray(image), THUMBNAIL).ravel() for image in images])
    small = small - small.mean(1, keepdims=True)
    return small / np.maximum(small.std(1, keepdims=True), 1e-6)


def pick_uncertain(
    score: np.ndarray,
    worst: np.ndarray,
    looks: np.ndarray,
    candidates: np.ndarray,
    chosen: np.ndarray,
    count: int,
    diversity: float,
    landmark_cap: float,
) -> np.ndarray:
    """Film numbers (count,) in the order of their choice: each the highest of score times distance^diversity.

    The distance is that of a film's looks to the nearest film already chosen, in typical distances between two
    films and at most 1, so that a copy of a chosen film is worth nothing and an odd film no more than others.

    Args:
        score: (N,) of films, >= 0. worst: (N,) their worst landmark. looks: (N, F).
        candidates: film numbers to pick from, at least `count`.
        chosen: film numbers that are in the queue anyway.
        landmark_cap: share of the picks with one and the same worst landmark, beyond which films with another
            are preferred.
    """
    apart = np.sqrt(((looks[:, None] - looks[None]) ** 2).mean(-1))
    own = apart[np.ix_(candidates, candidates)]
    unit = max(float(np.median(own[np.triu_indices(len(own), 1)])) if len(own) > 1 else 1.0, 1e-9)
    most = max(1, int(np.ceil(landmark_cap * count)))
    taken: dict[int, int] = {}
    near = apart[:, chosen].min(1) if len(chosen) else np.full(len(score), np.inf)
    left, picked = list(candidates), []
    for _ in range(count):
        allowed = [i for i in left if taken.get(int(worst[i]), 0) < most] or left
        worth = score[allowed] * np.minimum(near[allowed] / unit, 1.0) ** diversity
        best = int(allowed[int(np.argmax(worth))])
        picked.append(best)
        left.remove(best)
        taken[int(worst[best])] = taken.get(int(worst[best]), 0) + 1
        near = np.minimum(near, apart[:, best])
    return np.array(picked, np.int64)


def arrange(
    uncertain: np.ndarray,
    audit: np.ndarray,
    gate: np.ndarray,
    repeats: int,
    blinded: Mix,
    rng: np.random.Generator,
) -> list[Row]:
    """Rows in order: the most uncertain first, audit and gate films spread evenly, repeats in the second half.

    Gate films are always blinded: a label that leans on the model's own point cannot judge the model. Repeats
    are of films of the first half whose prediction was shown, drawn by chance, so that a blinded repeat shows
    how far the prediction had led the reviewer.
    """
    first = [*_rows(uncertain, "uncertain", blinded.uncertain, rng)]
    chance = [
        *_rows(audit, "random_audit", blinded.random_audit, rng),
        *_rows(gate, "random_audit", 1.0, rng),
    ]
    chance = [chance[i] for i in rng.permutation(len(chance))]
    order = _spread(len(first), len(chance), 0.0)
    rows = [(first + chance)[i] for i in order]

    shown = [i for i, row in enumerate(rows[: len(rows) // 2 + 1]) if not row.blinded]
    sources = np.sort(rng.permutation(shown)[:repeats]).astype(np.int64)
    order = _spread(len(rows), len(sources), 0.5)
    place = np.argsort(order)
    again = [
        replace(row, repeat_of=int(place[source]))
        for source, row in zip(
            sources,
            _rows(np.array([rows[i].film for i in sources]), "repeat", blinded.repeat, rng),
            strict=True,
        )
    ]
    return [(rows + again)[i] for i in order]


def _rows(films: np.ndarray, kind: str, share_blinded: float, rng: np.random.Generator) -> list[Row]:
    """A row a film, in their order; a share of them, drawn by chance, is blinded."""
    blinded = set(rng.permutation(len(films))[: round(share_blinded * len(films))].tolist())
    return [Row(int(film), kind, i in blinded) for i, film in enumerate(films)]


def _spread(rows: int, among: int, start: float) -> np.ndarray:
    """Order of `rows` things, numbered from 0, with `among` more, numbered on from there, put in evenly.

    Both keep their own order; the latter come from the share `start` of the list on, of which they are at most
    what is left.
    """
    total = rows + among
    first = int(start * total)
    places = first + ((np.arange(among) + 0.5) * (total - first) / max(among, 1)).astype(np.int64)
    order = np.empty(total, np.int64)
    order[places] = rows + np.arange(among)
    order[np.setdiff1d(np.arange(total), places)] = np.arange(rows)
    return order
