"""Two pages about one corrected sequence: every joint angle over time, and an animation.

Each is one self-contained HTML file that loads nothing and has the same bytes for the same poses.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.core.report.charts import Axis, Series, curves, spanning
from stages.core.report.markup import Child, Markup, tag
from stages.core.report.page import Page, banner, grid, note, picture, table
from stages.pose.body.skeleton import SCHEMA
from stages.pose.drawing import side_of
from stages.pose.kinematics.angles import CHAIN, Angles

_MOST_POINTS = 240
"""Points of a curve; more cannot be told apart at its width."""
_MOST_FRAMES = 900
"""Frames of an animation: half a minute at 30 a second, a megabyte."""


@dataclass(frozen=True)
class Motion:
    """One sequence.

    Attributes:
        name: of the file, without its folder.
        fps: frames a second.
        phantom: whether the person was made up.
        trained_on: data set of the refiner; None if poses were left as they came.
        before, after: (T, 17, 3) metres, camera frame, root-relative; after None if left as they came.
    """

    name: str
    fps: float
    phantom: bool
    trained_on: str | None
    before: np.ndarray
    after: np.ndarray | None


def angles_page(motion: Motion, before: Angles, after: Angles) -> str:
    """HTML with a curve before and after of every joint angle, and a table that sums them up."""
    page = _page(f"Joint angles of {motion.name}", motion)
    page.add(
        "summary",
        "All angles",
        _summary(motion, before, after),
        note(
            "Confidence is lower where a limb is nearly straight (its turn then shows in nothing), near the poles "
            "of an angle's definition and where joints are hidden. What these points cannot tell is kept for "
            "completeness and means nothing by itself."
        ),
    )
    for k, joint in enumerate(CHAIN):
        charts = [_chart(motion, before, after, 3 * k + i) for i in range(3)]
        page.add(joint.name, _words(joint.name).capitalize(), grid(*charts))
    return page.html()


def animation_page(motion: Motion) -> str:
    """HTML with the figures before and after on a canvas that can be played and turned."""
    page = _page(f"Motion of {motion.name}", motion)
    step = max(1, math.ceil(len(motion.before) / _MOST_FRAMES))
    data = {
        "fps": motion.fps,
        "step": step,
        "edges": [[a, b, side_of(a, b)] for a, b in SCHEMA.edges],
        "before": _millimetres(motion.before[::step]),
        "after": None if motion.after is None else _millimetres(motion.after[::step]),
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    script = Path(__file__).with_name("animation.js").read_text(encoding="utf-8")
    page.add(
        "motion",
        "Before and after",
        tag("canvas", id="stage", width=1100, height=560, style="width: 100%; touch-action: none"),
        tag(
            "p",
            tag("button", "play", id="play", type="button"),
            " ",
            _slider("frame", 0, None, "50%"),
            " ",
            tag("span", id="time"),
        ),
        tag(
            "p",
            tag("label", "turn ", for_="turn"),
            _slider("turn", -180, 180, "30%"),
        ),
        tag("noscript", "The animation needs a browser that runs scripts."),
        tag("script", Markup(text), type="application/json", id="poses"),
        tag("script", Markup(script)),
        lead=(
            "Grey and dashed: as estimated. Coloured: corrected, left blue, right orange."
            if motion.after is not None
            else "As estimated; nothing was corrected."
        ),
    )
    return page.html()


def _page(title: str, motion: Motion) -> Page:
    seconds = len(motion.before) / motion.fps
    source = f"{len(motion.before)} frames, {seconds:.1f} s at {motion.fps:g} a second"
    page = Page(title, _corrected_by(motion), contents=False)
    page.head.append(banner(motion.name, motion.phantom, source))
    return page


def _corrected_by(motion: Motion) -> str:
    if motion.trained_on is None:
        return "Left as estimated."
    return f"Corrected by a refiner that was trained on {motion.trained_on}."


def _summary(motion: Motion, before: Angles, after: Angles) -> Markup:
    rows: list[list[Child]] = []
    for k, name in enumerate(after.names):
        if not np.isfinite(after.values[:, k]).any():
            rows.append([_words(name), "not shown by these points", "", "", "", ""])
            continue
        change = np.abs((after.values[:, k] - before.values[:, k] + 180) % 360 - 180)
        rows.append(
            [
                _words(name),
                "yes" if after.observable[k] else "no",
                _degrees(before.values[:, k]),
                _degrees(after.values[:, k]),
                _degrees(change),
                f"{after.confidence[:, k].mean():.2f}",
            ]
        )
    headings = ["angle", "observable", "mean before, °", "mean after, °", "mean change, °", "confidence"]
    if motion.after is None:
        headings = [h.replace("before", "estimated") for h in headings]
    return table(headings, rows, numeric=(2, 3, 4, 5))


def _chart(motion: Motion, before: Angles, after: Angles, k: int) -> Markup:
    """The curves of one angle, joined across the jump from 180 to -180."""
    words = _words(after.names[k])
    first, second = (_joined(angles.values[:, k]) for angles in (before, after))
    if not np.isfinite(second).any():
        return note(f"{words}: these points show nothing of it.")
    offset = np.nanmean(second) - np.nanmean(first)
    second = second - 360 * np.round(offset / 360)
    chosen = np.unique(np.linspace(0, len(first) - 1, _MOST_POINTS).round().astype(int))
    x = chosen / motion.fps
    series = [Series("as estimated", x, first[chosen], "before")]
    if motion.after is not None:
        series.append(Series("corrected", x, second[chosen], "model"))
    y = spanning(np.concatenate([s.y for s in series]), "degrees", zero=False)
    if y.high - y.low < 10:  # a flat line should look flat
        y = Axis((y.high + y.low) / 2 - 5, (y.high + y.low) / 2 + 5, "degrees")
    drawn = curves(series, spanning(x, "seconds"), y, f"{words} over time", height=240)
    caption = words if after.observable[k] else f"{words} (these points cannot tell it)"
    return picture(drawn, caption)


def _joined(values: np.ndarray) -> np.ndarray:
    """Angles (T,) without jumps of a whole turn; gaps stay."""
    joined = values.copy()
    finite = np.isfinite(values)
    joined[finite] = np.unwrap(values[finite], period=360)
    return joined


def _millimetres(pose: np.ndarray) -> list[list[int]]:
    return np.round(1000 * pose).astype(int).reshape(len(pose), -1).tolist()


def _slider(name: str, low: int, high: int | None, width: str) -> Markup:
    """A range input at 0; without an upper end the script sets it."""
    style = f"width: {width}"
    drawn = tag("input", id=name, type="range", min=low, max=high, value=0, style=style, aria_label=name)
    return Markup(drawn.removesuffix("</input>"))


def _degrees(values: np.ndarray) -> str:
    mean = round(float(np.nanmean(values)), 1) + 0.0  # no minus before a zero
    return f"{mean:.1f}".replace("-", "−")


def _words(name: str) -> str:
    return name.replace("_", " ")
