"""One self-contained HTML page: it loads nothing, and the same content gives the same bytes."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from stages.core.errors import StageError
from stages.core.report.markup import Child, Markup, join, tag
from stages.core.report.wording import VERDICTS, Estimate, figure, interval, interval_name, listing

SUMMARY_ID = "plumbline-summary"
RESEARCH_USE = "Research use only: not for diagnosis or treatment."


@dataclass(frozen=True)
class Tile:
    """A headline figure. `value` overrides the estimate's figure where a word or a count says it better."""

    label: str
    estimate: Estimate | None = None
    unit: str = ""
    value: str = ""
    note: str = ""


@dataclass(frozen=True)
class Method:
    """A row of the comparison: a method's error, and how the model differs from it on the same cases.

    Attributes:
        key, name: what the evaluation and what the page call it.
        difference: mean of the model's error minus this method's; None where they were not compared.
        verdict: of the model, in the words of stages.core.evaluate.statistics.
    """

    key: str
    name: str
    error: Estimate
    is_model: bool = False
    difference: Estimate | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Summary:
    """What the page of all lanes repeats of a lane's page; it travels inside that page as JSON.

    Attributes:
        answers: (style, sentence): is it any good, and where does it fail; style is good, bad or open.
        caveat: what else every figure of the lane has to be read with, for example "simulated".
    """

    lane: str
    title: str
    subject: str
    dataset: str
    phantom: bool
    unit: str
    tiles: tuple[Tile, ...] = ()
    methods: tuple[Method, ...] = ()
    answers: tuple[tuple[str, str], ...] = ()
    caveat: str = ""


@dataclass
class Page:
    """A page in the making: `add` sections, then take `html`; `contents` lists the sections at the top."""

    title: str
    subtitle: str
    head: list[Markup] = field(default_factory=list)
    sections: list[tuple[str, str, Markup]] = field(default_factory=list)
    summary: Summary | None = None
    contents: bool = True

    def add(self, anchor: str, heading: str, *content: Child, lead: str | None = None) -> None:
        """Append a section; `anchor` is its id on the page."""
        intro = None if lead is None else tag("p", lead, class_="lead")
        self.sections.append(
            (anchor, heading, tag("section", tag("h2", heading), intro, *content, id=anchor))
        )

    def html(self) -> str:
        """The whole document."""
        links = [tag("a", heading, href=f"#{anchor}") for anchor, heading, _ in self.sections]
        body = tag(
            "main",
            tag("h1", self.title),
            tag("p", self.subtitle, class_="sub"),
            *self.head,
            tag("nav", *links, aria_label="Sections") if self.contents else None,
            *(section for _, _, section in self.sections),
            tag("footer", RESEARCH_USE),
        )
        head = tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("title", self.title),
            tag("style", Markup(_style())),
        )
        embedded = None if self.summary is None else _embed(self.summary)
        return f"<!DOCTYPE html>\n{tag('html', head, tag('body', body, embedded), lang='en')}\n"


@cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def banner(dataset: str, phantom: bool, source: str, only: Sequence[str] | None = None) -> Markup:
    """Which data a page is about; a phantom is said so that nobody takes it for films of people.

    Args:
        source: words on the data set, for example its size.
        only: on a page of several lanes, the titles of those that the phantom is about; None for all.
    """
    if phantom:
        about = "this page" if only is None else f"this page about {listing(list(only))}"
        text = join(
            tag("strong", "Generated phantom, not real data. "),
            f"Every figure on {about} was measured on data that this program drew itself. It shows that the "
            f"pipeline works; it says nothing about accuracy on people. {RESEARCH_USE}",
        )
    else:
        text = join("Data set: ", tag("strong", dataset), f" ({source}). {RESEARCH_USE}")
    return tag("div", tag("p", text), class_="banner phantom" if phantom else "banner", role="note")


def answers(sentences: Sequence[tuple[str, str]]) -> Markup:
    """The page's first sentences, each with a style: good, bad or open."""
    return tag("ul", *(tag("li", sentence, class_=style) for style, sentence in sentences), class_="answers")


def tiles(entries: Sequence[Tile]) -> Markup:
    return tag("div", *map(_tile, entries), class_="tiles")


