"""Outlines of a made-up head in millimetres, all drawn through its landmarks: what a lateral film shows.

Each function takes the landmarks by name, in the frame of the head (see phantom_shape.py), and returns curves
(n, 2). Where a landmark is the tip or turn of a contour, the curve has it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Curve = np.ndarray
"""float64 (n, 2) mm"""
Points = Mapping[str, np.ndarray]


def smooth(points: Sequence[np.ndarray], closed: bool = False, steps: int = 8) -> Curve:
    """A Catmull-Rom curve through the points."""
    knots = np.asarray(points, float)
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    before, start, end, after = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    u = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = start + 0.5 * u * (
        end
        - before
        + u * (2 * before - 5 * start + 4 * end - after + u * (3 * (start - end) + after - before))
    )
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, knots[-1:]])


def at(point: np.ndarray, x: float, y: float) -> np.ndarray:
    """The point (x, y) mm away."""
    return point + np.array([x, y])


def profile(p: Points) -> Curve:
    """Skin of head and neck, closed far below the film."""
    nasion, nose = p["nasion"], p["subnasale"]
    face = [
        at(nasion, -20, -66),
        at(nasion, 1, -40),
        at(nasion, 8, -14),
        at(nasion, 7, 1),
        at(0.5 * (nasion + nose), 11, -4),
        at(nose, 14, -14),
        at(nose, 13, -6),
        at(nose, 5, -1),
        nose,
        at(0.6 * nose + 0.4 * p["upper_lip"], -1.5, 0),
        p["upper_lip"],
        at(0.5 * (p["upper_lip"] + p["lower_lip"]), -7, 0),
        p["lower_lip"],
        at(p["supramentale"], 11, -1),
        p["soft_pogonion"],
        at(p["menton"], 9, 8),
        at(p["menton"], -12, 12),
        at(p["menton"], -36, 22),
        at(p["gonion"], 26, 70),
        at(p["gonion"], 24, 140),
    ]
    back = [
        at(p["gonion"], -70, 140),
        at(p["gonion"], -70, 40),
        np.array([-92.0, 42.0]),
        np.array([-106.0, 0.0]),
        np.array([-98.0, -52.0]),
        np.array([-58.0, -93.0]),
        np.array([-5.0, -103.0]),
    ]
    return smooth([*face, *back], closed=True)


def vault(p: Points) -> tuple[Curve, Curve]:
    """Outer and inner table of the skull's roof, from the brow over the top to the base."""
    outer = [
        at(p["nasion"], -0.5, -1),
        at(p["nasion"], 2, -10),
        at(p["nasion"], -3, -36),
        at(p["nasion"], -24, -62),
        np.array([-5.0, -97.0]),
        np.array([-56.0, -87.0]),
        np.array([-94.0, -48.0]),
        np.array([-101.0, 0.0]),
        np.array([-84.0, 34.0]),
        np.array([-48.0, 46.0]),
        at(p["articulare"], -6, 8),
    ]
    base = [p["articulare"], at(p["sella"], -11, 13), at(p["sella"], -6, 2), at(p["sella"], 9, 0)]
    roof = smooth([*outer, *base, at(p["nasion"], -22, -3), at(p["nasion"], -10, -5)], closed=True)
    centre = np.array([-12.0, -30.0])
    thinner = np.array([0.925, 0.915])
    inner = centre + (roof - centre) * thinner
    return roof, inner


def anterior_base(p: Points) -> Curve:
    """Floor of the front fossa, from the sella's front lip to the brow."""
    s, n = p["sella"], p["nasion"]
    return smooth([at(s, 7, -4), 0.7 * s + 0.3 * n + (0, -3), 0.4 * s + 0.6 * n + (0, -5), at(n, -9, -9)])


