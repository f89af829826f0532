"""The floor aligned_ridge: a second kernel ridge regression, on films aligned by the points of the first.

hog_kernel_ridge guesses the points; the guess turns, scales and moves the film to a canonical crop (see
alignment.py), and HOG of the crop says where in it the points lie. The second regression has to learn from
guesses that are as wrong as those it will meet, so training films are guessed by regressions fitted on the
other folds, and seen several times more with errors of other films' guesses.

Every training row has its mirror image beside it. Such a regression answers a mirrored film with the mirrored
points, so that an average over both views of a film would be the plain answer again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.chest.alignment import Canonical, apply_each, crops, invert_each, upright
from stages.chest.schema import CHEST
from stages.core.data import geometry
from stages.core.data.split import patient_folds
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_errors, radial_errors
from stages.core.floors.fitting import FloorParams
from stages.core.floors.hog import hog
from stages.core.floors.ridge import kernel, typical_distance
from stages.core.floors.stage import Fitted

METHOD = "aligned_ridge"
FIRST = "hog_kernel_ridge"


class Aligned(BaseModel):
    """Parameters of the aligned floor.

    Attributes:
        size: side of the crops, px; HOG's cells have to divide it.
        margin: share of the side that the mean shape leaves free on each side.
        folds: of the training films, for guesses of films that were not fitted on.
        copies: further guesses of each training film.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    size: int = Field(ge=16)
    margin: float = Field(ge=0, lt=0.5)
    folds: int = Field(ge=2)
    copies: int = Field(ge=0)


class AlignedFloorParams(FloorParams):
    """Parameters of a lane's floors with the aligned one among them.

    Attributes:
        seed: draws the folds and whose errors a copy gets.
    """

    seed: int
    aligned: Aligned

    @model_validator(mode="after")
    def _cells_divide_the_crop(self) -> AlignedFloorParams:
        if uneven := [
            cell for cell in self.cells if self.aligned.size % cell or self.aligned.size < 2 * cell
        ]:
            raise ValueError(f"aligned.size {self.aligned.size} is no multiple of the cells {uneven}")
        return self