def _tile(entry: Tile) -> Markup:
    value = entry.value or (figure(entry.estimate.value) if entry.estimate else "")
    bounds = ""
    if entry.estimate and entry.estimate.has_interval:
        bounds = f"{interval_name(entry.estimate)} {interval(entry.estimate)}"
    return tag(
        "div",
        tag("div", entry.label, class_="label"),
        tag("div", value, tag("small", " ", entry.unit) if entry.unit else None, class_="value"),
        *(tag("div", line, class_="range") for line in (bounds, entry.note) if line),
        class_="tile",
    )


@dataclass(frozen=True)
class Cell:
    """A table's cell that is more than text: `heat` between 0 and 1 shades it, `style` names a class."""

    text: Child
    heat: float | None = None
    style: str | None = None


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[Child | Cell]],
    numeric: Sequence[int] = (),
    caption: Child = None,
    emphasised: Sequence[int] = (),
    style: str | None = None,
) -> Markup:
    """A table whose first column names the rows.

    Args:
        numeric: columns to set flush right.
        emphasised: rows to set bold.
    """
    kinds = dict.fromkeys(numeric, "number")
    head = tag("tr", *(tag("th", text, class_=kinds.get(c), scope="col") for c, text in enumerate(headings)))
    body = [
        tag(
            "tr",
            *(_cell(c, cell, kinds) for c, cell in enumerate(row)),
            class_="model" if r in emphasised else None,
        )
        for r, row in enumerate(rows)
    ]
    said = None if caption is None else tag("caption", caption)
    return tag(
        "div", tag("table", said, tag("thead", head), tag("tbody", *body), class_=style), class_="wide"
    )


def _cell(column: int, cell: Child | Cell, kinds: dict[int, str]) -> Markup:
    if column == 0:
        return tag("th", cell.text if isinstance(cell, Cell) else cell, scope="row", class_=kinds.get(0))
    if not isinstance(cell, Cell):
        return tag("td", cell, class_=kinds.get(column))
    shade = (
        None if cell.heat is None else f"background: rgb(var(--heat) / {max(0.0, min(cell.heat, 1.0)):.2f})"
    )
    return tag("td", cell.text, class_=cell.style or kinds.get(column), style=shade)


def verdict_words(verdict: str) -> Markup:
    """A verdict of stages.core.evaluate.statistics, as a page says it."""
    text, style = VERDICTS[verdict]
    return tag("span", text, class_=style)


def picture(drawn: Child, caption: Child) -> Markup:
    return tag("figure", drawn, tag("figcaption", caption))


def grid(*content: Child) -> Markup:
    """Side by side where there is room for two."""
    return tag("div", *content, class_="grid")


def beside(drawn: Child, content: Child) -> Markup:
    """A tall figure as wide as it is, and what stands to its right in the rest of the width."""
    return tag("div", drawn, content, class_="beside")


def stack(*content: Child) -> Markup:
    """One below the other."""
    return tag("div", *content, class_="stack")


def row(*content: Child) -> Markup:
    """Side by side, each as wide as it is."""
    return tag("div", *content, class_="row")


def note(*content: Child) -> Markup:
    return tag("p", *content, class_="note")


def _embed(summary: Summary) -> Markup:
    """The summary as JSON; bounds that are not finite become null, and no text can end the element."""
    raw = _finite(dataclasses.asdict(summary))
    text = json.dumps(raw, sort_keys=True, allow_nan=False).replace("<", "\\u003c")
    return tag("script", Markup(text), type="application/json", id=SUMMARY_ID)


def read_summary(page: Path) -> Summary:
    """The summary inside a lane's page.

    Raises:
        StageError: the file is no page of a report stage.
    """
    start = f'<script type="application/json" id="{SUMMARY_ID}">'
    _, found, rest = page.read_text(encoding="utf-8").partition(start)
    if not found:
        raise StageError(
            f"{page} holds no summary: expected the page of a lane's report stage; run that stage again"
        )
    raw: dict[str, Any] = json.loads(rest.partition("</script>")[0])
    raw["tiles"] = tuple(Tile(**{**t, "estimate": _estimate(t["estimate"])}) for t in raw["tiles"])
    raw["methods"] = tuple(
        Method(**{**m, "error": _estimate(m["error"]), "difference": _estimate(m["difference"])})
        for m in raw["methods"]
    )
    raw["answers"] = tuple((style, sentence) for style, sentence in raw["answers"])
    return Summary(**raw)


def _estimate(raw: dict[str, float] | None) -> Estimate | None:
    return None if raw is None else Estimate(**{k: math.nan if v is None else v for k, v in raw.items()})


def _finite(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
