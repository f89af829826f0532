"""What can be told of landmarks from their names and labels: mirror partners, and which names are landmarks at all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from stages.custom.raw.record import LabelSet

RARE = 0.2
"""a name that a smaller share of the labelled films has is taken for a slip, not a landmark"""
_WORDS = {"left": "right", "right": "left", "l": "r", "r": "l", "links": "rechts", "rechts": "links"}
_PART = re.compile(r"(?<![a-z])(left|right|links|rechts)|(left|right|links|rechts)(?![a-z])", re.IGNORECASE)
_LETTER = re.compile(r"(?:(?<=^)|(?<=[ _.\-]))[lr](?=$|[ _.\-])", re.IGNORECASE)
_CAPITAL = re.compile(r"(?<=[a-z0-9])[LR]$|^[LR](?=[A-Z][a-z])")


def landmarks_of(labels: LabelSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names that are landmarks, in the labels' order, and names that too few films have."""
    usable = [label for label in labels.labels if label.points]
    seen = Counter(name for label in usable for name in {n.casefold() for n, _, _ in label.points})
    rare = {name for name in labels.names if seen[name.casefold()] < RARE * len(usable)}
    return tuple(n for n in labels.names if n not in rare), tuple(n for n in labels.names if n in rare)


def mirror_partners(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of names that differ in left and right alone, in the order of the first of each.

    Left and right may be whole words (left_eye, EyeRight), letters set apart (l_eye, eye-r) or capitals (eyeL).
    """
    known = {name.casefold(): name for name in names}
    pairs: list[tuple[str, str]] = []
    paired: set[str] = set()
    for name in names:
        partner = next((known[o.casefold()] for o in _other_sides(name) if o.casefold() in known), None)
        if partner is not None and partner != name and not {name, partner} & paired:
            pairs.append((name, partner))
            paired |= {name, partner}
    return tuple(pairs)


def _other_sides(name: str) -> list[str]:
    found = []
    for pattern in (_PART, _LETTER, _CAPITAL):
        other = pattern.sub(lambda told: _like(told[0], _WORDS[told[0].casefold()]), name)
        if other != name:
            found.append(other)
    return found


def _like(word: str, other: str) -> str:
    """`other` in the case of `word`."""
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
