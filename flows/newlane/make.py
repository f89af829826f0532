"""From labels and films to a lane: what is written, and every number of it that the films decide."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from flows.lanes import LANES
from flows.newlane import text
from flows.newlane.guess import landmarks_of, mirror_partners
from flows.profiles import as_dependency
from stages.core.data.decode import FilmError, FilmLimits, decode_film
from stages.core.errors import StageError
from stages.core.film_facts import film_facts
from stages.core.params import parse_params
from stages.custom.description import Form, LaneDescription, description_file, write_description
from stages.custom.raw.films import MAX_PIXELS, FilmFolder
from stages.custom.raw.forms import form_of, read_labels
from stages.custom.raw.inventory import RawFilms, read_raw
from stages.custom.raw.record import LabelSet
from stages.custom.split import best_salt, best_shares

LEAST_SHARE = 0.5
STORED, FINE, COARSE, THUMBNAIL = 640, 352, 256, 120
"""longer sides in px: of stored films, of what the network reads in its last and first step, of the floors'"""
COARSE_STEPS, FINE_STEPS = 420, 64
"""of training, whatever the number of films: some minutes of one core"""
COARSE_BATCH, FINE_BATCH = 6, 4
TAKEN = ("core", "custom", "index", "lanes", "names")
NAME = re.compile("[a-z][a-z0-9_]*")
TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class Made:
    """A new lane.

    Attributes:
        described: what was written to data/lanes/NAME.json.
        files: that were written.
        remarks: what a person should look at.
    """

    described: LaneDescription
    files: tuple[Path, ...]
    remarks: tuple[str, ...]


def refused_name(root: Path, name: str) -> str | None:
    """Why a lane cannot be called so; None where it can."""
    params = parse_params(root / "params.yaml")
    if not NAME.fullmatch(name):
        return "it must be lower-case letters, digits and _, a letter first"
    if description_file(root, name).exists():
        return f"there is such a lane: look at data/lanes/{name}.json, or take it away with --remove"
    if name in params or name in params["raw"] or name in TAKEN or (root / "stages" / name).exists():
        return f"the name is taken; so are {', '.join([*LANES, *TAKEN])}"
    return None


def made(
    root: Path,
    name: str,
    labels: Path | None,
    films: Path | None,
    title: str = "",
    dataset: str = "",
    spacing_mm: float | None = None,
    patients: str | None = None,
) -> list[str]:
    """`make`, in lines for a person to read."""
    if labels is None or films is None:
        raise StageError(
            f"a new lane needs labels and films: plumbline new-lane {name} --from LABELS --films DIR"
        )
    lane = make(root, name, labels, films, title, dataset, spacing_mm, patients)
    written = ", ".join(path.relative_to(root).as_posix() for path in lane.files)
    return [
        f"lane {name}: {written}",
        *(f"  {remark}" for remark in lane.remarks),
        f"Read data/lanes/{name}.json and correct what was guessed; then",
        f"`plumbline repro {name}-report {name}-candidate`.",
    ]


def make(
    root: Path,
    name: str,
    labels: Path,
    films: Path,
    title: str = "",
    dataset: str = "",
    spacing_mm: float | None = None,
    patients: str | None = None,
) -> Made:
    """Write a lane's description, its section of params.yaml and its stages of dvc.yaml.

    Args:
        root: the checkout.
        labels: a COCO file, a folder of labelme files, or a table of points.
        films: a folder of pictures, at any depth.
        dataset: "phantom" for generated films and "own" for others by default.
        patients: see `LaneDescription`.
    Raises:
        StageError: the name is taken, labels or films cannot be used, or they are too few; nothing is written.
    """
    if why := refused_name(root, name):
        raise StageError(f"no lane can be called '{name}': {why}")
    if not films.is_dir():
        raise StageError(f"--films {films} is not a folder")
    if patients is not None:
        _require_pattern(patients)
    form = form_of(labels)
    read = read_labels(labels, form)
    described = _described(name, read, form, title, dataset or _dataset(films), spacing_mm, patients)
    found = read_raw(described, films, labels, LEAST_SHARE)
    params = _params(described, found)
    folders = {name: as_dependency(root, films), f"{name}_labels": as_dependency(root, labels)}
    raw = "".join(f"  {key}: {_quoted(path)}\n" for key, path in folders.items())

    params_file, stages_file = root / "params.yaml", root / "dvc.yaml"
    with_raw = text.append_to_section(params_file.read_text(encoding="utf-8"), "raw", raw, params_file)
    whole_params = text.insert_before(with_raw, "index:", params, params_file)
    stages = _stages(described, folders[name] == folders[f"{name}_labels"])
    whole_stages = text.insert_before(
        stages_file.read_text(encoding="utf-8"), "  index:", stages, stages_file
    )
    write_description(description_file(root, name), described)
    text.replace(params_file, whole_params)
    text.replace(stages_file, whole_stages)
    files = (description_file(root, name), params_file, stages_file)
    return Made(described, files, tuple(_remarks(described, found)))


