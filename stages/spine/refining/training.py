"""Fitting a Refiner: what spine-refiner, spine-folds and the studies share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stages.core.data import geometry
from stages.core.data.labels import LabelledFilms
from stages.core.data.schema import LandmarkSchema
from stages.core.evaluate.errors import film_errors, radial_errors
from stages.core.model.inputs import as_input, to_input
from stages.core.stage import Observer
from stages.core.train import runtime, trainer
from stages.core.train.augment import Photometry, draw_warps, warp_films, warp_points
from stages.spine.refining.clicking import click_worst
from stages.spine.refining.heads import build_head
from stages.spine.refining.hints import Hints
from stages.spine.refining.inference import Refiner
from stages.spine.refining.pairs import Pairs
from stages.spine.refining.sampling import add_worst, draw_hints, draw_passes, evaluating
from stages.spine.refining.settings import RefinerSettings


def train_refiner(
    data: LabelledFilms,
    rows: np.ndarray,
    val: np.ndarray,
    schema: LandmarkSchema,
    settings: RefinerSettings,
    seed: int,
    threads: int,
    device_name: str,
    pairs: Pairs | None,
    observe: Observer,
    name: str = "refiner",
) -> tuple[Refiner, trainer.Fitted]:
    """Fit a Refiner to the films `rows` and keep the epoch that is best on the films `val`.

    Args:
        data: films with labels of any vertebral schema.
        rows, val: row numbers of `data`; all with whole labels.
        pairs: for the losses `distance` and `angle`; None where they have no weight.
        name: tells apart several fits of one stage.
    Returns:
        The Refiner on the training device, in eval mode, and what `trainer.fit` says.
    """
    size = settings.input.size
    to_network = geometry.resize_matrix(data.films.model_size, size)
    points = geometry.apply(to_network, data.landmarks_model[rows])
    sizes_raw = data.films.sizes_raw[rows]
    inputs = to_input(data.films.images[rows], size)

    device = runtime.prepare(device_name, threads, seed)
    head = build_head(settings.network, schema.n_points, size, pairs)
    head.start(settings.network)
    head.network.to(device)
    refiner = Refiner((head,), settings.network, schema, size, device)
    photometry = Photometry(settings.augment.photometric)

    def told(batch: trainer.Batch, films: Tensor, truth: Tensor) -> tuple[Hints, Tensor]:
        """Hints of the start, then one a pass at the worst point, as a user would click; and what they mean."""
        points, truth = draw_hints(batch.rng, settings.hints, truth)
        hints = Hints(points)
        for _ in range(draw_passes(batch.rng, settings.hints)):
            with evaluating(head.network):
                maps = head.maps(films, hints)
            hints = Hints(add_worst(hints.points, head.codec.locate(maps), truth), maps)
        return hints, truth

    def loss(batch: trainer.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        warps = draw_warps(batch.rng, settings.augment, sizes_raw[batch.samples], size)
        images = photometry(warp_films(inputs[batch.samples], warps), batch.rng)
        if not settings.swap_on_mirror:
            warps.mirrored[:] = False
        truth = torch.from_numpy(warp_points(points[batch.samples], warps, schema)).float().to(device)
        films = as_input(torch.from_numpy(images).to(device))
        parts = head.losses(films, *told(batch, films, truth))
        weights = {name: weight for name, weight in batch.phase.weights.items() if weight}
        total = torch.stack([weight * parts[name] for name, weight in weights.items()]).sum()
        return total, {name: parts[name] for name in weights}

    def validate() -> dict[str, float]:
        return val_errors(refiner, data, val, settings.val_clicks)

    fitted = trainer.fit(
        head.network,
        head.groups(),
        len(rows),
        loss,
        validate,
        settings.fit,
        seed,
        device,
        observe,
        name=name,
    )
    return refiner, fitted


def val_errors(refiner: Refiner, data: LabelledFilms, rows: np.ndarray, clicks: int) -> dict[str, float]:
    """Mean error of the films `rows` without hints, and after so many clicks on the worst point each."""
    truth_raw = data.landmarks_raw[rows]
    truth = data.landmarks_model[rows]
    scale = data.films.sizes_raw[rows][:, None, :] / np.array(data.films.model_size)[::-1]
    images = data.films.images[rows]
    seen = refiner.run(images)
    errors = radial_errors(data.films.to_raw(seen.points, rows), truth_raw)
    metrics = {"val_error_raw_px": float(np.mean(film_errors(errors)))}
    if clicks:
        hints = np.full_like(truth, np.nan)
        for _ in range(clicks):
            hints = click_worst(hints, seen.points, truth, scale)
            seen = refiner.run(images, hints, seen.maps)
        errors = radial_errors(data.films.to_raw(seen.points, rows), truth_raw)
        metrics[f"val_error_raw_px@{clicks}"] = float(np.mean(film_errors(errors)))
    return metrics
