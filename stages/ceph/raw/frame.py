"""From the frame that labels are in to the pixels of their film."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from stages.ceph.raw.described import ISBI, Described, Pair, read_described, same_aspect
from stages.ceph.raw.layout import Problem
from stages.ceph.raw.points import outside
from stages.ceph.schema import CEPH, ISBI_FRAME, ISBI_SPACING_MM
from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.film_facts import FilmFacts


def settle_frame(
    folder: Path, texts: Mapping[str, np.ndarray | Problem], facts: Mapping[str, FilmFacts]
) -> tuple[Described, Problem | None]:
    """What holds for the label files of a folder, and what had to be assumed.

    Where nobody states a frame, but most labels reach beyond films of the shape of ISBI's, they are in ISBI's
    original frame. So they are where films without any description have just its size.

    Args:
        texts: name of film -> points (19, 2) as its label file has them, or what is wrong with it.
        facts: name of film -> its size.
    Raises:
        StageError: dataset.json cannot be right, or most labels reach beyond films of any other shape.
    """
    described = read_described(folder)
    if described.frame is not None or described.scale is not None:
        return described, None
    sized = {n: (p, facts[n].size) for n, p in texts.items() if n in facts and not isinstance(p, Problem)}
    most = len(sized) / 2
    beyond = [n for n, (points, size) in sized.items() if outside(points, size).sum() > CEPH.n_points / 4]
    fitting = [n for n, (_, size) in sized.items() if same_aspect(size, ISBI_FRAME)]
    original = [n for n in fitting if facts[n].size == ISBI_FRAME]
    if len(beyond) <= most and not (described == Described() and len(original) > most):
        return described, None
    if len(fitting) > most:
        return _assume_isbi(described)
    unread = f" (it has {', '.join(described.unknown)}, which say nothing here)" if described.unknown else ""
    raise StageError(
        f"{folder}: the labels of {len(beyond)} of {len(sized)} films lie outside them. State the frame that "
        f'they are in as "label_frame": [width, height] in dataset.json{unread}'
    )


def _assume_isbi(described: Described) -> tuple[Described, Problem]:
    said = f"no label_frame is stated; taken as {ISBI_FRAME[0]} x {ISBI_FRAME[1]} px"
    if described.spacing_mm or described.film_spacing_mm:
        return replace(described, frame=ISBI.frame), Problem("assumed_frame", said)
    assumed = replace(described, frame=ISBI.frame, spacing_mm=ISBI.spacing_mm)
    return assumed, Problem("assumed_frame", f"{said} of {ISBI_SPACING_MM:g} mm")


def to_film(
    points: np.ndarray, own_frame: Pair | None, facts: FilmFacts | None, described: Described
) -> np.ndarray | Problem:
    """Points (19, 2) from the frame of their label to raw px, or why that cannot be.

    Args:
        own_frame: (width, height) that the label file itself states; goes before dataset.json.
        facts: None of a film that tells no size: the engine will refuse it, its points stay as they are.
    """
    if facts is None:
        return points
    width, height = facts.size
    frame = own_frame or described.frame_of(facts.size)
    if frame is None or not same_aspect(frame, facts.size):
        stated = frame or described.frame or (0, 0)
        said = f"{width} x {height} px; its label is in a frame of {stated[0]:g} x {stated[1]:g}"
        return Problem("other_aspect", said)
    scale = geometry.resize_matrix((round(frame[1]), round(frame[0])), (height, width))
    return geometry.apply(scale, points)


def film_spacing(facts: FilmFacts | None, described: Described) -> Pair:
    """(x, y) mm per raw px: what the film's own header states, else what dataset.json implies; else NaN."""
    spacing = None
    if facts is not None:
        spacing = facts.spacing_mm or described.film_spacing(facts.size)
    return spacing or (float("nan"), float("nan"))