def sella_cup(p: Points) -> Curve:
    """Floor of the sella, a cup about the landmark, with its front and back lips."""
    angles = np.radians(np.linspace(-50, 230, 24))
    cup = np.column_stack([5.6 * np.cos(angles), 5.0 * np.sin(angles)])
    return np.concatenate([[[8.5, -5.0]], cup, [[-7.0, -6.5]]]) + p["sella"]


def clivus(p: Points) -> Curve:
    """Under side of the base of the skull: from behind the sella down across the ramus at articulare."""
    ar = p["articulare"]
    return smooth([at(p["sella"], -7, 4), at(p["sella"], -12, 17), at(ar, 3.2, -7), ar, at(ar, -5, 9)])


def petrous(p: Points) -> Curve:
    """The dense bone about the ear."""
    places = ((-14, -8), (2, -12), (14, -4), (12, 8), (-6, 10))
    return smooth([at(p["porion"], x, y) for x, y in places], closed=True)


def cheek(p: Points) -> Curve:
    """The cheek bone, below the orbit."""
    places = ((-16, 0), (-2, 3), (3, 14), (-8, 26), (-20, 14))
    return smooth([at(p["orbitale"], x, y) for x, y in places], closed=True)


def nasal_bone(p: Points) -> Curve:
    n = p["nasion"]
    return smooth(
        [at(n, 0, 0.8), at(n, 5, 10), at(n, 11, 23), at(n, 7, 21), at(n, 0, 9), at(n, -5, 3)], closed=True
    )


def brow(p: Points) -> Curve:
    """Frontal bone above nasion, whose lower end is the landmark."""
    n = p["nasion"]
    return smooth([n, at(n, 2.2, -8), at(n, -2, -30), at(n, -9, -28), at(n, -8, -8)], closed=True)


def orbit(p: Points) -> tuple[Curve, Curve]:
    """The orbit's opening and its lower rim; the rim's lowest point is orbitale."""
    o = p["orbitale"]
    angles = np.radians(np.linspace(0, 360, 40, endpoint=False))
    hole = o + np.array([0.0, -15.0]) + np.column_stack([13 * np.cos(angles), 15 * np.sin(angles)])
    rim = smooth([at(o, -16, -10), at(o, -9, -3.2), o, at(o, 7, -3.4), at(o, 11, -10)])
    return hole, rim


def palate(p: Points) -> Curve:
    """Hard palate, a wedge whose ends are ANS and PNS."""
    a, b = p["ans"], p["pns"]
    along = a - b
    return smooth(
        [
            b,
            b + 0.15 * along + (0, -1.8),
            b + 0.8 * along + (0, -2.2),
            at(a, -3.5, -1.6),
            a,
            at(a, -4, 2),
            b + 0.75 * along + (0, 2.6),
            b + 0.2 * along + (0, 1.6),
        ],
        closed=True,
        steps=5,
    )


def maxilla(p: Points) -> Curve:
    """Bone in front and below the palate; subspinale is the hollow of its front."""
    a, spine, tip = p["subspinale"], p["ans"], p["upper_incisor"]
    crest = tip + 0.44 * (upper_apex(p) - tip) + (2.4, 0)
    back = at(p["pns"], 3, 1)
    return smooth(
        [
            spine,
            at(0.5 * (a + spine), -0.9, 0),
            a,
            at(0.55 * a + 0.45 * crest, 0.6, 0),
            crest,
            at(crest, -7, 0),
            at(crest, -34, -1),
            at(back, 4, 12),
            back,
            at(spine, -20, 1),
        ],
        closed=True,
        steps=5,
    )


def upper_apex(p: Points) -> np.ndarray:
    """End of the upper incisor's root, behind subspinale."""
    return at(p["subspinale"], -4.5, 1)


def lower_apex(p: Points) -> np.ndarray:
    """End of the lower incisor's root, behind supramentale."""
    return at(p["supramentale"], -5, 5)


