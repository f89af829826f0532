"""Where poses come from: the kinds of motion capture that may lie in a raw folder, each behind the same few calls.

    keypoints3d/, cameras/, ...    AIST++'s annotations (phantoms have the same layout)
    **/<subject>.asf, <subject>_<trial>.amc   motion capture in Acclaim's format, as CMU's

AIST++ dancers are filmed by nine real cameras. Other captures are seen by virtual ones like these, drawn for
each subject, that keep beside the person on level ground. Next to AIST++ they are further people to learn from
and nothing else: their split is `extra`, and `simulation.roles` never judges by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from stages.core.errors import StageError
from stages.pose.body.frames import Camera
from stages.pose.body.skeleton import HIPS, mid
from stages.pose.body.studio import camera_of, studio_rig
from stages.pose.capture.acclaim import read_motion, read_skeleton, seventeen_joints
from stages.pose.capture.annotations import (
    Annotations,
    SequenceError,
    SequenceName,
    read_annotations,
    read_poses,
    read_rig,
)
from stages.pose.capture.detections import NONE, USED, read_detections

FPS = 60
"""AIST++ poses are exactly 60 a second; what comes at a higher rate is thinned to it."""

Kind = Literal["aistpp", "acclaim"]
KINDS: tuple[Kind, ...] = ("aistpp", "acclaim")

_FIRST_SUBJECT = 1000
"""Subjects of other captures count from here, so that none is taken for a dancer of AIST++."""


@dataclass(frozen=True)
class Recording:
    """What is known of a sequence without its poses; dancer -1 and no genre where nothing tells them."""

    name: str
    source: Kind
    dancer: int
    genre: str
    split: str
    setting: str


@dataclass(frozen=True)
class Take:
    """A sequence: poses and raw poses (N, 17, 3) in metres, world frame, and who saw it.

    Attributes:
        detections: camera -> (N, 17, 3) u, v, confidence; empty where there are none.
        detected: what became of the 2D detections: none, used, or why they were refused.
    """

    poses: np.ndarray
    raw: np.ndarray
    rig: tuple[Camera, ...]
    detections: dict[str, np.ndarray]
    detected: str


class Source(Protocol):
    """Sequences of one kind. Everything that is wrong with one of them raises SequenceError."""

    @property
    def names(self) -> list[str]: ...

    @property
    def files(self) -> list[Path]:
        """Everything that is read."""

    def describe(self, name: str) -> Recording: ...

    def read(self, name: str) -> Take: ...

    def rig(self, setting: str) -> tuple[Camera, ...]: ...


@dataclass(frozen=True)
class AistSource:
    """A folder of AIST++ annotations; `splits` are those that count."""

    annotations: Annotations
    splits: dict[str, str]

    @property
    def names(self) -> list[str]:
        return sorted(self.annotations.files)

    @property
    def files(self) -> list[Path]:
        folder = self.annotations.folder
        lists = [
            *(folder / "splits").glob("*.txt"),
            folder / "ignore_list.txt",
            folder / "cameras/mapping.txt",
        ]
        poses = [*self.annotations.files.values(), *(folder / "keypoints2d").glob("*.pkl")]
        return [*poses, *(folder / "cameras").glob("*.json"), *filter(Path.is_file, lists)]

    def describe(self, name: str) -> Recording:
        if name in self.annotations.ignored:
            raise SequenceError("ignored", "listed in ignore_list.txt")
        if self.splits and name not in self.splits:
            raise SequenceError("no_split", "in none of splits/pose_{train,val,test}.txt")
        if name not in self.annotations.settings:
            raise SequenceError("unmapped", "no row in cameras/mapping.txt")
        said = SequenceName.parse(name)
        split = self.splits.get(name, "none")
        return Recording(name, "aistpp", said.dancer, said.genre, split, self.annotations.settings[name])

    def read(self, name: str) -> Take:
        rig = self.rig(self.describe(name).setting)
        poses, raw = read_poses(self.annotations.files[name])
        path = self.annotations.folder / "keypoints2d" / f"{name}.pkl"
        if not path.is_file():
            return Take(poses, raw, rig, {}, NONE)
        try:
            return Take(poses, raw, rig, read_detections(path, len(poses)), USED)
        except SequenceError as problem:  # the poses are as good as before
            return Take(poses, raw, rig, {}, problem.reason)

    def rig(self, setting: str) -> tuple[Camera, ...]:
        return read_rig(self.annotations.folder, setting)


@dataclass(frozen=True)
class AcclaimSource:
    """Trials in Acclaim's format.

    Attributes:
        trials: name -> its .amc file; the skeleton is <subject>.asf in the same folder.
        rate: frames a second, a multiple of 60; the files do not say it.
        split: of all trials.
    """

    trials: dict[str, Path]
    rate: int
    split: str

    @property
    def names(self) -> list[str]:
        return sorted(self.trials)

    @property
    def files(self) -> list[Path]:
        skeletons = {path for trial in self.trials.values() for path in trial.parent.glob("*.asf")}
        return [*self.trials.values(), *sorted(skeletons)]

    def describe(self, name: str) -> Recording:
        subject = name.split("_")[0]
        if not subject.isdigit() or int(subject) >= 30000:
            raise SequenceError(
                "unnamed_subject", f"{name}: call trials <subject number>_<trial>.amc, as CMU"
            )
        dancer = _FIRST_SUBJECT + int(subject)
        return Recording(name, "acclaim", dancer, "", self.split, f"virtual{dancer}")

    def read(self, name: str) -> Take:
        path, rig = self.trials[name], self.rig(self.describe(name).setting)
        skeleton_path = path.with_name(f"{name.split('_')[0]}.asf")
        if not skeleton_path.is_file():
            raise SequenceError("no_skeleton", f"{skeleton_path.name} does not lie beside {path.name}")
        skeleton = read_skeleton(skeleton_path)
        poses = seventeen_joints(skeleton, read_motion(path, skeleton))[:: self.rate // FPS]
        if len(poses) < 2:
            raise SequenceError("too_short", f"{path.name}: {len(poses)} frames at {FPS} a second")
        poses = poses - _floor_path(poses)
        return Take(poses, poses, rig, {}, NONE)

    def rig(self, setting: str) -> tuple[Camera, ...]:
        number = int(setting.removeprefix("virtual"))
        return tuple(camera_of(entry) for entry in studio_rig(np.random.default_rng([number, 9])))


def _floor_path(poses: np.ndarray) -> np.ndarray:
    """(N, 1, 3) the hips' path on level ground, smoothed over a second: a walker would leave the picture."""
    from scipy.ndimage import gaussian_filter1d

    path = mid(poses, HIPS) * np.array([1.0, 0.0, 1.0])
    return gaussian_filter1d(path, FPS / 2, axis=0, mode="nearest")[:, None]


