"""Stage spine-detector: a network that says which points of a spine are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, model_validator

from stages.core.data import geometry
from stages.core.data.labels import LabelledFilms
from stages.core.data.schema import LandmarkSchema
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.core.train.augment import Augmentation, Warps
from stages.core.train.plan import Plan
from stages.spine.checking.architecture import Architecture, Threshold
from stages.spine.checking.threshold import limits_raw
from stages.spine.error_set import ErrorSet
from stages.spine.learned import save_learned
from stages.spine.schema import SCHEMA

if TYPE_CHECKING:
    from torch import Tensor

    from stages.core.train.trainer import Batch, Fitted
    from stages.spine.checking.network import GlobalDetector, WindowDetector

LOSSES = ("wrong",)


class Params(StageParams):
    """See params.yaml for what each key means."""

    section: ClassVar[str] = "spine.detector"
    seed: int
    threads: int
    device: str
    network: Architecture
    threshold: Threshold
    samples_per_epoch: int = Field(ge=1)
    augment: Augmentation
    fit: Plan

    @model_validator(mode="after")
    def _every_loss_has_a_weight(self) -> Params:
        for phase in self.fit.phases:
            if phase.weights.keys() != set(LOSSES):
                raise ValueError(f"phase '{phase.name}': weights of {', '.join(LOSSES)} expected")
        return self


def run(
    params: Params, films: Path, audit: Path, split: Path, errors: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Train on the error set, choose the epoch on its patients held out, and write the model folder."""
    data = LabelledFilms.open(films, split, audit)
    examples = ErrorSet.open(errors, data)
    network, fitted = train_detector(data, SCHEMA, examples, params, observe)
    return save_learned(
        output, network, fitted, f"spine-detector-{params.network.form}", params.network.size or data.films.model_size,
        params.model_dump(mode="json"), data, examples, split, observe,
    )  # fmt: skip


def train_detector(
    data: LabelledFilms, schema: LandmarkSchema, examples: ErrorSet, params: Params, observe: Observer
) -> tuple[WindowDetector | GlobalDetector, Fitted]:
    """Fit a Detector to an error set; any vertebral schema.

    Validation looks at out-of-fold examples without clicks, of patients that training does not see.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    from stages.core.train import runtime, trainer
    from stages.core.train.augment import Photometry, draw_warps, warp_films, warp_points
    from stages.spine.checking.inference import as_films, as_points, detector_logits, read_films
    from stages.spine.checking.network import build_network

    train, held = examples.hold_out(params.seed)
    held = held.unassisted()
    limits = limits_raw(params.threshold, data.landmarks_raw, data.films.sizes_raw[:, 1])
    wrong, held_wrong = (part.errors_raw > limits[part.rows] for part in (train, held))
    # One picture a film, however many examples it has; `place` finds a film's picture.
    own = np.unique(train.rows)
    place = np.searchsorted(own, train.rows)
    images, _ = read_films(data.films.images[own], data.landmarks_model[own], params.network.size)
    size = images.shape[1:]
    points = geometry.apply(geometry.resize_matrix(data.films.model_size, size), train.landmarks_model)
    held_images, held_points = read_films(
        data.films.images[held.rows], held.landmarks_model, params.network.size
    )

    device = runtime.prepare(params.device, params.threads, params.seed)
    network = build_network(params.network, schema).to(device)
    photometry = Photometry(params.augment.photometric)

    def loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = train.draw(batch.rng, len(batch.samples))
        warps = draw_warps(batch.rng, params.augment, data.films.sizes_raw[train.rows[drawn]], size)
        films = photometry(warp_films(images[place[drawn]], warps), batch.rng)
        places = warp_points(points[drawn], warps, schema)
        target = warp_flags(wrong[drawn], warps, schema)
        logits, index = network.asked(as_films(films, device), as_points(places, device), batch.rng)
        answer = torch.from_numpy(target).to(device).gather(1, index).float()
        part = binary_cross_entropy_with_logits(logits.float(), answer)
        return batch.phase.weights["wrong"] * part, {"wrong": part}

    def validate() -> dict[str, float]:
        return judged(detector_logits(network, held_images, held_points, device), held_wrong)

    fitted = trainer.fit(
        network, {"network": network}, params.samples_per_epoch, loss, validate, params.fit, params.seed,
        device, observe, name="detector",
    )  # fmt: skip
    return network, fitted


def warp_flags(flags: np.ndarray, warps: Warps, schema: LandmarkSchema) -> np.ndarray:
    """What is said of the points (N, K) of films, of their points after `warp_points`: a mirror swaps names."""
    return np.where(warps.mirrored[:, None], flags[:, schema.swap], flags)


def judged(logits: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Validation metrics of logits (N, K) against (N, K) bool.

    Average precision is the area under precision over recall; guessing reaches the prevalence. NaN where no
    point is wrong.
    """
    from sklearn.metrics import average_precision_score

    # log(1 + e^x) - wrong * x, in a form that does not overflow
    entropy = np.maximum(logits, 0) - logits * wrong + np.log1p(np.exp(-np.abs(logits)))
    precision = average_precision_score(wrong.ravel(), logits.ravel()) if wrong.any() else float("nan")
    return {
        "val_loss": float(entropy.mean()),
        "val_average_precision": float(precision),
        "val_prevalence": float(wrong.mean()),
    }


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
