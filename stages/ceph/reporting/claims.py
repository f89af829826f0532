"""What the system description and others claim, and what of it this lane measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stages.ceph.evaluation.films import BASE, TUNED
from stages.ceph.evaluation.judge import MM
from stages.ceph.reporting.clinic import SetEvidence
from stages.ceph.reporting.errors import Radial, rate
from stages.core.report.claims import Claim
from stages.core.report.evidence import Sampling
from stages.core.report.films import FilmEvidence
from stages.core.report.wording import Estimate

_DESCRIBED = "system description"
_ISBI = "ISBI 2015 Test1, 150 films: Emsh1379/DeLR, README"
CLAIMS = (
    Claim("Mean error before feedback", "2.2 mm", _DESCRIBED, 2.2, "base_mm"),
    Claim(
        "Mean error after feedback",
        "1.5 mm (elsewhere 1.8 mm)",
        _DESCRIBED,
        1.5,
        "tuned_mm",
        "on the base's test films; a stronger base gets there without feedback",
    ),
    Claim(
        "Points further off than 2 mm, before",
        "32 % (68 % within)",
        _DESCRIBED,
        32.0,
        "base_beyond",
    ),
    Claim(
        "Points that a reviewer would not accept",
        "10 to 15 % (85 to 90 % accepted)",
        _DESCRIBED,
        15.0,
        "clinic_beyond",
        "points of the tuned model further from the reader than 2 mm (2.8 % of S–N without a spacing); what "
        "reviewers said is on the loop's page",
    ),
    Claim(
        "Change of the mean error by feedback",
        "−20 %",
        _DESCRIBED,
        -20.0,
        "relative_change",
        "on the clinic's test films",
    ),
    Claim(
        "Change of the time a film takes",
        "−25 % (72 to 54 s; elsewhere −50 %)",
        _DESCRIBED,
        remark="cannot be shown without people: a simulated reviewer's times are a model of times",
    ),
    Claim(
        "A round's training",
        "under 4 h (2 h for 500 samples on a GPU)",
        _DESCRIBED,
        remark="times are no outputs: the page of plumbline dashboard ceph says them, from the journal",
    ),
    Claim(
        "Active learning is effective",
        "yes",
        _DESCRIBED,
        remark="against a queue in random order at equal effort: bench/ceph_clinic.py",
    ),
    Claim(
        "Deployment without downtime",
        "yes",
        _DESCRIBED,
        remark="swaps under load: tests/flows/serving and bench/serving.py",
    ),
    Claim(
        "An ideal peak ranks as certain",
        "by its formula of uncertainty",
        _DESCRIBED,
        remark="its second peak is the pixel beside the first: two equal peaks rank as more certain than a perfect "
        "one; tests/ceph/test_scoring.py",
    ),
    Claim("Best open figure", "1.12 mm", _ISBI, 1.124, "base_mm", "Test1 was used there to choose the model"),
    Claim("The same, points further off than 2 mm", "12.9 %", _ISBI, 12.88, "base_beyond"),
    Claim(
        "U-Net 512 with argmax, a challenge's baseline",
        "3.32 mm",
        "CL-Detection 2023, 38 landmarks: szuboy/CL-Detection2023",
        remark="other films and landmarks",
    ),
)


def measured_claims(
    found: FilmEvidence, radial: Radial, clinic: SetEvidence, sampling: Sampling
) -> Mapping[str, tuple[Estimate, str]]:
    """Name of a quantity -> its estimate and unit; those in mm only where films have a spacing."""
    measured: dict[str, tuple[Estimate, str]] = {
        "relative_change": (clinic.relative_change("test", sampling.settings.level), "%"),
        "clinic_beyond": (_beyond(clinic.radial, TUNED, sampling), "%"),
    }
    if radial.error == MM:
        errors = {m.key: m.error for m in found.methods}
        measured |= {
            "base_mm": (errors[BASE], "mm"),
            "tuned_mm": (errors[TUNED], "mm"),
            "base_beyond": (_beyond(radial, BASE, sampling), "%"),
        }
    return {name: (e, unit) for name, (e, unit) in measured.items() if np.isfinite(e.value)}


def _beyond(radial: Radial, method: str, sampling: Sampling) -> Estimate:
    """Percent of points that are further off than 2 mm, or the like in percent of S-N."""
    within = rate(radial, method, 2.0 if radial.error == MM else 2.8, sampling)
    return Estimate(100 - within.value, 100 - within.high, 100 - within.low, within.level)
