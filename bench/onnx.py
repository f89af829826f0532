"""Latency of each film lane's model under ONNX Runtime and under torch, on one CPU thread: the least of some.

    python -m bench.onnx [LANE ...] [--repeats 10]

Both take a decoded phantom film of its real size and give points in its px. Needs the models of a build.
For pose see bench.pose_latency.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.timing import times_in_turn
from flows.lanes import LANES, Lane
from stages.core.export.onnx_file import FILM, FilmModel, Inputs, ask, session
from stages.core.params import project_root

FILM_LANES = ("spine", "chest", "ceph")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lanes", nargs="*", default=list(FILM_LANES), metavar="LANE")
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':8}{'film':>14}{'torch':>12}{'onnx':>12}{'onnx / torch':>14}{'file':>10}")
    for name in arguments.lanes:
        print(_line(LANES[name], arguments.repeats), flush=True)


def _line(lane: Lane, repeats: int) -> str:
    module, folder = lane.module("onnx_export"), project_root() / lane.model
    with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
        file = Path(scratch) / "model.onnx"
        module.export(folder, file)
        model, opened = module.film_model(_opened(lane, folder)), session(file)
        inputs = _inputs(model, module.phantoms()[0])
        ours, theirs = times_in_turn(lambda: model.answer(inputs), lambda: ask(opened, inputs), repeats)
        size = file.stat().st_size / 1e6
    torch_ms, onnx_ms = 1000 * ours, 1000 * theirs
    height, width = inputs[FILM].shape
    return (
        f"{lane.name:8}{f'{height} x {width}':>14}{torch_ms:>9.1f} ms{onnx_ms:>9.1f} ms{onnx_ms / torch_ms:>14.2f}"
        f"{size:>7.1f} MB"
    )


def _opened(lane: Lane, folder: Path) -> Any:
    """What the lane's `film_model` takes: the opened model, or the folder itself."""
    return folder if lane.name == "spine" else lane.module("predict").open_model(folder)


def _inputs(model: FilmModel, film: np.ndarray) -> Inputs:
    inputs: dict[str, np.ndarray] = {FILM: film}
    if "hints" in model.inputs:
        inputs["hints"] = np.full((len(model.card.landmarks), 2), np.nan, np.float32)
    return inputs


if __name__ == "__main__":
    main()
