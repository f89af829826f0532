"""Fitting a ceph network: what ceph-base and ceph-tuned share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.ceph.locating import warping
from stages.ceph.locating.inference import Locator
from stages.ceph.locating.network import build_network, start_weights
from stages.ceph.locating.settings import LocatorSettings, require_known_losses
from stages.ceph.schema import CEPH
from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_errors, radial_errors
from stages.core.model.inputs import as_input, to_input
from stages.core.stage import Observer
from stages.core.train import runtime, trainer
from stages.core.train.augment import Photometry, warp_films, warp_points
from stages.core.train.plan import Plan

WATCHED = 12
"""Films of the validation set that each epoch is judged on where no epoch is chosen by them."""
Labels = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Films (N, H, W) uint8, points (N, K, 2) in their px with NaN where there is none, weights (N, K) >= 0."""


@dataclass(frozen=True)
class Trained:
    """Weights on the CPU by name, and how many epochs they took."""

    state: dict[str, Tensor]
    epochs: int


def fit(
    settings: LocatorSettings,
    images: np.ndarray,
    points: np.ndarray,
    weight: np.ndarray,
    validation: Labels | None,
    plan: Plan,
    start: Mapping[str, Tensor] | None,
    observe: Observer,
    *,
    seed: int,
    threads: int,
    device_name: str,
    sizes_raw: np.ndarray | None = None,
    first_epoch: int = 0,
    name: str = "ceph",
) -> Trained:
    """Fit a network to labelled films.

    Args:
        settings: of the network; its own `fit` is not looked at.
        images: (N, H, W) uint8 films in the `model` frame.
        points: (N, K, 2) labels in model px; NaN where there is none.
        weight: (N, K) >= 0: how much a landmark of a film counts; 0 leaves it out.
        validation: films that each epoch is judged on, in the same form; `plan.monitor` may be
            `val_error_model_px`, the mean radial error over their landmarks of positive weight.
        plan: optimiser and phases.
        start: weights to go on from; None for those that `settings.network.weights` names.
        sizes_raw: (N, 2) width and height of the films as they came, so that a rotation turns the patient and
            not the stretched picture; None where the model frame has their proportions.
        first_epoch: epochs that came before, for the history.
        name: tells apart several fits of one stage.
    Raises:
        StageError: labels or weights do not fit, no landmark counts, or the plan does not fit the network.
    """
    _check(images, points, weight)
    try:
        require_known_losses(settings.network, plan)
    except ValueError as error:
        raise StageError(f"fit: {error}") from None
    size = settings.input.size
    inputs = to_input(images, size)
    labels = geometry.apply(geometry.resize_matrix(images.shape[1:], size), points)
    if sizes_raw is None:
        sizes_raw = np.broadcast_to(np.array(images.shape[:0:-1]), (len(images), 2))
    counts = np.where(np.isfinite(points).all(-1), weight, 0.0)

    device = runtime.prepare(device_name, threads, seed)
    network = build_network(settings.network, CEPH.n_points, size)
    if start is None:
        start_weights(network, settings.network)
    else:
        network.load_state_dict(dict(start))
    network.to(device)
    locator = Locator(network, settings, device)
    photometry = Photometry(settings.augment.photometric)

    def loss(batch: trainer.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        rows = batch.samples
        warps = warping.draw(batch.rng, settings.augment, sizes_raw[rows], size)
        films = photometry(warp_films(inputs[rows], warps), batch.rng)
        truth = torch.from_numpy(warp_points(labels[rows], warps, CEPH)).float().to(device)
        output = network(as_input(torch.from_numpy(films).to(device))).float()
        parts = locator.reader.losses(output, truth, torch.from_numpy(counts[rows]).float().to(device))
        weights = {part: share for part, share in batch.phase.weights.items() if share}
        total = torch.stack([share * parts[part] for part, share in weights.items()]).sum()
        return total, {part: parts[part] for part in weights}

    watched = None if plan.monitor else WATCHED

    def validate() -> dict[str, float]:
        if validation is None:
            return {}
        films, truth, counted = (part[:watched] for part in validation)
        found = locator.locate_once(films).points
        errors = radial_errors(found, np.where(counted[..., None] > 0, truth, np.nan))
        return {"val_error_model_px": float(np.nanmean(film_errors(errors)))}

    told = _Later(observe, first_epoch)
    fitted = trainer.fit(
        network, network.groups(), len(images), loss, validate, plan, seed, device, told, name=name
    )
    state = {key: value.detach().cpu() for key, value in network.state_dict().items()}
    return Trained(state, fitted.epochs)


class _Later(Observer):
    """Tells another observer of epochs that are counted on from those of an earlier fit."""

    def __init__(self, observe: Observer, first_epoch: int) -> None:
        super().__init__(observe._scratch, observe.key, echo=False)
        self._told, self._first_epoch = observe, first_epoch

    def __call__(self, step: int, **metrics: float) -> None:
        self._told(self._first_epoch + step, **metrics)

    def progress(self, done: int, total: int, unit: str) -> None:
        self._told.progress(done, total, unit)


def _check(images: np.ndarray, points: np.ndarray, weight: np.ndarray) -> None:
    wanted = (len(images), CEPH.n_points)
    if points.shape != (*wanted, 2) or weight.shape != wanted:
        raise ValueError(
            f"expected points {(*wanted, 2)} and weights {wanted}, got {points.shape}, {weight.shape}"
        )
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError("weights must be finite and >= 0")
    if not (np.isfinite(points).all(-1) & (weight > 0)).any():
        raise StageError(
            f"none of {len(images)} films has a landmark that counts: look at the labels and the split"
        )
