"""Whether model A is better than model B on the same films, and whether it is worse anywhere that matters.

The unit is the film (the patient where one is known), never the point: nineteen points of one film are alike,
and counting each would find differences where there are none. The primary figure is the mean over films of the
difference of their mean radial errors. Guardrails ask of each part whether the upper end of the interval of its
difference stays below a limit, so that a gain in one place cannot pay for a loss in another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.ceph.angles import ANGLES
from stages.ceph.comparing.answers import UNIT, SideBySide
from stages.ceph.evaluation.calibration import calibration_summary
from stages.ceph.evaluation.figures import SDR_MM, SDR_PERCENT
from stages.ceph.evaluation.films import SETS
from stages.ceph.schema import CEPH
from stages.core.evaluate.errors import film_errors
from stages.core.evaluate.statistics import Bootstrap, Comparison, Verdict, compare

PROMOTE, KEEP = "promote", "keep"
"""Verdicts: put A in the place of B, or keep B."""


class Guardrails(BaseModel):
    """How much worse A may be; each limit is for the upper end of the interval of A - B.

    Attributes:
        set_percent_sn: of the mean error of the films of either set.
        landmark_percent_sn: of the mean error of any landmark; 0.43 % is some 0.3 mm in an adult.
        worst_percent_sn: of the film error that one film in twenty exceeds.
        angle_deg: of the mean absolute error of SNA, SNB and ANB.
        calibration: A's mean actual over mean expected error lies between this and its inverse.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    set_percent_sn: float = Field(gt=0)
    landmark_percent_sn: float = Field(gt=0)
    worst_percent_sn: float = Field(gt=0)
    angle_deg: float = Field(gt=0)
    calibration: float = Field(gt=0, lt=1)


@dataclass(frozen=True)
class Part:
    """A difference A - B of one part of the comparison.

    Attributes:
        name: what it is about.
        a, b: means of both models.
        comparison: of A with B over films.
        limit: guardrail for the upper end; None for parts that have none.
        p_holm: Wilcoxon's p after Holm's correction over the parts of one kind; None where there is no p.
    """

    name: str
    a: float
    b: float
    comparison: Comparison
    limit: float | None = None
    p_holm: float | None = None

    @property
    def breaks_guardrail(self) -> bool:
        """Without an interval nothing is known to be safe, so that counts too."""
        high = self.comparison.high
        return self.limit is not None and (high is None or high > self.limit)


@dataclass(frozen=True)
class Outcome:
    """What the comparison found.

    Attributes:
        overall: mean radial error over all films, percent of S-N.
        overall_mm: the same in mm; None where no film has a spacing.
        sets, landmarks, angles: by part.
        worst: the 95th percentile of film errors.
        success: name -> share of points within a distance, percent; A - B above 0 is better here.
        calibration: model (`a`, `b`) -> ratio, gap and rank correlation.
        verdict: PROMOTE or KEEP.
        reasons: why not to promote; empty with PROMOTE.
    """

    overall: Part
    overall_mm: Part | None
    sets: tuple[Part, ...]
    landmarks: tuple[Part, ...]
    angles: tuple[Part, ...]
    worst: Part
    success: tuple[Part, ...]
    calibration: dict[str, dict[str, float]]
    verdict: str
    reasons: tuple[str, ...]


def compare_models(pair: SideBySide, guardrails: Guardrails, bootstrap: Bootstrap, seed: int) -> Outcome:
    """Compare two models; see the module's docstring."""
    judge = _Judge(pair, bootstrap, seed)
    overall = judge.errors("all films")
    sets = tuple(
        judge.errors(name, pair.rows(name), guardrails.set_percent_sn)
        for name in SETS
        if len(pair.rows(name))
    )
    landmarks = _with_holm(
        judge.part(name, pair.a.errors[:, k], pair.b.errors[:, k], guardrails.landmark_percent_sn)
        for k, name in enumerate(CEPH.names)
    )
    angles = _with_holm(
        judge.part(
            name, np.abs(pair.a.angles_deg[name]), np.abs(pair.b.angles_deg[name]), guardrails.angle_deg
        )
        for name in ANGLES
    )
    worst = judge.worst(guardrails.worst_percent_sn)
    calibration = {
        name: calibration_summary(side.expected.ravel(), side.errors.ravel(), most=10)
        for name, side in (("a", pair.a), ("b", pair.b))
    }
    reasons = (
        *_not_better(overall),
        *(_broken(part, "films of the set", UNIT) for part in sets if part.breaks_guardrail),
        *(_broken(part, "landmark", UNIT) for part in landmarks if part.breaks_guardrail),
        *(_broken(part, "angle", "degrees") for part in angles if part.breaks_guardrail),
        *([_broken(worst, "", UNIT)] if worst.breaks_guardrail else []),
        *_miscalibrated(calibration["a"]["ratio"], guardrails.calibration),
    )
    return Outcome(
        overall=overall,
        overall_mm=judge.millimetres(),
        sets=sets,
        landmarks=landmarks,
        angles=angles,
        worst=worst,
        success=judge.success(),
        calibration=calibration,
        verdict=KEEP if reasons else PROMOTE,
        reasons=reasons,
    )


