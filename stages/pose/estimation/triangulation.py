"""Points in space from several calibrated cameras' pixels, and by how many frames a camera lags behind.

V cameras, T frames, K points. Cameras' frame is OpenCV's, see `body.frames`; lengths in metres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.pose.body.frames import Camera, project, unproject, world_to_camera

_SETTLED = 0.9
"""A camera's lag has to bring the error of its pairs below this share of that without one."""


def triangulate(
    uv: np.ndarray, weights: np.ndarray, cameras: Sequence[Camera], outlier_px: float, rounds: int = 10
) -> np.ndarray:
    """World points (..., 3) from pixels (V, ..., 2), by a weighted direct linear transform.

    Each view gives two equations x (r3 X + t3) = r1 X + t1 and y (r3 X + t3) = r2 X + t2 on its undistorted
    ray (x, y); Hartley and Zisserman, Multiple View Geometry, 12.2. They are solved again with each view
    divided by its depth, so that pixels count and not lengths, and damped by 1 / (1 + (error / outlier)^2).

    Args:
        uv: a pixel that is not finite is not used.
        weights: (V, ...) of the views, 0 or more; 0 leaves one out.
        outlier_px: reprojection error at which a view's equations count a quarter.
    Returns:
        NaN where fewer than two views are left.
    """
    weights = np.where(np.isfinite(uv).all(-1), weights, 0)
    rows = np.stack([_equations(pixels, camera) for pixels, camera in zip(uv, cameras, strict=True)])
    points = _solve(rows, weights)
    for _ in range(rounds):
        seen = [world_to_camera(points, camera) for camera in cameras]
        depth = np.stack([np.maximum(view[..., 2], 1e-3) for view in seen])
        error = reprojection_px(points, uv, cameras)
        robust = 1 / (1 + (np.nan_to_num(error, nan=np.inf) / outlier_px) ** 2)
        points = _solve(rows, weights * robust / depth)
    return np.where((weights > 0).sum(0)[..., None] >= 2, points, np.nan)


def reprojection_px(points: np.ndarray, uv: np.ndarray, cameras: Sequence[Camera]) -> np.ndarray:
    """Distances (V, ...) between pixels (V, ..., 2) and the projections of world points (..., 3)."""
    projected = [project(world_to_camera(points, camera), camera) for camera in cameras]
    return np.linalg.norm(np.stack(projected) - uv, axis=-1)


def find_lags(uv: np.ndarray, weights: np.ndarray, cameras: Sequence[Camera], greatest: int) -> np.ndarray:
    """(V,) by how many frames each camera is behind the first: its frame f + lag shows what the first's f does.

    Each pair of cameras says how far its pixels (V, T, K, 2) lie from each other's epipolar lines, by the
    median, for each difference of their lags; the lags are those with the smallest sum over pairs. A lag that
    lowers a camera's share of it by less than a tenth is noise, as where nobody moves, and counts as 0.

    Args:
        weights: (V, T, K); points of weight 0 are not used.
        greatest: how far a camera may be from any other, in frames.
    """
    table = _pair_errors(uv, weights, cameras, greatest)
    views = range(len(cameras))

    def total(lags: np.ndarray) -> float:
        return sum(table[a, b, lags[b] - lags[a] + greatest] for a in views for b in views if a < b)

    def share(lags: np.ndarray, view: int) -> float:
        return sum(table[view, v, lags[v] - lags[view] + greatest] for v in views if v != view)

    def descend(lags: np.ndarray) -> np.ndarray:
        for _ in views:
            before = lags.copy()
            for view in views:
                own = [lag for lag in range(-greatest, greatest + 1) if _within(lags, view, lag, greatest)]
                lags[view] = min(own, key=lambda lag: (total(_with(lags, view, lag)), abs(lag)))
            if (lags == before).all():
                break
        return lags - lags[0]

    # descending from where each camera in turn would put the others: one start may end in a compromise
    starts = [np.zeros(len(cameras), int), *(_against(table, view, greatest) for view in views)]
    best = min((descend(start) for start in starts), key=lambda lags: (total(lags), abs(lags).sum()))
    for view in views[1:]:
        without = _with(best, view, 0)
        if _within(best, view, 0, greatest) and share(best, view) >= _SETTLED * share(without, view):
            best = without
    return best


