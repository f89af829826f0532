"""Heights, spacings and slips of made-up spines."""

import numpy as np

from stages.spine.measures import slips, spacings, vertebra_heights


def column(n: int = 17, spacing: float = 100.0, height: float = 60.0) -> np.ndarray:
    """(1, 4 n, 2) boxes above each other."""
    box = np.array([[0, 0], [80, 0], [0, height], [80, height]])
    return np.concatenate([box + np.array([200, 50 + spacing * i]) for i in range(n)])[None]


def test_heights_and_spacings() -> None:
    assert vertebra_heights(column()).tolist() == [60.0]
    assert spacings(column()).tolist() == [100.0]


def test_a_slip_counts_vertebrae_downwards_whatever_the_film_size() -> None:
    moved = column() + np.array([30, 150])
    assert slips(moved, column()).tolist() == [1.5]
    assert slips(column(), moved).tolist() == [-1.5]
    np.testing.assert_allclose(slips(3 * moved, 3 * column()), [1.5])