@dataclass(frozen=True)
class _Judge:
    pair: SideBySide
    bootstrap: Bootstrap
    seed: int

    def part(self, name: str, a: np.ndarray, b: np.ndarray, limit: float | None = None) -> Part:
        """A and B (n,) over films, by patient; films that lack either count nowhere."""
        return self._part(name, a, b, self.pair.patients, limit)

    def errors(self, name: str, rows: np.ndarray | slice = slice(None), limit: float | None = None) -> Part:
        a, b = self.pair.a.film_errors[rows], self.pair.b.film_errors[rows]
        return self._part(name, a, b, self.pair.patients[rows], limit)

    def _part(
        self, name: str, a: np.ndarray, b: np.ndarray, patients: np.ndarray, limit: float | None
    ) -> Part:
        both = np.isfinite(a) & np.isfinite(b)
        found = compare(a, b, patients, self.bootstrap, self.seed)
        mean_a, mean_b = (float(v[both].mean()) if both.any() else float("nan") for v in (a, b))
        return Part(name, mean_a, mean_b, found, limit)

    def millimetres(self) -> Part | None:
        a, b = film_errors(self.pair.a.errors_mm), film_errors(self.pair.b.errors_mm)
        return self.part("films with a spacing", a, b) if np.isfinite(a).any() else None

    def success(self) -> tuple[Part, ...]:
        found = []
        for limits, unit, errors in (
            (SDR_MM, "mm", [side.errors_mm for side in (self.pair.a, self.pair.b)]),
            (SDR_PERCENT, UNIT, [side.errors for side in (self.pair.a, self.pair.b)]),
        ):
            if np.isfinite(errors[0]).any():
                for limit in limits:
                    a, b = (share_within(e, limit) for e in errors)
                    found.append(_more_is_better(self.part(f"within {limit:g} {unit}", a, b)))
        return tuple(found)

    def worst(self, limit: float) -> Part:
        """The 95th percentile of film errors; its interval by a bootstrap over patients, read as percentiles."""
        a, b = self.pair.a.film_errors, self.pair.b.film_errors
        both = np.isfinite(a) & np.isfinite(b)
        a, b, patients = a[both], b[both], self.pair.patients[both]
        names, group = np.unique(patients.astype(str), return_inverse=True)
        n_groups = len(names)
        end_a, end_b = (float(np.percentile(v, 95)) if len(v) else float("nan") for v in (a, b))
        low = high = None
        if n_groups >= self.bootstrap.minimum_groups:
            rng = np.random.default_rng(self.seed)
            members = [np.flatnonzero(group == g) for g in range(n_groups)]
            drawn = []
            for _ in range(self.bootstrap.resamples):
                rows = np.concatenate([members[g] for g in rng.integers(n_groups, size=n_groups)])
                drawn.append(np.percentile(a[rows], 95) - np.percentile(b[rows], 95))
            tail = (1 - self.bootstrap.level) / 2
            low, high = (float(q) for q in np.quantile(drawn, [tail, 1 - tail]))
        found = Comparison(end_a - end_b, low, high, None, int(both.sum()), n_groups, _called(low, high))
        return Part("one film in twenty is worse than", end_a, end_b, found, limit)


def _called(low: float | None, high: float | None) -> Verdict:
    """The verdict of an interval, as `statistics.compare` gives it."""
    if low is None or high is None:
        return "too few groups"
    return "better" if high < 0 else "worse" if low > 0 else "no difference"


def _more_is_better(part: Part) -> Part:
    """The part with the verdict of a figure that grows where the model gets better."""
    turned: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
    verdict = turned.get(part.comparison.verdict, part.comparison.verdict)
    return replace(part, comparison=replace(part.comparison, verdict=verdict))


def share_within(errors: np.ndarray, limit: float) -> np.ndarray:
    """(n, K) errors -> (n,) percent of each film's labelled points within `limit`; NaN without any."""
    labelled = np.isfinite(errors)
    count = labelled.sum(1)
    within = 100.0 * (errors <= limit).sum(1)
    return np.where(count > 0, within / np.maximum(count, 1), np.nan)


def holm(p_values: np.ndarray) -> np.ndarray:
    """p values (n,) corrected for their number (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected


def _with_holm(parts: Iterable[Part]) -> tuple[Part, ...]:
    listed = list(parts)
    known = [k for k, part in enumerate(listed) if part.comparison.p_wilcoxon is not None]
    corrected = holm(np.array([listed[k].comparison.p_wilcoxon for k in known], float))
    for k, p in zip(known, corrected, strict=True):
        listed[k] = replace(listed[k], p_holm=float(p))
    return tuple(listed)


def _not_better(overall: Part) -> tuple[str, ...]:
    found = overall.comparison
    if found.verdict == "better":
        return ()
    if found.low is None or found.high is None:
        return (f"{found.n_groups} patients or films are too few for an interval of the mean error",)
    return (
        f"its mean error is not lower beyond doubt: it differs by {found.mean_difference:+.3g} {UNIT} "
        f"({found.low:+.3g} to {found.high:+.3g}, {found.n_films} films)",
    )


def _broken(part: Part, what: str, unit: str) -> str:
    found = part.comparison
    named = f"{what} {part.name}".strip()
    if found.high is None:
        return f"{named}: {found.n_groups} patients or films are too few to say that it is not worse"
    return (
        f"{named}: the error may have grown by up to {found.high:.3g} {unit} (measured {found.mean_difference:+.3g}),"
        f" the guardrail is {part.limit:g}"
    )


def _miscalibrated(ratio: float, least: float) -> tuple[str, ...]:
    if least <= ratio <= 1 / least:
        return ()
    return (
        f"calibration: its points are {ratio:.3g} times as far off as it expects, the guardrail is "
        f"{least:g} to {1 / least:.3g}",
    )