def aligned_floor(
    fitted: Fitted, params: AlignedFloorParams
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Fit the floor on the trainable films, choose its width and penalty on val, and predict `fitted.rows`.

    Returns:
        METHOD -> (n, 15, 2) in model px, and the choice with its val error in raw px.
    """
    labelled, settings, rows = fitted.labelled, params.aligned, fitted.rows
    train, n_views = labelled.trainable(), settings.copies + 1
    labels = labelled.landmarks_model[train]
    canonical = symmetric_canonical(labels, settings)
    guesses = out_of_fold_guesses(fitted, settings.folds, params.seed)
    guesses = erring_guesses(guesses, labels, canonical, settings.copies, params.seed)
    maps = canonical.maps(guesses)
    pictures = crops(labelled.films.images, np.tile(train, n_views), maps, canonical.side)
    seen = hog(pictures, params.cells, params.orientations)
    mirrored = hog(pictures[:, :, ::-1], params.cells, params.orientations)
    targets = apply_each(maps, np.tile(labels, (n_views, 1, 1)))
    mirrored_targets = geometry.apply(geometry.mirror_matrix(canonical.side), targets)[:, CHEST.swap]

    first = fitted.floors.predict_features(fitted.features[rows])[FIRST]
    asked_maps = canonical.maps(first)
    asked_pictures = crops(labelled.films.images, rows, asked_maps, canonical.side)
    asked = hog(asked_pictures, params.cells, params.orientations)
    back = invert_each(asked_maps)

    in_val = np.isin(rows, labelled.trainable("val"))
    best: tuple[float, float, float] | None = None
    for width, penalty, in_crop in _candidates(seen, mirrored, targets, mirrored_targets, asked, params):
        points = apply_each(back, in_crop)
        raw = labelled.films.to_raw(points[in_val], rows[in_val])
        error = float(film_errors(radial_errors(raw, labelled.landmarks_raw[rows[in_val]])).mean())
        if best is None or (error, width, penalty) < best:
            best, chosen = (error, width, penalty), points
    assert best is not None
    names = (f"{METHOD}_val_raw_px", f"{METHOD}_width", f"{METHOD}_penalty")
    return {METHOD: chosen}, dict(zip(names, best, strict=True))


def symmetric_canonical(labels: np.ndarray, settings: Aligned) -> Canonical:
    """The mean of labels (n, 15, 2) and their mirror images, upright in a crop: the crop's own mirror image."""
    shapes = upright(labels)
    return Canonical.of(
        np.concatenate([shapes, (shapes * [-1, 1])[:, CHEST.swap]]), settings.size, settings.margin
    )


def out_of_fold_guesses(fitted: Fitted, folds: int, seed: int) -> np.ndarray:
    """The first floor's points (n, 15, 2) in model px of each training film, fitted on the other folds.

    Raises:
        StageError: with fewer patients than folds.
    """
    labelled, ridge = fitted.labelled, fitted.floors.landmark_ridge
    train, width, penalty = labelled.trainable(), ridge.width, fitted.floors.choices[f"{FIRST}_penalty"]
    assert width is not None
    fold_of = patient_folds(labelled.patients[train], folds, seed)
    if absent := sorted(set(range(folds)) - set(fold_of.tolist())):
        raise StageError(
            f"chest.floors.aligned.folds is {folds}, but the {len(train)} train films leave folds {absent} "
            "empty: lower it"
        )
    labels = labelled.landmarks_model[train]
    flipped = geometry.apply(geometry.mirror_matrix(labelled.films.model_size[1]), labels)[:, CHEST.swap]
    seen = fitted.features[train]
    guesses = np.empty_like(labels)
    for fold in range(folds):
        others, own = fold_of != fold, fold_of == fold
        plain, mirrored = seen[others], fitted.mirrored[others]
        offset, (weights, mirrored_weights) = next(
            _mirrored_ridges(
                kernel(plain, plain, width),
                kernel(plain, mirrored, width),
                labels[others],
                flipped[others],
                (penalty,),
            )
        )
        answer = (
            kernel(seen[own], plain, width) @ weights + kernel(seen[own], mirrored, width) @ mirrored_weights
        )
        guesses[own] = (answer + offset).reshape(-1, *labels.shape[1:])
    return guesses


def erring_guesses(
    guesses: np.ndarray, labels: np.ndarray, canonical: Canonical, copies: int, seed: int
) -> np.ndarray:
    """The guesses (n, 15, 2), and `copies` times labels with the errors of other films: ((copies + 1) n, 15, 2).

    An error is the guess less the label in the crop that the label itself would give, so that it means the
    same on films of any size of lungs. Every other copy takes the errors' mirror images.
    """
    rng = np.random.default_rng([seed, len(labels)])
    maps = canonical.maps(labels)
    true = apply_each(maps, labels)
    errors = apply_each(maps, guesses) - true
    back, views = invert_each(maps), [guesses]
    for copy in range(copies):
        drawn = errors[rng.permutation(len(errors))]
        views.append(apply_each(back, true + ((drawn * [-1, 1])[:, CHEST.swap] if copy % 2 else drawn)))
    return np.concatenate(views)


def _candidates(
    seen: np.ndarray,
    mirrored: np.ndarray,
    targets: np.ndarray,
    mirrored_targets: np.ndarray,
    asked: np.ndarray,
    params: FloorParams,
) -> Iterator[tuple[float, float, np.ndarray]]:
    """(width, penalty, points (N, 15, 2) of the crops `asked`) for each width and penalty."""
    unit = typical_distance(seen)
    # Kernels of all widths are powers of one, which spares the products of thousands of descriptors.
    pairs = ((seen, seen), (seen, mirrored), (asked, seen), (asked, mirrored))
    kernels = [kernel(a, b, unit) for a, b in pairs]
    for width in params.widths:
        same, across, asked_seen, asked_mirrored = (values ** (width**-2) for values in kernels)
        ridges = _mirrored_ridges(same, across, targets, mirrored_targets, params.penalties)
        for penalty, (offset, (weights, mirrored_weights)) in zip(params.penalties, ridges, strict=True):
            answer = asked_seen @ weights + asked_mirrored @ mirrored_weights + offset
            yield width, penalty, answer.reshape(-1, *targets.shape[1:])


def _mirrored_ridges(
    same: np.ndarray,
    across: np.ndarray,
    targets: np.ndarray,
    mirrored_targets: np.ndarray,
    penalties: tuple[float, ...],
) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Ridge regression on rows and their mirror images, with a Gaussian kernel: `ridge.fit_ridges`, but cheaper.

    The kernel of all rows is [[same, across], [across, same]], so the sums and the differences of a row's and
    its mirror image's weights solve one system each, of half the size: a quarter of the work.

    Args:
        same: (n, n) kernel among the rows, which is that among the mirror images.
        across: (n, n) kernel between rows and mirror images.
        targets, mirrored_targets: (n, K, 2).
    Returns:
        For each penalty the mean target (2 K,), and the dual weights (n, 2 K) of rows and of mirror images.
    """
    from scipy.linalg import cho_factor, cho_solve

    n = len(targets)
    plain, flipped = targets.reshape(n, -1), mirrored_targets.reshape(n, -1)
    offset = (plain.mean(0) + flipped.mean(0)) / 2
    for penalty in penalties:
        halves = []
        for system, goal in ((same + across, plain + flipped - 2 * offset), (same - across, plain - flipped)):
            system.flat[:: n + 1] += penalty
            halves.append(cho_solve(cho_factor(system, overwrite_a=True, check_finite=False), goal) / 2)
        yield offset, (halves[0] + halves[1], halves[0] - halves[1])
