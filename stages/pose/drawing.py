"""Stick figures of poses, as the camera sees them and from the side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.pose.body.skeleton import SCHEMA

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"left": "#1f77b4", "right": "#d62728", "middle": "#333333"}
_BEFORE = "#b8b8b8"


def draw_figure(axes: Axes, pose: np.ndarray, across: int, faded: bool = False) -> None:
    """Draw one pose (17, 3), camera frame, metres: axis `across` (0: x, 2: depth) to the right, y upwards."""
    for a, b in SCHEMA.edges:
        colour = _BEFORE if faded else _COLOURS[side_of(a, b)]
        line = pose[[a, b]]
        axes.plot(line[:, across], -line[:, 1], "-", color=colour, linewidth=2, solid_capstyle="round")


def write_comparison(path: Path, before: np.ndarray, after: np.ndarray, n_frames: int = 5) -> None:
    """Write a PNG of some frames of (T, 17, 3) poses: above as the camera sees them, below from the side.

    What went in is grey, what came out is coloured (left blue, right red).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = np.unique(np.linspace(0, len(before) - 1, n_frames).round().astype(int))
    figure = Figure(figsize=(2.2 * len(chosen), 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(chosen), squeeze=False, sharey=True)
    for column, frame in enumerate(chosen):
        for row, across in enumerate((0, 2)):
            axes = grid[row, column]
            draw_figure(axes, before[frame], across, faded=True)
            draw_figure(axes, after[frame], across)
            axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.0), aspect="equal", xticks=[], yticks=[])
        grid[0, column].set_title(f"frame {frame}", fontsize=9)
    grid[0, 0].set_ylabel("as the camera sees it", fontsize=9)
    grid[1, 0].set_ylabel("from the side; depth to the right", fontsize=9)
    figure.savefig(path, dpi=90, metadata={"Software": None})


def side_of(a: int, b: int) -> str:
    """The side that both ends of an edge are on: left, right or middle."""
    sides = {SCHEMA.names[joint].partition("_")[0] for joint in (a, b)} - {"nose"}
    return sides.pop() if len(sides) == 1 else "middle"