@dataclass(frozen=True)
class Sources:
    """All sequences of a raw folder, of several kinds. `official` says whether AIST++'s split files count."""

    folder: Path
    by_kind: dict[Kind, Source]
    official: bool

    @property
    def names(self) -> list[str]:
        """By kind and name, so that a further kind renumbers no sequence."""
        return [name for source in self.by_kind.values() for name in source.names]

    def of(self, name: str) -> Source:
        """The source of a sequence."""
        return next(source for source in self.by_kind.values() if name in source.names)


def find_sources(raw: Path, kinds: Iterable[Kind], acclaim_rate: int, use_splits: bool) -> Sources:
    """What lies in a raw folder of the kinds that are wanted; a kind that is not there is passed over.

    Raises:
        StageError: none is there, two sequences have one name, or what `read_annotations` raises.
    """
    by_kind: dict[Kind, Source] = {}
    if "aistpp" in kinds and any((raw / "keypoints3d").glob("*.pkl")):
        annotations = read_annotations(raw)
        by_kind["aistpp"] = AistSource(annotations, annotations.splits if use_splits else {})
    paths = sorted(raw.rglob("*.amc")) if "acclaim" in kinds else []
    taken = Counter([*(path.stem for path in paths), *(n for s in by_kind.values() for n in s.names)])
    if doubled := sorted(name for name, count in taken.items() if count > 1):
        raise StageError(f"{raw}: more than one sequence is called {', '.join(doubled[:10])}")
    if paths:
        trials = {path.stem: path for path in paths}
        by_kind["acclaim"] = AcclaimSource(trials, acclaim_rate, "extra" if by_kind else "none")
    if not by_kind:
        raise StageError(
            f"{raw}: found neither keypoints3d/*.pkl (with cameras/mapping.txt and cameras/setting*.json: the "
            f"AIST++ annotation layout) nor **/*.amc (Acclaim); pose.convert.settings.sources: {', '.join(kinds)}"
        )
    official = "aistpp" in by_kind and bool(getattr(by_kind["aistpp"], "splits", {}))
    return Sources(raw, by_kind, official)
