"""What is wrong inside a readable sequence: gaps, and pieces in which left and right changed places."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np

from stages.pose.body.frames import is_inverted
from stages.pose.body.skeleton import SWAP


class Flag(IntFlag):
    """Bits of the column `flags`, one set a frame."""

    INVERTED = 1
    """nose less than half a torso above the hips; judged separately, not left out"""
    INTERPOLATED = 2
    """a short gap of the labels, filled along a straight line"""
    MISSING = 4
    """no label: poses are NaN"""
    SWAPPED = 8
    """left and right have changed places for a while; not used"""
    RAW_GAP = 16
    """the triangulated poses had a gap here that the optimised ones fill"""
    DETECTED = 32
    """a 2D detector found the person in this camera's picture; set by camera, unlike the others"""


UNUSABLE = Flag.MISSING | Flag.SWAPPED


@dataclass(frozen=True)
class CheckedSequence:
    """Poses (N, 17, 3) in metres, world frame, and a set of flags (N,) uint8 for each frame."""

    poses: np.ndarray
    flags: np.ndarray


def check_sequence(optimised: np.ndarray, raw: np.ndarray, max_gap: int) -> CheckedSequence:
    """Fill gaps of up to `max_gap` frames, mark longer ones, swapped pieces and inverted poses."""
    poses, interpolated, missing = fill_gaps(optimised, max_gap)
    where = {
        Flag.INVERTED: ~missing & is_inverted(poses),
        Flag.INTERPOLATED: interpolated,
        Flag.MISSING: missing,
        Flag.SWAPPED: swapped_frames(poses),
        Flag.RAW_GAP: np.isnan(raw).any((1, 2)) & ~np.isnan(optimised).any((1, 2)),
    }
    flags = np.zeros(len(poses), np.uint8)
    for flag, frames in where.items():
        flags[frames] += np.uint8(flag)
    return CheckedSequence(poses, flags)


def fill_gaps(poses: np.ndarray, max_gap: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fill runs of at most `max_gap` frames that lack a joint along a straight line between whole frames.

    Returns:
        Poses (N, 17, 3), wholly NaN where they stay missing; frames (N,) that were filled; missing ones.
    """
    lacking = np.isnan(poses).any((1, 2))
    interpolated = np.zeros(len(poses), bool)
    for start, stop in _runs(lacking):
        interpolated[start:stop] = stop - start <= max_gap and start > 0 and stop < len(poses)
    whole = np.flatnonzero(~lacking)
    filled = poses.copy()
    flat = filled.reshape(len(poses), -1)
    for column in flat.T:
        column[interpolated] = np.interp(np.flatnonzero(interpolated), whole, column[whole])
    missing = lacking & ~interpolated
    filled[missing] = np.nan
    return filled, interpolated, missing


def swapped_frames(poses: np.ndarray) -> np.ndarray:
    """Which frames (N,) belong to a piece with left and right exchanged.

    Between two frames nobody moves so far that the other side's joints are nearer than their own. Where that
    happens, the sides change places; of the two alternating sets of pieces, the shorter one is swapped.
    """
    usable = np.flatnonzero(~np.isnan(poses).any((1, 2)))
    whole = poses[usable]
    own = np.linalg.norm(whole[1:] - whole[:-1], axis=-1).sum(1)
    other = np.linalg.norm(whole[1:][:, SWAP] - whole[:-1], axis=-1).sum(1)
    parity = np.concatenate([[0], np.cumsum(other < 0.5 * own) % 2])
    if parity.mean() > 0.5:
        parity = 1 - parity
    swapped = np.zeros(len(poses), bool)
    swapped[usable[parity == 1]] = True
    return swapped


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
