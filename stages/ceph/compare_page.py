"""The page reports/ceph-compare.html: both models on the same films, the verdict, and the commands that follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.ceph.comparing.answers import UNIT, SideBySide
from stages.ceph.comparing.paired import PROMOTE, Outcome, Part
from stages.ceph.evaluation.films import BASE_SET, CLINIC_SET
from stages.ceph.schema import CEPH
from stages.core.data.films import FilmSet
from stages.core.report import anatomy
from stages.core.report.charts import Axis, Frame
from stages.core.report.evidence import ranked
from stages.core.report.markup import Child, Markup, join, tag
from stages.core.report.page import (
    Cell,
    Page,
    Tile,
    answers,
    banner,
    beside,
    note,
    picture,
    row,
    table,
    tiles,
)
from stages.core.report.svg import circle, drawing, group, segment, words
from stages.core.report.wording import Estimate, count, figure, interval, with_interval

if TYPE_CHECKING:
    from stages.ceph.compare import Params

SET_TITLES = {BASE_SET: "films of the base set", CLINIC_SET: "films of the clinic"}
CALLED = {
    "better": ("better", "good"),
    "worse": ("worse", "bad"),
    "no difference": ("no difference shown", "open"),
    "too few groups": ("too few films", "open"),
}


@dataclass(frozen=True)
class Stores:
    """The film stores of both sets."""

    base: FilmSet
    clinic: FilmSet

    @classmethod
    def open(cls, films: Path, clinic: Path) -> Stores:
        return cls(FilmSet.open(films), FilmSet.open(clinic))

    def of(self, name: str) -> FilmSet:
        return self.base if name == BASE_SET else self.clinic

    @property
    def phantom(self) -> bool:
        return self.base.info.is_phantom


def write_compare_page(
    path: Path, outcome: Outcome, pair: SideBySide, stores: Stores, params: Params
) -> None:
    """Write the page; it loads nothing."""
    level = params.bootstrap.level
    page = Page("Ceph: tuned model beside the base", "May what reviewers taught it go into use?")
    n_films = count(len(pair.ids), "gate film")
    page.head = [
        banner(stores.base.info.name, stores.phantom, f"{n_films} of both sets"),
        answers(_sentences(outcome, level)),
        tiles(_tiles(outcome, level)),
    ]
    _verdict_section(page, outcome, stores.base.info.name)
    _metrics_section(page, outcome, level)
    _landmark_section(page, outcome, level)
    _film_section(page, pair, stores, params)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(page.html().encode("utf-8"))


def difference(part: Part, level: float) -> Estimate:
    """A - B of a part as an estimate."""
    found = part.comparison
    if found.low is None or found.high is None:
        return Estimate(found.mean_difference)
    return Estimate(found.mean_difference, found.low, found.high, level)


def _sentences(outcome: Outcome, level: float) -> list[tuple[str, str]]:
    said = with_interval(difference(outcome.overall, level), UNIT, signed=True)
    start = (
        f"The tuned model's mean error is {figure(outcome.overall.a)} {UNIT}, the base's "
        f"{figure(outcome.overall.b)}: {said}."
    )
    if outcome.verdict == PROMOTE:
        return [("good", f"{start} No guardrail is broken: it may go into use.")]
    reasons = count(len(outcome.reasons), "reason")
    return [("bad", f"{start} The base stays in use, for {reasons}: see the verdict.")]


def _tiles(outcome: Outcome, level: float) -> list[Tile]:
    shown = [
        Tile(
            f"Mean error on {SET_TITLES[part.name]}",
            unit=UNIT,
            value=f"{figure(part.b)} → {figure(part.a)}",
            note=_change(part, level),
        )
        for part in outcome.sets
    ]
    if outcome.overall_mm is not None:
        part = outcome.overall_mm
        value = f"{figure(part.b)} → {figure(part.a)}"
        shown.append(
            Tile("Mean error, films with a spacing", unit="mm", value=value, note=_change(part, level))
        )
    worst = outcome.worst
    value = f"{figure(worst.b)} → {figure(worst.a)}"
    shown.append(Tile("One film in twenty is worse than", unit=UNIT, value=value, note=_change(worst, level)))
    return shown


def _change(part: Part, level: float) -> str:
    return f"change {with_interval(difference(part, level), signed=True)}"


def _verdict_section(page: Page, outcome: Outcome, dataset: str) -> None:
    name = f"ceph-{dataset}"
    if outcome.verdict == PROMOTE:
        reasons: Child = note("The mean error is lower beyond doubt and no guardrail is broken.")
    else:
        reasons = tag("ul", *(tag("li", reason) for reason in outcome.reasons))
    commands = [
        (
            "Deploy",
            "plumbline promote ceph",
            "registers the tuned model; champion if nothing speaks against it",
        ),
        (
            "Deploy all the same",
            "plumbline promote ceph --force --reason 'why'",
            "the reason and what was broken go into the log",
        ),
        ("Roll back", "plumbline rollback ceph --reason 'why'", "the champion before it comes back"),
        (
            "Test on films of your own",
            f"plumbline evaluate ceph --model {name}@challenger --data DIR --out tuned.json",
            f"and the same with --model {name}@champion; a refused model is the challenger",
        ),
        (
            "Test on live films, unseen",
            "plumbline serve ceph --shadow",
            "the challenger answers the same films in the background; nobody is shown its answers",
        ),
        (
            "Test on a share of live films",
            "plumbline serve ceph --canary 10",
            "the challenger answers one film in ten, always the same ones",
        ),
    ]
    rows: list[Sequence[Child | Cell]] = [(what, tag("code", line), said) for what, line, said in commands]
    word = "promote" if outcome.verdict == PROMOTE else "keep the base"
    page.add(
        "verdict",
        f"Verdict: {word}",
        reasons,
        tag("h3", "Commands"),
        table(["To", "Command", "What it does"], rows),
        lead="Decided by the films of the role gate alone; test films decide nothing.",
    )


def _metrics_section(page: Page, outcome: Outcome, level: float) -> None:
    errors: list[tuple[str, Part, str]] = [("Mean radial error, all films", outcome.overall, UNIT)]
    errors += [(f"Mean radial error, {SET_TITLES[p.name]}", p, UNIT) for p in outcome.sets]
    if outcome.overall_mm is not None:
        errors.append(("Mean radial error, films with a spacing", outcome.overall_mm, "mm"))
    errors.append(("One film in twenty is worse than", outcome.worst, UNIT))
    errors += [(f"Mean absolute error of {p.name}", p, "degrees") for p in outcome.angles]
    rows = [_metric_row(name, part, unit, level) for name, part, unit in errors]
    rows += [_metric_row(f"Points {p.name}", p, "%", level) for p in outcome.success]
    for key, name in (("ratio", "Actual over expected error (1 is right)"), ("gap", "Calibration gap")):
        a, b = (outcome.calibration[side][key] for side in "ab")
        rows.append([name, "", figure(b), figure(a), figure(a - b, signed=True), "", "", ""])
    headings = [
        "Figure",
        "Unit",
        "Base",
        "Tuned",
        "Change",
        f"{100 * level:g} % interval",
        "Tuned is",
        "Guardrail",
    ]
    lead = (
        f"Paired film by film; intervals come from a bootstrap over patients (films where none is known). {UNIT} "
        "is percent of the distance of sella and nasion, some 0.7 mm each in an adult."
    )
    page.add("metrics", "Figures with intervals", table(headings, rows, numeric=(2, 3, 4, 5)), lead=lead)


def _metric_row(name: str, part: Part, unit: str, level: float) -> list[Child | Cell]:
    change = difference(part, level)
    text, style = CALLED[part.comparison.verdict]
    guarded = (
        ""
        if part.limit is None
        else f"{'broken' if part.breaks_guardrail else 'kept'} (up to +{part.limit:g})"
    )
    return [
        name,
        unit,
        figure(part.b),
        figure(part.a),
        figure(change.value, signed=True),
        interval(change, signed=True),
        tag("span", text, class_=style),
        tag("span", guarded, class_="bad" if part.breaks_guardrail else None),
    ]


def _landmark_section(page: Page, outcome: Outcome, level: float) -> None:
    chart = change_chart(outcome.landmarks, level, f"change of the mean error ({UNIT})")
    rows: list[Sequence[Child | Cell]] = []
    for part in outcome.landmarks:
        cells = _metric_row(part.name.replace("_", " "), part, UNIT, level)
        p = MISSING_P if part.p_holm is None else f"{part.p_holm:.3g}"
        kept = tag("span", "broken", class_="bad") if part.breaks_guardrail else "kept"
        rows.append([*cells[:1], *cells[2:6], p, kept])
    headings = [
        "Landmark",
        "Base",
        "Tuned",
        "Change",
        f"{100 * level:g} % interval",
        "p (Wilcoxon, Holm)",
        "Guardrail",
    ]
    page.add(
        "landmarks",
        "Change by landmark",
        beside(
            picture(chart, "Left of the line the tuned model is better; the dashed line is the guardrail."),
            table(headings, rows, numeric=(1, 2, 3, 4, 5)),
        ),
        lead="Nineteen tests at once: Wilcoxon's p is corrected by Holm's method. A guardrail is kept where the whole "
        "interval lies below it.",
    )


MISSING_P = "–"


def change_chart(parts: Sequence[Part], level: float, label: str, width: float = 440) -> Markup:
    """One row a part: the change with its interval, about a line at zero; guardrails as a dashed line."""
    changes = [difference(part, level) for part in parts]
    reach = [v for c in changes for v in (c.value, c.low, c.high) if math.isfinite(v)]
    limits = [part.limit for part in parts if part.limit is not None]
    most = 1.06 * max([abs(v) for v in reach + limits] or [1.0])
    axis = Axis(-most, most, label)
    height = 22.0
    frame = Frame(130, width - 20, 6, 6 + height * len(parts))
    drawn: list[Child] = [*frame.level_axis(axis, grid=True)]
    zero = axis.place(0, frame.left, frame.right)
    drawn.append(segment(zero, frame.top, zero, frame.bottom, "rule"))
    if limits:
        at = axis.place(limits[0], frame.left, frame.right)
        drawn.append(segment(at, frame.top, at, frame.bottom, "equal"))
    for k, (part, change) in enumerate(zip(parts, changes, strict=True)):
        y = frame.top + height * (k + 0.5)
        name = part.name.replace("_", " ")
        drawn.append(words(frame.left - 9, y + 4, name, "end", "strong" if part.breaks_guardrail else None))
        if not math.isfinite(change.value):
            drawn.append(words(zero + 6, y + 4, "no label"))
            continue
        if change.has_interval:
            low, high = (axis.place(v, frame.left, frame.right) for v in (change.low, change.high))
            drawn.append(segment(low, y, high, y, "whisker"))
        style = "dot prediction" if part.breaks_guardrail else "dot model"
        tip = f"{name}: {with_interval(change, UNIT, signed=True)}"
        drawn.append(circle(axis.place(change.value, frame.left, frame.right), y, 4.5, style, tip))
    return drawing(width, frame.bottom + 46, f"Change by landmark: {label}", group(*drawn, style="chart"))


def _film_section(page: Page, pair: SideBySide, stores: Stores, params: Params) -> None:
    style = "film" if params.images else "plain"
    content: list[Child] = [anatomy.mark_legend([("label", "truth"), ("prediction", "prediction")], style)]
    for kind, chosen in changed(pair.difference, params.cases).items():
        if chosen:
            shown = [drawn for k in chosen for drawn in _both(pair, k, stores, params)]
            content += [tag("h3", kind), row(*shown)]
    lead = "The base's answer on the left and the tuned model's on the right, with the label."
    if not params.images:
        lead += " Films are left out of this page (images: false)."
    page.add("films", "The same films by both models", *content, lead=lead)


def changed(differences: np.ndarray, each: int) -> dict[str, list[int]]:
    """Positions of films to show by how their error changed; every film at most once."""
    order = ranked(differences)
    each = min(each, max(1, len(order) // 3))
    improved = [k for k in order[:each] if differences[k] < 0]
    worsened = [k for k in order[::-1][:each] if differences[k] > 0]
    rest = [k for k in order if k not in improved and k not in worsened]
    middle = sorted(rest, key=lambda k: (abs(differences[k]), k))[:each]
    return {"Most improved": improved, "Least changed": middle, "Most worsened": worsened}


def _both(pair: SideBySide, k: int, stores: Stores, params: Params) -> list[Markup]:
    """One film twice: with the base's answer and with the tuned model's."""
    name, store = str(pair.ids[k]), stores.of(str(pair.sets[k]))
    at = int(store.rows([name])[0])
    image = anatomy.film_jpeg(store.images[at], params.jpeg_quality) if params.images else None
    width, height = (int(v) for v in store.sizes_raw[at])
    drawn = []
    for title, side in (("base", pair.b), ("tuned", pair.a)):
        marks = [
            anatomy.Marks("label", side.labels[k], "truth"),
            anatomy.Marks("prediction", side.points[k], "prediction"),
        ]
        error = f"{figure(float(side.film_errors[k]))} {UNIT}"
        label = f"Film {name}, {title} model: {error}"
        film = anatomy.film(image, (width, height), marks, CEPH.names, CEPH.edges, label, params.film_height)
        drawn.append(picture(film, join(f"{title}: ", tag("strong", error), tag("br"), tag("code", name))))
    return drawn
