"""Text cannot become markup, and numbers are written the same everywhere."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.report.markup import Markup, decimal, escape, join, tag


class Reader(HTMLParser):
    """Collects the elements and the text of a document."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"])))
def test_any_text_comes_back_from_an_element_and_an_attribute(text: str) -> None:
    reader = Reader()
    reader.feed(tag("p", text, title=text))
    reader.close()
    assert reader.elements == [("p", {"title": text})]
    assert reader.text == text


def test_markup_is_not_escaped_twice() -> None:
    inner = tag("b", "1 < 2")
    assert tag("p", inner, None, " & ") == "<p><b>1 &lt; 2</b> &amp; </p>"
    assert escape(inner) is inner
    assert isinstance(join("a", inner), Markup)


def test_attribute_names_and_void_elements() -> None:
    assert tag("text", "x", class_="name", text_anchor="end", y=1.50, id=None) == (
        '<text class="name" text-anchor="end" y="1.5">x</text>'
    )
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.5, "3.5"), (-0.001, "0"), (0.0, "0"), (120.0, "120"), (1 / 3, "0.33"), (-2.999, "-3")],
)
def test_decimal_is_short(value: float, text: str) -> None:
    assert decimal(value) == text


@given(st.floats(-1e6, 1e6))
def test_decimal_keeps_the_value_to_its_places(value: float) -> None:
    assert float(decimal(value)) == pytest.approx(value, abs=0.005001)
