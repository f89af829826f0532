"""Which films of a raw folder can be used, and what is wrong with the others: all checks before decoding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.ceph.raw.described import same_aspect
from stages.ceph.raw.files import find_copies
from stages.ceph.raw.frame import film_spacing, settle_frame, to_film
from stages.ceph.raw.layout import Listing, Problem, list_raw
from stages.ceph.raw.points import read_text_label
from stages.ceph.raw.words import Words, hear_readers, sound_label
from stages.ceph.schema import CEPH, ISBI_FRAME
from stages.core.data.convert import KEPT, LEFT_OUT, FilmJob, Refusal
from stages.core.data.films import pseudonym
from stages.core.film_facts import film_facts

CLINIC = f"{CEPH.lane}-clinic"
"""what pseudonyms of a clinic's films begin with: file names such as 001 occur in both sets"""

MAX_PIXELS = 100_000_000
"""of a film whose size is asked for"""


@dataclass(frozen=True)
class RawCeph:
    """A raw folder after all checks that need no decoding.

    Attributes:
        jobs: films that can be used; labels in raw px, with NaN where all readers left a point out.
        refusals: what is wrong or odd about a film or its label.
        spacing_mm: id of each job -> (x, y) mm per raw px, NaN where it is unknown.
        readers: one row a film and reader: id, reader, landmarks (19, 2) raw px, NaN for a missing point. The
            files in labels/ are among them in a clinic's folder only, as reader "labels".
    """

    jobs: list[FilmJob]
    refusals: list[Refusal]
    spacing_mm: dict[str, tuple[float, float]]
    readers: pd.DataFrame

    @property
    def names(self) -> set[tuple[str, str, str]]:
        """(id, patient, name) of jobs and refused films alike, for the private table of names."""
        used = {job.id: (job.id, job.patient, job.path.name) for job in self.jobs}
        return {*used.values(), *((r.id, r.id, r.name) for r in self.refusals if r.id not in used)}


def film_ids(names: Iterable[str], clinic: bool = False) -> dict[str, str]:
    """Name of film (without its ending) -> pseudonym."""
    lane = CLINIC if clinic else CEPH.lane
    return {name: pseudonym(lane, name) for name in sorted(names)}


def read_raw(folder: Path, clinic: bool = False) -> RawCeph:
    """Read a folder of lateral films; see layout.py and described.py for what it may hold.

    A film's label is its file in labels/, else the mean of its readers; a film without a sound label is left
    out. In a clinic's folder a film needs no label and gets none: all that is there are words of readers, and
    faults in them cost a point or a reader, not the film.

    Args:
        folder: raw folder.
        clinic: whether it is that of a clinic.
    Raises:
        StageError: no such layout, a dataset.json that cannot be right, or labels in an unknown frame.
    """
    listing = list_raw(folder)
    ids = film_ids(listing.labelled | listing.films.keys(), clinic)
    bad = _unusable_files(listing, ids)
    films = {name: paths[0] for name, paths in listing.films.items() if name not in bad}
    facts = {
        name: found for name, path in films.items() if (found := film_facts(path, MAX_PIXELS)) is not None
    }
    texts = {name: read_text_label(listing.labels[name]) for name in films if name in listing.labels}
    described, assumed = settle_frame(folder, texts, facts)

    notes: list[tuple[str, Problem]] = []
    labels: dict[str, np.ndarray] = {}
    heard: dict[str, Words] = {}
    for name in films:
        text = texts.get(name)
        if text is not None and not isinstance(text, Problem):
            text = to_film(text, None, facts.get(name), described)
            if assumed and name in facts and same_aspect(facts[name].size, ISBI_FRAME):
                notes.append((name, assumed))
        asked = text if clinic else None
        words = heard[name] = hear_readers(name, asked, listing.readers, facts.get(name), described)
        notes += [(name, problem) for problem in words.problems]
        if clinic:
            continue
        label = sound_label(words.mean() if text is None else text, facts.get(name))
        if isinstance(label, Problem):
            bad[name] = label
        else:
            labels[name] = label

    used = [name for name in films if name not in bad]
    judged = [(name, problem, LEFT_OUT) for name, problem in bad.items()]
    judged += [(name, problem, KEPT) for name, problem in notes if name not in bad]
    if clinic:
        silent = Problem("no_label", "no reader's word")
        judged += [(name, silent, KEPT) for name in used if not heard[name].points]
    return RawCeph(
        jobs=[FilmJob(ids[name], ids[name], "", films[name], labels.get(name)) for name in used],
        refusals=[
            Refusal(ids[name], _file_name(listing, name), problem.reason, action, problem.detail)
            for name, problem, action in judged
        ],
        spacing_mm={ids[name]: film_spacing(facts.get(name), described) for name in used},
        readers=_reader_table({ids[name]: heard[name] for name in used}),
    )


def _unusable_files(listing: Listing, ids: Mapping[str, str]) -> dict[str, Problem]:
    """Names without exactly one film, and all but one of equal films."""
    bad = {
        name: Problem("missing_film", "a label but no film")
        for name in sorted(listing.labelled - listing.films.keys())
    }
    for name, paths in listing.films.items():
        if len(paths) > 1:
            bad[name] = Problem("duplicate_name", f"films {', '.join(path.suffix for path in paths)}")
    single = {name: paths[0] for name, paths in listing.films.items() if name not in bad}
    return bad | find_copies(single, ids)


def _file_name(listing: Listing, name: str) -> str:
    return listing.films[name][0].name if name in listing.films else name


def _reader_table(heard: Mapping[str, Words]) -> pd.DataFrame:
    rows = [
        (film, reader, points) for film, words in heard.items() for reader, points in words.points.items()
    ]
    table = pd.DataFrame(rows, columns=["id", "reader", "landmarks"])
    return table.sort_values(["id", "reader"], ignore_index=True)
