"""Stage NAME-train: the network of a described lane, and the radius of each of its points.

Weights of the last epoch are kept, so that val has no part in them and the radii can be calibrated on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.params import StageParams
from stages.core.stage import Observer
from stages.custom.command import lane_main
from stages.custom.description import read_description
from stages.custom.locating.settings import LocatorSettings
from stages.custom.radius import RadiusModel
from stages.custom.shape import mean_shape


class Params(StageParams, LocatorSettings):
    section: ClassVar[str] = "lane.train"
    seed: int
    threads: int
    device: str
    coverage: float = Field(gt=0, lt=1)  # probability that a point's disc holds the label


def run(
    params: Params, lane: Path, films: Path, split: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Train on the role train, calibrate radii on val, and write the model folder.

    Returns:
        n_train, n_val, n_parameters, epochs and, of val, val_error_raw_px and mean_radius_raw_px.
    """
    import torch

    from stages.core.evaluate.errors import film_errors, radial_errors
    from stages.core.model.inputs import n_parameters
    from stages.custom.locating.inference import Locator
    from stages.custom.locating.model import TrainedLane, save_trained
    from stages.custom.locating.training import Films, fit

    described = read_description(lane)
    data = LabelledFilms.open(films, split)
    labels = data.landmarks_model

    def of(role: str) -> Films:
        rows = data.rows(role)
        return Films(np.asarray(data.films.images[rows]), labels[rows], data.films.sizes_raw[rows])

    train, val = of("train"), of("val")
    settings = LocatorSettings.of(vars(params))
    network, epochs = fit(
        settings, described.schema, train, val, observe, params.seed, params.threads, params.device
    )
    locator = Locator(network, settings, settings.input.size, torch.device("cpu"))
    found = locator.locate(val.images, val.sizes_raw)
    # In px of the store, where films of all sizes are alike; a film's radii are enlarged with it.
    radius = RadiusModel.fit(found.spread, radial_errors(found.points, val.points), params.coverage)
    rows = data.rows("train")
    save_trained(
        output,
        network.state_dict(),
        radius,
        mean_shape(data.landmarks_raw[rows].astype(np.float64)),
        described,
        key=observe.key,
        params=params.model_dump(mode="json"),
        stored_size=data.films.model_size,
        n_train=len(rows),
        split_sha256=split_digest(read_split(split)),
    )
    answer = TrainedLane.open(output).predict(val.images, val.sizes_raw)
    errors = radial_errors(answer.points, data.landmarks_raw[data.rows("val")])
    return {
        "n_train": len(rows),
        "n_val": len(val.images),
        "n_parameters": n_parameters(network),
        "epochs": epochs,
        "val_error_raw_px": float(np.nanmean(film_errors(errors))),
        "mean_radius_raw_px": float(answer.radius.mean()),
    }


def main() -> None:
    lane_main(run)


if __name__ == "__main__":
    main()
