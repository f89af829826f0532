"""How often the comparison of two ceph models is right: simulated A/A comparisons, and planted gains.

    python -m bench.ceph_aa [--comparisons 200]

Two models of the same quality must be called equal in 90 to 98 of 100 comparisons, and a gain of 0.3 mm must be
found. Errors are simulated as they are on real films: a film's mean radial error varies with a standard deviation
of 0.39 mm (60 films of a published test run), two models are alike on a film (correlation 0.7), and points of one
film are alike too (intraclass correlation 0.1). The last is why points must not be counted as if they were films:
the last line of the table does that.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.stats import wilcoxon

from stages.ceph.comparing.answers import Side, SideBySide
from stages.ceph.evaluation.films import BASE_SET, CLINIC_SET
from stages.ceph.schema import CEPH
from stages.core.evaluate.statistics import Bootstrap, compare

LEVEL = 0.95
BOOTSTRAP = Bootstrap(resamples=2000, level=LEVEL, method="bca", minimum_groups=6)


@dataclass(frozen=True)
class Noise:
    """How errors vary. Attributes:
    mean_mm, film_sd_mm: of a film's mean radial error.
    correlation: of two models' mean errors on one film.
    icc: share of the variance of points' differences between two models that is common to a film.
    percent_per_mm: percent of an S-N distance of 70 mm.
    """

    mean_mm: float = 1.5
    film_sd_mm: float = 0.391
    correlation: float = 0.7
    icc: float = 0.1
    percent_per_mm: float = 100 / 70

    @property
    def parts_mm(self) -> tuple[float, float]:
        """Deviations of one model's own errors: common to a film, and of single points about it."""
        per_point = (1 - self.icc) / self.icc
        film = self.film_sd_mm * float(np.sqrt((1 - self.correlation) / (1 + per_point / CEPH.n_points)))
        return film, film * float(np.sqrt(per_point))


NOISE = Noise()


def simulated_pair(
    rng: np.random.Generator, films: int, gain_percent_sn: float = 0.0, noise: Noise = NOISE
) -> SideBySide:
    """Errors of two models on films of both sets, A better by `gain_percent_sn` on average."""
    common = noise.film_sd_mm * np.sqrt(noise.correlation) * rng.normal(size=(films, 1))
    a, b = (_one_model(rng, common, noise) * noise.percent_per_mm for _ in range(2))
    ids = np.array([f"film{i:03}" for i in range(films)])
    sets = np.where(np.arange(films) < films // 2, BASE_SET, CLINIC_SET)
    return SideBySide(ids, ids, sets, _side(rng, a - gain_percent_sn, noise), _side(rng, b, noise))


def _one_model(rng: np.random.Generator, common: np.ndarray, noise: Noise) -> np.ndarray:
    """(films, K) radial errors, mm: skewed, about each film's own mean."""
    film_sd, point_sd = noise.parts_mm
    film = noise.mean_mm + common + film_sd * rng.normal(size=common.shape)
    shape = (noise.mean_mm / point_sd) ** 2
    return film + noise.mean_mm * (rng.gamma(shape, 1 / shape, (len(common), CEPH.n_points)) - 1)


def _side(rng: np.random.Generator, errors: np.ndarray, noise: Noise) -> Side:
    n, k = errors.shape
    angles = {name: np.asarray(1.2 * rng.normal(size=n)) for name in ("SNA", "SNB", "ANB")}
    points = np.zeros((n, k, 2))
    expected = np.full((n, k), float(np.nanmean(errors)))
    return Side(errors, errors / noise.percent_per_mm, expected, angles, points, points)


def said(comparisons: int, films: int, gain_mm: float, seed: int, by_point: bool = False) -> dict[str, float]:
    """Shares of verdicts on A over seeded comparisons, and how often Wilcoxon's p is below 1 - LEVEL.

    Args:
        by_point: count every point as if it were a film.
    """
    rng = np.random.default_rng(seed)
    verdicts, significant = [], 0
    for i in range(comparisons):
        pair = simulated_pair(rng, films, gain_mm * NOISE.percent_per_mm)
        if by_point:
            significant += wilcoxon((pair.a.errors - pair.b.errors).ravel()).pvalue < 1 - LEVEL
            continue
        found = compare(pair.a.film_errors, pair.b.film_errors, pair.patients, BOOTSTRAP, i)
        verdicts.append(found.verdict)
        significant += (found.p_wilcoxon or 1.0) < 1 - LEVEL
    shares = {v: verdicts.count(v) / comparisons for v in ("no difference", "better", "worse")}
    return {**(shares if verdicts else {}), "wilcoxon": significant / comparisons}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--comparisons", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20)
    told = parser.parse_args()
    print(f"{'gain, mm':>9} {'films':>6} {'no difference':>14} {'better':>8} {'worse':>8} {'p < 0.05':>9}")
    for gain in (0.0, 0.1, 0.2, 0.3):
        for films in (18, 30, 60, 100):
            row = said(told.comparisons, films, gain, told.seed)
            shown = " ".join(
                f"{100 * row[v]:>{w}.1f}%" for v, w in (("no difference", 13), ("better", 7), ("worse", 7))
            )
            print(f"{gain:>9.1f} {films:>6} {shown} {100 * row['wilcoxon']:>8.1f}%")
    row = said(told.comparisons, 50, 0.0, told.seed, by_point=True)
    print(f"points counted as films, no gain, 50 films: p < 0.05 in {100 * row['wilcoxon']:.1f} %")


if __name__ == "__main__":
    main()
