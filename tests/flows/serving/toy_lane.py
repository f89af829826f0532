"""A lane without networks: a model's weights are a few plain values, so that a test can plan what it answers."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from flows.lanes import Lane
from flows.registry.log import append, event, locked, registered_as
from flows.registry.shelf import SHELF, shelve
from flows.serving.settings import ServingParams
from stages.core.data.decode import PHANTOM_MARK, Film
from stages.core.errors import StageError
from stages.core.model.card import folder_digest, load_card
from stages.core.promotion.candidate import Candidate, FloorComparison
from tests.mlflow_checkout import card

PARAMS = ServingParams.model_validate(
    {
        "port": 0,
        "workers": 3,
        "queue": 40,
        "native_threads": 1,
        "body_mb": 1.0,
        "body_s": 5.0,
        "poll_s": 0.02,
        "stale_s": 0.5,
        "retry_s": 0.0,
        "shadow_queue": 100,
        "log_mb": 1.0,
        "golden": {"tolerance_px": 1.0, "share": 0.9},
        "canary": {
            "percent": 0,
            "window": 50,
            "minimum_films": 10,
            "error_margin": 0.1,
            "outlier_margin": 0.1,
            "latency_factor": 3.0,
        },
    }
)


@dataclass
class Trained:
    """What `open_model` of the toy lane gives."""

    card: Any
    said: dict[str, Any]


class Behaviour:
    """What a test may change about all toy models at once."""

    def __init__(self) -> None:
        self.shift = 0.0
        self.broken: set[float] = set()
        self.slow_s = 0.0
        self.opened: list[float] = []
        self.gate = threading.Event()
        self.gate.set()


class ToyLane(Lane):
    """Stands in for `stages.toy.predict`."""

    behaviour = Behaviour()

    def module(self, stage: str) -> ModuleType:
        return cast(
            ModuleType,
            SimpleNamespace(open_model=_open, predict_film=_predict_film, calibration=lambda t: {"scale": 1}),
        )


def _open(folder: Path) -> Trained:
    said = json.loads((folder / "weights.pt").read_text())
    ToyLane.behaviour.opened.append(said["place"])
    return Trained(load_card(folder), said)


def _predict_film(trained: Trained, film: Film, hints: tuple[str, ...] = ()) -> dict[str, Any]:
    """Both points in the column `place` of the weights: who reads the answer knows which weights gave it."""
    behaviour = ToyLane.behaviour
    height, width = film.pixels.shape
    golden = film.phantom and (height, width) == (512, 256)
    if not golden:
        behaviour.gate.wait(10)
        time.sleep(behaviour.slow_s)
        if trained.said["place"] in behaviour.broken:
            raise RuntimeError("broken on purpose")
    if wrong := [hint for hint in hints if "=" not in hint]:
        raise StageError(f"hints that are none: {', '.join(wrong)}")
    x = trained.said["place"] + behaviour.shift
    marks = [{"name": name, "x": x, "y": y} for name, y in (("tip", 10.0), ("base", 20.0))]
    return {
        "phantom": film.phantom,
        "width": width,
        "height": height,
        "landmarks": marks,
        "hints": list(hints),
        "model": {"lane": "toy"},
    }


def key_of(place: float) -> str:
    return f"{place:g}".replace(".", "d").rjust(64, "e")


def release(root: Path, place: float, *, promote: bool = True, dataset: str = "phantom") -> str:
    """Register a model that puts its points in this column, and promote or refuse it; returns its key."""
    key = key_of(place)
    folder = root / "models" / "toy" / "mean"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "card.json").write_bytes(card(dataset=dataset, key=key))
    (folder / "weights.pt").write_text(json.dumps({"place": place}))
    name = f"toy-{dataset}"
    digest = folder_digest(folder)
    shelve(root, candidate(key, digest, dataset), folder)
    with locked(root):
        present = registered_as(root, name)
        version = present.version_of(key) or len(present.versions) + 1
        told: dict[str, Any] = {"name": name, "key": key, "version": version, "model_sha256": digest}
        if present.version_of(key) is None:
            append(root, event("registered", **told))
        append(
            root, event("promoted" if promote else "refused", source=present.champion, target=version, **told)
        )
    return key


def roll_back(root: Path, to: int, name: str = "toy-phantom") -> None:
    with locked(root):
        present = registered_as(root, name)
        entry = present.versions[to]
        said = {"version": to, "model_sha256": entry.model_sha256, "source": present.champion, "target": to}
        append(root, event("rolled back", name=name, key=entry.key, **said))


def candidate(key: str, digest: str, dataset: str) -> Candidate:
    floor = FloorComparison(
        floor="mean_shape",
        mean_difference=-5.0,
        low=-6.0,
        high=-4.0,
        p_wilcoxon=0.01,
        n_films=2,
        n_groups=2,
        verdict="better",
    )
    return Candidate(
        lane="toy",
        dataset=dataset,
        registry_name=f"toy-{dataset}",
        model_sha256=digest,
        key=key,
        gate_sha256="1" * 64,
        n_gate=2,
        unit="raw_px",
        errors={"a": 1.0, "b": 2.0},
        groups={"a": "a", "b": "b"},
        metrics={},
        floors={"mean_shape": 9.0},
        against_floor=floor,
    )


def shelf_of(root: Path, key: str, name: str = "toy-phantom") -> Path:
    return root / SHELF / name / key


def film(seed: int = 0, phantom: bool = True, size: tuple[int, int] = (80, 70)) -> bytes:
    """A PNG of (height, width) `size`, marked as generated or not."""
    pixels = np.random.default_rng(seed).integers(0, 255, size, np.uint8)
    note = PngInfo()
    if phantom:
        note.add_text("Comment", PHANTOM_MARK)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=note)
    return buffer.getvalue()