def shift(values: np.ndarray, lags: np.ndarray, missing: float = np.nan) -> np.ndarray:
    """Values (V, T, ...) on the first camera's frames; `missing` where a camera has no such frame."""
    moved = np.full(values.shape, missing, np.float64)
    n = values.shape[1]
    for view, lag in enumerate(lags):
        first, last = max(0, -lag), min(n, n - lag)
        moved[view, first:last] = values[view, first + lag : last + lag]
    return moved


def _equations(uv: np.ndarray, camera: Camera) -> np.ndarray:
    """(..., 2, 4) rows of a view, of zeros where its pixel is not finite."""
    rays = unproject(np.nan_to_num(uv), np.ones(uv.shape[:-1]), camera)[..., :2]
    matrix = np.concatenate([camera.rotation, camera.translation[:, None]], axis=1)
    return rays[..., :, None] * matrix[2] - matrix[:2]


def _solve(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Least-squares points (..., 3) of rows (V, ..., 2, 4) under weights (V, ...)."""
    weighted = np.nan_to_num(weights)[..., None, None] * rows
    a = np.moveaxis(weighted, 0, -3)
    a = a.reshape(*a.shape[:-3], -1, 4)
    normal = np.einsum("...ri,...rj->...ij", a[..., :3], a[..., :3])
    moment = -np.einsum("...ri,...r->...i", a[..., :3], a[..., 3])
    scale = np.trace(normal, axis1=-2, axis2=-1)[..., None, None]
    solvable = np.linalg.eigvalsh(normal)[..., 0] > 1e-9 * scale[..., 0, 0]
    safe = np.where(solvable[..., None, None], normal, np.eye(3))
    return np.where(solvable[..., None], np.linalg.solve(safe, moment[..., None])[..., 0], np.nan)


def _with(lags: np.ndarray, view: int, lag: int) -> np.ndarray:
    changed = lags.copy()
    changed[view] = lag
    return changed


def _within(lags: np.ndarray, view: int, lag: int, greatest: int) -> bool:
    """Whether no two cameras are more than `greatest` frames apart if `view` gets `lag`."""
    return bool(np.ptp(_with(lags, view, lag)) <= greatest)


def _against(table: np.ndarray, view: int, greatest: int) -> np.ndarray:
    """Lags (V,) that fit best with those of one camera alone, brought within `greatest` of each other."""
    lags = np.array([0 if v == view else int(table[view, v].argmin()) - greatest for v in range(len(table))])
    return np.clip(lags, lags.max() - greatest, None)


def _pair_errors(uv: np.ndarray, weights: np.ndarray, cameras: Sequence[Camera], greatest: int) -> np.ndarray:
    """(V, V, 2 * greatest + 1) median epipolar distances in px; [a, b, g + d]: b's lag is d more than a's."""
    n = uv.shape[1]
    rays = [unproject(np.nan_to_num(p), np.ones(p.shape[:-1]), c) for p, c in zip(uv, cameras, strict=True)]
    usable = (weights > 0) & np.isfinite(uv).all(-1)
    table = np.zeros((len(cameras), len(cameras), 2 * greatest + 1))
    for a, first in enumerate(cameras):
        for b, second in enumerate(cameras[:a]):
            turn = second.rotation @ first.rotation.T
            x, y, z = second.translation - turn @ first.translation
            essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ turn
            for more in range(-greatest, greatest + 1):
                from_, to = max(0, -more), min(n, n - more)
                of_a, of_b = slice(from_, to), slice(from_ + more, to + more)
                used = usable[a, of_a] & usable[b, of_b]
                p, q = rays[a][of_a][used], rays[b][of_b][used]
                off = np.abs(np.einsum("ni,ij,nj->n", q, essential, p))
                in_b = off * second.matrix[0, 0] / np.linalg.norm((p @ essential.T)[:, :2], axis=-1)
                in_a = off * first.matrix[0, 0] / np.linalg.norm((q @ essential)[:, :2], axis=-1)
                error = float(np.median((in_a + in_b) / 2)) if len(off) else 0.0
                table[a, b, greatest + more] = table[b, a, greatest - more] = error
    return table
