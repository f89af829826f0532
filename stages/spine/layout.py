"""The raw layout of AASCE: which films and labels a folder holds, and what is in a label file.

    data/{training,test}/NAME.jpg
    labels/{training,test}/NAME.jpg.mat    variable p2, (68, 2), x y in raw px

The folder may be the one that holds data/ and labels/, or its parent with boostnet_labeldata in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.core.data.films import pseudonym
from stages.core.errors import StageError
from stages.spine.schema import SCHEMA

PARTS = ("training", "test")
_FILM = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
_LARGEST_LABEL = 1_000_000
"""bytes; a label of 68 points has 400"""
_PATIENT = re.compile(r"-\d{4}-(\d+)\b")
"""the number after the date: sunhl-1th-02-Jan-2017-[162] A AP.jpg"""


class LabelError(Exception):
    """A label file that cannot be used. `reason` is a code for tables, `detail` says what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class RawFilm:
    """A film and where its label belongs; either file may be missing."""

    name: str
    film: Path
    label: Path


def find_root(raw: Path) -> Path:
    """The folder that holds data/ and labels/, for `raw` itself or its parent.

    Raises:
        StageError: neither looks like the AASCE layout; says what was looked for.
    """
    candidates = (raw, raw / "boostnet_labeldata")
    for root in candidates:
        if any((root / "data" / part).is_dir() for part in PARTS):
            return root
    looked = ", ".join(str(root / "data" / part) for root in candidates for part in PARTS)
    raise StageError(
        f"{raw} is not in the AASCE layout: none of {looked} is a folder. Set raw.spine in params.yaml"
    )


def list_films(raw: Path) -> list[RawFilm]:
    """All films of a raw folder in the order of their names, and labels that have no film."""
    root = find_root(raw)
    films: list[RawFilm] = []
    for part in PARTS:
        data, labels = root / "data" / part, root / "labels" / part
        names = {p.name for p in _files(data) if p.suffix.lower() in _FILM}
        names |= {p.name.removesuffix(".mat") for p in _files(labels) if p.suffix == ".mat"}
        films += [RawFilm(name, data / name, labels / f"{name}.mat") for name in sorted(names)]
    return films


def film_id(name: str) -> str:
    """Pseudonym of a film."""
    return pseudonym(SCHEMA.lane, name)


def patient_id(name: str) -> str:
    """Pseudonym of the patient, by the number in a film's name.

    A film whose name gives none (`...-coronal7.jpg`) counts as a patient of its own.
    """
    match = _PATIENT.search(name)
    return pseudonym(SCHEMA.lane, f"patient {match[1]}") if match else film_id(name)


def read_label(path: Path) -> tuple[np.ndarray, bool]:
    """Points (68, 2) float64 in raw px from a .mat file, and whether it held them as (2, 68).

    A transposed label is turned: 68 points cannot be mistaken for 2. Nothing in the file is ever executed.

    Raises:
        LabelError: label_missing, label_unreadable, label_damaged (no MATLAB 4 or 5 file, or too large),
            label_variable (no p2), label_shape, label_type (not real numbers), label_not_finite.
    """
    from scipy.io import loadmat, whosmat

    n_points = SCHEMA.n_points
    try:
        if path.stat().st_size > _LARGEST_LABEL:
            raise LabelError("label_damaged", f"{path.stat().st_size} bytes; a label has about 400")
        content = loadmat(path, variable_names=["p2"])
        found = content.get("p2")
        names = [] if found is not None else [name for name, _, _ in whosmat(path)]
    except FileNotFoundError:
        raise LabelError("label_missing", "there is no .mat file for this film") from None
    except PermissionError:
        raise LabelError("label_unreadable", "no permission to read the .mat file") from None
    except LabelError:
        raise
    except Exception as error:  # SciPy's parser raises a dozen kinds on files that are not what they claim
        raise LabelError("label_damaged", f"not a MATLAB 4 or 5 file ({type(error).__name__})") from None
    if found is None:
        raise LabelError("label_variable", f"no variable p2; there are {', '.join(names) or 'none'}")
    if found.dtype.kind not in "uif":
        raise LabelError("label_type", f"p2 holds {found.dtype}; expected real numbers")
    if found.shape not in ((n_points, 2), (2, n_points)):
        raise LabelError("label_shape", f"p2 is {found.shape}; expected ({n_points}, 2)")
    transposed = found.shape != (n_points, 2)
    points = np.asarray(found.T if transposed else found, np.float64)
    if wrong := [SCHEMA.names[i] for i in np.flatnonzero(~np.isfinite(points).all(1))]:
        raise LabelError("label_not_finite", f"no coordinates for {', '.join(wrong)}")
    return points, transposed


def _files(folder: Path) -> list[Path]:
    """Files of a folder, hidden ones left out; none where there is no folder."""
    if not folder.is_dir():
        return []
    return [p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file()]
