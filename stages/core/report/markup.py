"""HTML and SVG as nested function calls. Text is escaped unless it already is `Markup`.

>>> tag("p", "a < b ", tag("b", "bold"), class_="note")
'<p class="note">a &lt; b <b>bold</b></p>'
"""

from __future__ import annotations

import html
from typing import TypeAlias

VOID = frozenset({"br", "hr", "img", "meta"})
"""Elements without content or end tag in HTML."""


class Markup(str):
    """Text that is markup already and goes into a page as it is."""


Child: TypeAlias = "str | int | None"
"""What an element may hold: text, a whole number, markup (a `str` too) or nothing."""


def escape(text: object) -> Markup:
    """`text` as it may stand between tags or inside quotes; markup passes unchanged."""
    return text if isinstance(text, Markup) else Markup(html.escape(str(text), quote=True))


def join(*children: Child) -> Markup:
    """The children one after another, each escaped, None left out."""
    return Markup("".join(escape(child) for child in children if child is not None))


def tag(name: str, /, *children: Child, **attributes: object) -> Markup:
    """One element.

    Attribute names lose a trailing underscore (`class_`) and turn inner ones into hyphens
    (`text_anchor`); an attribute whose value is None is left out. Floats are written by `decimal`.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    return Markup(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{join(*children)}</{name}>")


def _attribute(key: str, value: object) -> str:
    text = decimal(value) if isinstance(value, float) else value
    return f' {key.rstrip("_").replace("_", "-")}="{escape(text)}"'


def decimal(value: float, places: int = 2) -> str:
    """A coordinate in as few characters as its decimals allow: 3.50 is "3.5", -0.00 is "0"."""
    text = f"{value:.{places}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
