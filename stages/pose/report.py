"""Stage pose-report: one page that says whether the refiner is any good, and where it fails.

Every error is simulated: labels are those of the data set, the estimates that the refiner corrects are drawn
by a simulator and not by a program that looked at a film.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from stages.core.data import tables
from stages.core.data.split import ROLES
from stages.core.evaluate.statistics import Bootstrap
from stages.core.params import StageParams
from stages.core.report import anatomy, sections
from stages.core.report.claims import Claim, claims_table
from stages.core.report.evidence import Sampling, estimate, ranked, read_csv
from stages.core.report.markup import Child, Markup, join, tag
from stages.core.report.page import (
    Cell,
    Page,
    Summary,
    Tile,
    answers,
    banner,
    picture,
    row,
    stack,
    table,
    tiles,
    verdict_words,
)
from stages.core.report.wording import Estimate, count, figure, interval, interval_name
from stages.core.stage import Observer, stage_main
from stages.pose.body.skeleton import JOINTS, SCHEMA
from stages.pose.reporting.angles import ANGLE, ELEVATION, add_joint_angles, add_view_angles
from stages.pose.reporting.evidence import DEPTH, INPUT, MODEL, UNIT, Evidence, in_words
from stages.pose.reporting.parts import add_parts
from stages.pose.reporting.transfer import add_transfer
from stages.pose.reporting.where import add_where
from stages.pose.simulation.packed import Packed

MEASURES = {
    DEPTH: ("mean |depth error|", "cm"),
    "sim_mpjpe_mm": ("mean joint error (MPJPE)", "mm"),
    "sim_pa_mpjpe_mm": ("mean joint error after alignment (PA-MPJPE)", "mm"),
    "sim_limb_angle_deg": ("direction of limbs", "degrees"),
    ANGLE: ("observable joint angles", "degrees"),
    "sim_acceleration_error_mm": ("acceleration error", "mm per squared frame"),
    "sim_bone_variation_percent": ("variation of bone lengths", "%"),
    "sim_azimuth_median_deg": ("azimuth of the camera, median", "degrees"),
    "sim_front_back_flips_percent": ("frames with front taken for back", "%"),
    ELEVATION: ("elevation of the camera", "degrees"),
    "sim_inverted_abs_dz_cm": ("mean |depth error|, head low", "cm"),
}
CLAIMS = (
    Claim(
        "Mean |depth error| before",
        "11.65 cm",
        "system description: camera c01, estimator on videos",
        11.65,
        "input",
    ),
    Claim(
        "Mean |depth error| after",
        "5.40 cm",
        "system description: camera c01, estimator on videos",
        5.40,
        "model",
        "here: all cameras, unseen dancers, simulated estimates, nothing of the label given to the model; "
        "there: split by clip, so the same dancers and dances in training",
    ),
    Claim(
        "Flat pose (every depth 0)",
        "11 to 16 cm",
        "measured on AIST++ labels",
        measure="flat",
        remark="what a constant reaches",
    ),
    Claim("Joint angle error before", "22.7 degrees", "system description", 22.7, "angle_input"),
    Claim(
        "Joint angle error after",
        "22.4 degrees",
        "system description",
        22.4,
        "angle",
        "here: angles of the corrected pose, those alone that seventeen joints show",
    ),
    Claim(
        "Elevation of the camera",
        "14.8 degrees",
        "system description",
        14.8,
        "elevation",
        "here: by the trunk of the corrected pose, its line of sight given",
    ),
    Claim(
        "Elevation by a constant",
        "4.6 degrees",
        "measured on one real sequence before nine cameras",
        measure="elevation_constant",
        remark="here: the mean of the training views",
    ),
)


class Params(StageParams):
    """`figure_height`: of a stick figure, CSS px; `bootstrap`: how intervals are made."""

    section: ClassVar[str] = "pose.report"
    seed: int
    figure_height: int = Field(ge=100)
    bootstrap: Bootstrap


def run(
    params: Params,
    packed: Path,
    evaluation: Path,
    history: Path,
    output: Path,
    observe: Observer,
    transfer: Path | None = None,
) -> dict[str, float]:
    """Write the page to `output`; `transfer`: folder of pose-transfer."""
    found = Evidence.read(packed, evaluation, Sampling(params.bootstrap, params.seed, group="group"))
    page = _head(found)
    sections.comparison_section(page, found.methods, UNIT, "dancers")
    _add_measures(page, found)
    add_where(page, found)
    add_parts(page, found)
    add_joint_angles(page, found)
    add_view_angles(page, found)
    n_videos = add_transfer(page, transfer) if transfer is not None else {}
    _add_cases(page, tables.read_table(evaluation / "examples.parquet"), params.figure_height)
    sections.history_section(page, read_csv(history), f"val_{DEPTH}", UNIT)
    page.add("data", "Data and split", _split_table(found.packed))
    measured = {m.key: (m.error, UNIT) for m in found.methods}
    measured |= {"model": (found.methods[0].error, UNIT), "input": measured[INPUT]}
    constant = found.constants[found.constants["constant"] == "mean"]
    for key, cases, column in (
        ("angle_input", found.of(INPUT), ANGLE),
        ("angle", found.tested, ANGLE),
        ("elevation", found.tested, ELEVATION),
        ("elevation_constant", constant, ELEVATION),
    ):
        measured[key] = (estimate(cases, column, found.sampling), "degrees")
    lead = (
        "Figures here are simulated: they are no measurement of an estimator on videos, and confirm no claim."
    )
    page.add(
        "claims", "Claimed elsewhere, simulated here", claims_table(CLAIMS, measured, "simulated"), lead=lead
    )
    content = page.html().encode("utf-8")
    output.write_bytes(content)
    return {"kilobytes": round(len(content) / 1024), "n_views_test": len(found.tested), **n_videos}


def _head(found: Evidence) -> Page:
    title = "Pose"
    subtitle = "Depth of 17 joints, corrected in a monocular estimate"
    dancers = count(found.tested["group"].nunique(), "dancer")
    where = f"{count(len(found.tested), 'test view')} of {dancers}"
    before = estimate(found.of(INPUT), DEPTH, found.sampling)
    sentences = (sections.verdict_sentence(found.methods, UNIT, where), ("open", where_it_fails(found)))
    headline = (
        Tile("Mean |depth error|, simulated", found.methods[0].error, UNIT, note=where),
        Tile("Before correction", before, UNIT),
        Tile("MPJPE, simulated", estimate(found.tested, "sim_mpjpe_mm", found.sampling), "mm"),
    )
    name = str(found.packed.manifest["name"])
    page = Page(title, subtitle)
    page.summary = Summary(
        lane=SCHEMA.lane,
        title=title,
        subject=subtitle,
        dataset=name,
        phantom=found.phantom,
        unit=UNIT,
        tiles=headline,
        methods=tuple(found.methods),
        answers=sentences,
        caveat="simulated estimates",
    )
    simulated = join(
        tag("strong", "Simulated estimates. "),
        "The estimates that are corrected here were drawn by a simulator of a monocular estimator. No film "
        "was looked at; nothing here says how well an estimator on videos would be corrected.",
    )
    page.head = [
        banner(name, found.phantom, count(found.packed.views["sequence"].nunique(), "sequence")),
        tag("div", tag("p", simulated), class_="banner phantom", role="note"),
        answers(sentences),
        tiles(headline),
    ]
    return page


def where_it_fails(found: Evidence) -> str:
    """A sentence on the joints and cameras with the largest errors."""
    depth = found.by_joint(MODEL)
    order = ranked(depth)
    said = f"Worst joint: {in_words(JOINTS[order[-1]])} ({figure(depth[order[-1]])} cm), "
    said += f"best: {in_words(JOINTS[order[0]])} ({figure(depth[order[0]])})."
    cameras = found.tested.groupby("cam")[DEPTH].mean()
    if len(cameras) > 1:
        said += (
            f" Worst camera: {cameras.idxmax()} ({figure(cameras.max())} cm), "
            f"best: {cameras.idxmin()} ({figure(cameras.min())})."
        )
    return said


def _add_measures(page: Page, found: Evidence) -> None:
    """Every measure before and after the correction, and of every other method."""
    rows: list[list[Child | Cell]] = []
    for name, (title, unit) in MEASURES.items():
        before, after = (estimate(found.of(m), name, found.sampling) for m in (INPUT, MODEL))
        change, verdict = found.change(found.of_both, name)
        percent = f"{100 * (after.value / before.value - 1):+.0f} %".replace("-", "−") if before.value else ""
        shown = [figure(before.value), figure(after.value), interval(after)]
        changed = [figure(change.value, signed=True), interval(change, signed=True)]
        known = np.isfinite(after.value)
        rows.append([title, unit, *shown, *changed, percent if known else "", verdict_words(verdict)])
    level = interval_name(Estimate(0, level=found.sampling.settings.level))
    headings = [
        *("Error of the test views, simulated", "Unit", "Before", "After", level),
        *("Change", level, "Share", "The correction"),
    ]
    lead = (
        "Means over the test views; changes are paired by view. A correction can cost elsewhere what it gains "
        "in depth."
    )
    content = stack(
        table(headings, rows, numeric=range(2, 8)), tag("h3", "All methods"), _methods_table(found)
    )
    page.add("measures", "Before and after", content, lead=lead)


def _methods_table(found: Evidence) -> Markup:
    """Measures down, methods across."""
    rows: list[list[Child | Cell]] = [
        [f"{title} ({unit})", *(figure(found.of(m.key)[name].mean()) for m in found.methods)]
        for name, (title, unit) in MEASURES.items()
    ]
    headings = ["Mean over the test views", *(m.name for m in found.methods)]
    return table(headings, rows, numeric=range(1, len(headings)))


def _add_cases(page: Page, examples: pd.DataFrame, height: int) -> None:
    """Stick figures of the best, median and worst views."""
    legend = [("label", "truth"), ("estimate (simulated)", "before"), ("refined", "prediction")]
    content: list[Child] = [anatomy.mark_legend(legend, "plain")]
    for case, part in examples.groupby("case", sort=False):
        drawn = [_case(example, height) for example in part.to_dict("records")]
        content += [tag("h3", str(case).capitalize()), row(*drawn)]
    lead = "Middle frames of test views by their mean depth error, from the camera and from the side."
    page.add("cases", "Best, median and worst cases", *content, lead=lead)


def _case(example: Mapping[Hashable, Any], height: int) -> Markup:
    label, given, refined = (
        100 * np.asarray(example[name], float).reshape(-1, 3) for name in ("label", "estimate", "refined")
    )
    poses = {"estimate": ("before", given), "label": ("truth", label), "refined": ("prediction", refined)}
    before, after = (float(np.abs(pose - label)[:, 2].mean()) for pose in (given, refined))
    name = f"{example['id']}, frame {example['frame']}"
    said = f"{name}: depth error {figure(before)} cm before, {figure(after)} after"
    drawn = anatomy.stick_figures(poses, SCHEMA.edges, said, height)
    words = tag("strong", f"{figure(before)} → {figure(after)} cm")
    return picture(drawn, join(words, tag("br"), tag("code", name)))


def _split_table(packed: Packed) -> Markup:
    rows: list[list[Child | Cell]] = []
    for role in ROLES:
        part = packed.views[packed.views["role"] == role]
        counts = [part["sequence"].nunique(), len(part), int(part["n_rows"].sum()), part["group"].nunique()]
        rows.append([role, *(f"{n:,}" for n in counts), sections.PURPOSES[role]])
    digest = str(packed.manifest["split_sha256"])
    caption = join("No dancer is in two roles. SHA-256 of the split: ", tag("code", digest))
    headings = ["Role", "Sequences", "Views", "Frames", "Dancers", "Purpose"]
    return table(headings, rows, numeric=(1, 2, 3, 4), caption=caption)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