def incisor(tip: np.ndarray, apex: np.ndarray) -> tuple[Curve, Curve]:
    """A front tooth from its tip to the end of its root: the whole tooth and its crown."""
    axis = apex - tip
    across = np.array([-axis[1], axis[0]]) / np.hypot(*axis)
    half = np.array([[0.0, 0.3], [0.15, 2.0], [0.36, 3.5], [0.45, 3.3], [0.75, 2.4], [1.0, 0.6]])
    left = tip + half[:, :1] * axis + half[:, 1:] * across
    right = tip + half[:, :1] * axis - half[:, 1:] * across
    return np.concatenate([left, right[::-1]]), np.concatenate([left[:4], right[3::-1]])


def back_teeth(p: Points) -> list[tuple[Curve, Curve]]:
    """Crown and roots of four pairs of teeth behind the incisors, along the plane of the bite."""
    front = 0.5 * (p["upper_incisor"] + p["lower_incisor"])
    end = at(0.5 * (p["pns"] + p["gonion"]), 16, 10)
    teeth = []
    for place, width in ((0.22, 6.5), (0.38, 6.5), (0.58, 9.5), (0.82, 9.5)):
        centre = front + place * (end - front)
        for upward in (-1, 1):
            box = np.array([[-0.5, 0.6], [0.5, 0.6], [0.48, 6.5], [-0.48, 6.5]]) * [width, upward]
            roots = np.array([[-0.44, 6.5], [0.44, 6.5], [0.3, 18], [-0.3, 18]]) * [width, upward]
            teeth.append((centre + box, centre + roots))
    return teeth


def mandible(p: Points) -> Curve:
    """Lower jaw: condyle, ramus through articulare, angle at gonion, lower border, chin, alveolar crest."""
    ar, go, me = p["articulare"], p["gonion"], p["menton"]
    pog, gn, b, tip = p["pogonion"], p["gnathion"], p["supramentale"], p["lower_incisor"]
    crest = tip + 0.44 * (lower_apex(p) - tip) + (2.4, 0)
    border = me - go
    ramus = go - ar
    return smooth(
        [
            at(ar, 4, -10),
            at(ar, -0.5, -6),
            ar,
            ar + 0.5 * ramus + (1.2, 0),
            at(go, -0.2, -8),
            go,
            go + 0.14 * border + (-1.0, 2.2),
            go + 0.5 * border + (0, -1.5),
            go + 0.85 * border + (0, 0.6),
            me,
            gn,
            pog,
            at(0.5 * (pog + b), -0.6, 0),
            b,
            at(0.5 * (b + crest), 0.4, 0),
            crest,
            at(crest, -8, 1),
            at(crest, -36, 2),
            ar + 0.45 * ramus + (33, -4),
            at(ar, 29, -6),
            at(ar, 21, 1),
            at(ar, 13, -7),
        ],
        closed=True,
        steps=6,
    )


def spine(p: Points) -> list[Curve]:
    """Bodies of the upper neck vertebrae, behind the throat and down to the lower edge of the film."""
    top = at(p["articulare"], -16, 18)
    lean = np.array([0.10, 1.0])
    bodies = []
    for i in range(6):
        centre = top + 16.5 * i * lean
        half = np.array(
            [[-8, -6.5], [0, -5.6], [8, -6.5], [7.4, 0], [8.4, 6.5], [0, 5.7], [-8, 6.5], [-7.4, 0]]
        )
        bodies.append(smooth(list(centre + half), closed=True, steps=4))
    return bodies


def airway(p: Points) -> Curve:
    """Nose and throat: air behind the palate, down between tongue and spine."""
    pns, go = p["pns"], p["gonion"]
    upper = [at(p["ans"], -16, -5), at(p["nasion"], -14, 26), at(pns, 4, -18), at(pns, -11, -14)]
    lower = [at(pns, -17, 6), at(go, -10, 0), at(go, -5, 60), at(go, 6, 60), at(go, 1, 4), at(pns, -7, 10)]
    return smooth([*upper, *lower, at(pns, -1, -3)], closed=True)
