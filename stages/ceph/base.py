"""Stage ceph-base: the network of round 0, and how far off its points probably are.

The network may first learn on smaller films (`coarse`): most of what there is to learn about nineteen places
shows there, at a fraction of the time. Weights of the last epoch are kept, so that the role val has no part in
them and the expected error can be calibrated on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.ceph.locating.settings import LocatorSettings, require_known_losses
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.model.card import InputSize
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.core.train.plan import Plan

if TYPE_CHECKING:
    from stages.ceph.locating.training import Trained

CALIBRATION_FOLDS = 5
"""To report the calibration, films are judged by a fit to the other folds'; the model gets a fit to all."""


class Coarse(BaseModel):
    """Training on smaller films that comes first.

    Attributes:
        input: size of the films.
        fit: as that of the main training; nothing of its own is calibrated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    input: InputSize
    fit: Plan


class Params(StageParams, LocatorSettings):
    section: ClassVar[str] = "ceph.base"
    seed: int
    threads: int
    device: str
    world_size: int = Field(ge=1)
    coarse: Coarse | None

    @model_validator(mode="after")
    def _coarse_losses_are_known(self) -> Params:
        if self.coarse is not None:
            require_known_losses(self.network, self.coarse.fit)
        return self


def run(params: Params, films: Path, split: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Train on the role train, calibrate on val, and write the model folder.

    Returns:
        n_train, n_val, n_parameters, epochs; of val, in model px: val_error_model_px, and, each film judged by
        a calibration without it, expected_error_model_px, calibration_error_model_px (see
        `expected.calibration_error`) and expected_error_agreement (Spearman).
    """
    import torch

    from stages.ceph.expected import calibration_error, cross_fitted, rank_agreement, reliability
    from stages.ceph.locating.inference import Locator
    from stages.ceph.locating.model import calibrate, save_trained
    from stages.ceph.locating.network import build_network
    from stages.ceph.schema import CEPH
    from stages.core.model.inputs import n_parameters
    from stages.core.train import distributed

    data = LabelledFilms.open(films, split)
    rows, val = data.trainable(), data.trainable("val")
    trained = distributed.launch(params.world_size, params.device, _train, params, films, split, observe)
    network = build_network(params.network, CEPH.n_points, params.input.size)
    network.load_state_dict(trained.state)
    settings = LocatorSettings.of(vars(params))
    locator = Locator(network.eval(), settings, torch.device("cpu"))
    images, labels = np.asarray(data.films.images[val]), data.landmarks_model[val]
    found, expected = calibrate(locator, images, labels)
    save_trained(
        output,
        trained.state,
        expected,
        dataset=data.films.info.name,
        key=observe.key,
        params=params.model_dump(mode="json"),
        stored_size=data.films.model_size,
        n_train=len(rows),
        split_sha256=split_digest(read_split(split)),
    )
    judged = cross_fitted(found.spread, found.peak, found.errors, CALIBRATION_FOLDS)
    return {
        "n_train": len(rows),
        "n_val": len(val),
        "n_parameters": n_parameters(network),
        "epochs": trained.epochs,
        "val_error_model_px": float(np.nanmean(found.errors)),
        "expected_error_model_px": float(np.nanmean(judged)),
        "calibration_error_model_px": calibration_error(reliability(judged, found.errors)),
        "expected_error_agreement": rank_agreement(judged, found.errors),
    }


def _train(params: Params, films: Path, split: Path, observe: Observer) -> Trained:
    """Fit the network; in every process of a team, which is why it opens the files itself."""
    from stages.ceph.locating.training import Trained, fit

    data = LabelledFilms.open(films, split)
    rows, val = data.trainable(), data.trainable("val")
    images, labels = data.films.images, data.landmarks_model
    whole = np.ones(labels.shape[:2])
    learned: dict[str, Any] = {
        "images": np.asarray(images[rows]),
        "points": labels[rows],
        "weight": whole[rows],
        "validation": (np.asarray(images[val]), labels[val], whole[val]),
        "observe": observe,
        "seed": params.seed,
        "threads": params.threads,
        "device_name": params.device,
        "sizes_raw": data.films.sizes_raw[rows],
    }
    settings = LocatorSettings.of(vars(params))
    start, before = None, 0
    if params.coarse is not None:
        small = settings.model_copy(update={"input": params.coarse.input, "fit": params.coarse.fit})
        first = fit(small, plan=small.fit, start=None, name="coarse", **learned)
        start, before = first.state, first.epochs
    main = fit(settings, plan=settings.fit, start=start, name="main", first_epoch=before, **learned)
    return Trained(main.state, before + main.epochs)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
