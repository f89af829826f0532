from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.pose.body.skeleton import SWAP
from stages.pose.capture.checks import Flag, check_sequence, fill_gaps, swapped_frames
from stages.pose.dance import STYLES, dance, random_body


def motion(n: int = 80, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return dance(random_body(rng), STYLES["HO"], n, rng)


def test_a_short_gap_is_filled_along_a_straight_line() -> None:
    line = np.arange(20.0)[:, None, None] * np.ones((1, 17, 3))
    holed = line.copy()
    holed[5:9, 3] = np.nan
    filled, interpolated, missing = fill_gaps(holed, max_gap=4)
    np.testing.assert_allclose(filled, line)
    assert interpolated.nonzero()[0].tolist() == [5, 6, 7, 8]
    assert not missing.any()


def test_long_gaps_and_gaps_at_the_ends_stay_missing() -> None:
    poses = motion(30)
    poses[0] = poses[10:15] = poses[29, 4] = np.nan
    filled, interpolated, missing = fill_gaps(poses, max_gap=4)
    assert missing.nonzero()[0].tolist() == [0, 10, 11, 12, 13, 14, 29]
    assert not interpolated.any()
    assert np.isnan(filled[missing]).all()


@given(st.integers(1, 60), st.integers(1, 25), st.integers(0, 50))
def test_a_swapped_piece_is_found_to_the_frame(start: int, length: int, seed: int) -> None:
    poses = motion(seed=seed)
    stop = min(start + length, len(poses))
    poses[start:stop] = poses[start:stop, SWAP]
    expected = np.zeros(len(poses), bool)
    expected[start:stop] = True
    np.testing.assert_array_equal(swapped_frames(poses), expected)


@given(st.integers(0, 200), st.sampled_from(sorted(STYLES)))
def test_nothing_is_found_in_sound_motion(seed: int, genre: str) -> None:
    rng = np.random.default_rng(seed)
    poses = dance(random_body(rng), STYLES[genre], 60, rng)
    checked = check_sequence(poses, poses, max_gap=4)
    assert not (checked.flags & ~np.uint8(Flag.INVERTED)).any()
    np.testing.assert_array_equal(checked.poses, poses)


def test_flags_say_what_was_done() -> None:
    optimised, raw = motion(), motion()
    raw[[3, 20], 5] = np.nan
    optimised[20:22] = np.nan
    checked = check_sequence(optimised, raw, max_gap=4)
    assert checked.flags[3] & Flag.RAW_GAP
    assert checked.flags[20] & Flag.INTERPOLATED
    assert not checked.flags[20] & Flag.RAW_GAP  # the optimised pose is missing too
    assert not (checked.flags[[0, 1, 2, 4]] & ~np.uint8(Flag.INVERTED)).any()