def _described(
    name: str,
    read: LabelSet,
    form: Form,
    title: str,
    dataset: str,
    spacing_mm: float | None,
    patients: str | None,
) -> LaneDescription:
    names, ignored = landmarks_of(read)
    if len(names) < 2:
        raise StageError(
            f"the labels name {len(names)} landmarks ({', '.join(names)}); two or more are needed"
        )
    kept = set(names)
    return LaneDescription(
        name=name,
        title=title or name.replace("_", " ").capitalize(),
        dataset=dataset,
        form=form,
        landmarks=names,
        mirror=mirror_partners(names),
        skeleton=tuple((a, b) for a, b in read.skeleton if {a, b} <= kept),
        ignored=ignored,
        spacing_mm=spacing_mm,
        patients=patients,
    )


def _dataset(films: Path) -> str:
    """ "phantom" where the first film that can be read says that it is generated."""
    for path in FilmFolder(films).paths:
        try:
            return "phantom" if decode_film(path, FilmLimits(1, 200_000_000)).phantom else "own"
        except FilmError:
            continue
    return "own"


def _require_pattern(patients: str) -> None:
    try:
        re.compile(patients)
    except re.error as error:
        raise StageError(f"--patients {patients!r} is no regular expression: {error}") from None


def _params(described: LaneDescription, found: RawFilms) -> str:
    """The lane's section of params.yaml."""
    patients = [job.patient for job in found.jobs]
    shares = best_shares(len(set(patients)))
    sizes = [facts.size for job in found.jobs if (facts := film_facts(job.path, MAX_PIXELS))]
    proportion = float(np.median([width / height for width, height in sizes])) if sizes else 1.0
    n_train = shares["train"] * len(found.jobs)
    height, width = _size(proportion, STORED, 16)
    filled = {
        "SIZE": f"[{height}, {width}]",
        "SALT": str(best_salt(patients, shares)),
        "SHARES": _inline(shares),
        "THUMBNAIL": _sides(proportion, THUMBNAIL, 24),
        "COARSE_EPOCHS": str(_epochs(COARSE_STEPS, COARSE_BATCH, n_train)),
        "FINE_EPOCHS": str(_epochs(FINE_STEPS, FINE_BATCH, n_train)),
        "COARSE": _sides(proportion, COARSE, 32),
        "FINE": _sides(proportion, FINE, 32),
        "TITLE": described.title,
        "NAME": described.name,
    }
    section = (TEMPLATES / "params.yaml").read_text(encoding="utf-8")
    return _filled(section, filled)


def _stages(described: LaneDescription, together: bool) -> str:
    """The lane's block of dvc.yaml; `together`: films and labels are one folder, which is named once."""
    key = described.name if together else f"{described.name}_labels"
    block = _filled(
        (TEMPLATES / "stages.yaml").read_text(encoding="utf-8"),
        {"TITLE": described.title, "LABELS": key, "NAME": described.name},
    )
    doubled = f'      - "${{raw.{described.name}}}"\n'
    return block.replace(doubled * 2, doubled)


def _filled(template: str, values: dict[str, str]) -> str:
    return re.sub(rf"\b({'|'.join(values)})(?=\b|_labels)", lambda told: values[told[0]], template)


def _epochs(steps: int, batch: int, n_train: float) -> int:
    return max(4, round(steps / max(1, n_train // batch)))


def _size(proportion: float, longer: int, step: int) -> tuple[int, int]:
    """(height, width) in multiples of `step`, the longer side about `longer`."""
    width, height = (longer * proportion, longer) if proportion < 1 else (longer, longer / proportion)
    rounded = [max(2 * step, round(side / step) * step) for side in (height, width)]
    return rounded[0], rounded[1]


def _sides(proportion: float, longer: int, step: int) -> str:
    height, width = _size(proportion, longer, step)
    return f"{{height: {height}, width: {width}}}"


def _inline(values: dict[str, float]) -> str:
    return "{" + ", ".join(f"{name}: {value:g}" for name, value in values.items()) + "}"


def _quoted(path: str) -> str:
    return (
        path
        if re.fullmatch(r"[\w./-]+", path)
        else yaml.safe_dump(path, width=10_000).strip().removesuffix("\n...")
    )


def _remarks(described: LaneDescription, found: RawFilms) -> list[str]:
    by_reason: dict[str, int] = {}
    for refusal in found.refusals:
        by_reason[refusal.reason] = by_reason.get(refusal.reason, 0) + 1
    pairs = ", ".join(f"{a} / {b}" for a, b in described.mirror)
    said = [f"{len(found.jobs)} films with {len(described.landmarks)} landmarks can be used"]
    if by_reason:
        said.append(
            "noted: "
            + ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in sorted(by_reason.items()))
        )
    said.append(
        f"change places on a mirror: {pairs}"
        if pairs
        else "no mirror partners in the names: films are not mirrored"
    )
    if described.ignored:
        said.append(f"taken for slips, since few films have them: {', '.join(described.ignored)}")
    if not found.patients_known:
        said.append(
            "nobody says whose film each is, so every film counts as a patient of its own (--patients, or a "
            "column patient, would say it)"
        )
    return said
