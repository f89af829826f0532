"""Stage index: the page that links the pages of all lanes and says how each one does."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.report.markup import Child, tag
from stages.core.report.page import (
    Cell,
    Page,
    Summary,
    answers,
    banner,
    grid,
    picture,
    read_summary,
    stack,
    table,
    tiles,
    verdict_words,
)
from stages.core.report.sections import comparison_figure
from stages.core.report.wording import figure, interval
from stages.core.stage import Observer, stage_main


class Params(StageParams):
    section: ClassVar[str] = "index"


def run(
    params: Params,
    output: Path,
    observe: Observer,
    spine: Path | None = None,
    chest: Path | None = None,
    ceph: Path | None = None,
    pose: Path | None = None,
) -> dict[str, float]:
    """Write the page of all lanes; a lane whose page is not given is left out."""
    pages = [path for path in (spine, chest, ceph, pose) if path is not None]
    if missing := [str(path) for path in pages if not path.is_file()]:
        raise StageError(
            f"no pages at {', '.join(missing)}: run `dvc repro` for the report stages of these lanes"
        )
    if not pages:
        raise StageError("no lane's page was given: name at least one of --spine, --chest, --ceph, --pose")
    links = {path: Path(os.path.relpath(path, output.parent)).as_posix() for path in pages}
    found = [(links[path], read_summary(path)) for path in pages]
    content = _page(found).html().encode("utf-8")
    output.write_bytes(content)
    return {"n_lanes": len(found), "kilobytes": round(len(content) / 1024)}


def _page(lanes: Sequence[tuple[str, Summary]]) -> Page:
    page = Page("Plumbline", "Landmark models that check and correct themselves: how every lane does")
    page.contents = False
    phantoms = [summary.title for _, summary in lanes if summary.phantom]
    if phantoms:
        page.head.append(banner("phantom", True, "", only=None if len(phantoms) == len(lanes) else phantoms))
    rows = [_overview_row(link, summary) for link, summary in lanes]
    headings = [
        "Lane",
        "Data set",
        "Mean error",
        "Interval",
        "Strongest floor",
        "Its error",
        "The model against it",
    ]
    page.head.append(tag("section", table(headings, rows, numeric=(2, 3, 5))))
    for link, summary in lanes:
        drawn = picture(
            comparison_figure(summary.methods, summary.unit), f"Mean error on the test set ({summary.unit})."
        )
        text = stack(
            answers(summary.answers), tag("p", tag("a", f"{summary.title}: the whole page", href=link))
        )
        lead = f"{summary.subject}. {_data_words(summary)}"
        page.add(summary.lane, summary.title, tiles(summary.tiles), grid(text, drawn), lead=lead)
    return page


def _data_words(summary: Summary) -> str:
    data = "Generated phantom, not real data." if summary.phantom else f"Data set: {summary.dataset}."
    return f"{data} {summary.caveat.capitalize()}." if summary.caveat else data


def _overview_row(link: str, summary: Summary) -> list[Child | Cell]:
    """The model beside the strongest of the methods that it was compared with."""
    model = next((m for m in summary.methods if m.is_model), None)
    floors = [m for m in summary.methods if m.verdict and not m.is_model and math.isfinite(m.error.value)]
    strongest = min(floors, key=lambda m: m.error.value, default=None)
    return [
        tag("a", summary.title, href=link),
        ", ".join(
            text for text in ("phantom" if summary.phantom else summary.dataset, summary.caveat) if text
        ),
        f"{figure(model.error.value)} {summary.unit}" if model else "no model",
        interval(model.error) if model else "",
        strongest.name if strongest else "none",
        figure(strongest.error.value) if strongest else "",
        verdict_words(strongest.verdict) if strongest else "not compared",
    ]


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
