"""Milliseconds a frame of every form of refiner at its described size, one frame at a time on one CPU thread.

    python -m bench.pose_latency [--frames 300]

Torch and ONNX Runtime answer the same frames in turn; weights are random, which time does not depend on. Time is
that of the one thread on its core, so that other people's work on a busy machine counts less; its load is printed,
for caches are shared. Shown are median and 95th percentile of one pass of the network, what a frame costs where
sixteen are given at once, and what the angles of a frame cost where a form needs them. Exit status 1 where the
median of a described refiner (depth, joint) under ONNX Runtime is over the promise.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.core.export.onnx_file import session
from stages.core.model.card import ModelCard, save_model
from stages.pose.body.skeleton import JOINTS
from stages.pose.model.architecture import FORMS, PUBLISHED, Architecture, Form
from stages.pose.model.forms import INPUTS, build
from stages.pose.model.forward import angle_inputs
from stages.pose.model.inference import Refiner
from stages.pose.onnx_export import export, one_pass, sample_inputs

WINDOW = Architecture(width=48, layers=2, heads=4, dropout=0.05)
WINDOW_S = (-0.4, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.4)
PROMISED_MS = 1.0
DESCRIBED: tuple[Form, ...] = ("depth", "joint")
_WARM = 10
_STRETCH = 50
_TOGETHER = 16


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=300)
    frames = parser.parse_args().frames
    torch.manual_seed(0)
    print(f"load of the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    heading = f"{'':12}{'parameters':>12}{'torch p50':>12}{'p95':>8}{'onnx p50':>12}{'p95':>8}"
    print(f"{heading}{f'of {_TOGETHER}':>12}{'difference':>12}")
    missed = []
    with tempfile.TemporaryDirectory() as scratch:
        for form in FORMS:
            folder, file = Path(scratch) / form, Path(scratch) / f"{form}.onnx"
            save_untrained(form, folder)
            found = export(folder, file)
            refiner = Refiner.load(folder, threads=1)
            times = time_in_turn(*passes(refiner, file), frames)
            together, _ = time_in_turn(passes(refiner, file, _TOGETHER)[1], lambda: None, frames // 4)
            count = sum(p.numel() for p in refiner.network.parameters())
            cells = "".join(f"{p50:>9.3f} ms{p95:>8.3f}" for p50, p95 in times)
            cells += f"{together[0] / _TOGETHER:>9.3f} ms"
            print(f"{form:12}{count:>12,}{cells}{found.max_difference_m:>10.0e} m", flush=True)
            if form in DESCRIBED and times[1][0] > PROMISED_MS:
                missed.append(form)
    pose = np.random.default_rng(0).normal(0, 0.3, (1, 17, 3))
    (p50, p95), _ = time_in_turn(lambda: angle_inputs(pose, np.ones((1, 17))), lambda: None, frames)
    print(f"angles of a frame, for joint and main: {p50:.3f} ms, p95 {p95:.3f} ms")
    if missed:
        sys.exit(f"over {PROMISED_MS:g} ms a frame: {', '.join(missed)}")


def save_untrained(form: Form, folder: Path) -> None:
    """A model folder of the described size with random weights."""
    params: dict[str, Any] = {
        "architecture": PUBLISHED.get(form, WINDOW).model_dump(),
        "window_s": list(WINDOW_S if form == "window" else (0.0,)),
    }
    if form == "main":
        params["branches"] = {name: PUBLISHED[name].model_dump() for name in ("depth", "joint")}
    network = build(form, params)
    card = ModelCard(
        lane="pose", dataset="none", architecture=FORMS[form].architecture, key="untracked", params=params,
        input=None, schema=JOINTS, n_train=0, split_sha256="",
    )  # fmt: skip
    save_model(folder, network, card)


def passes(
    refiner: Refiner, file: Path, frames: int = 1
) -> tuple[Callable[[], object], Callable[[], object]]:
    """One pass through torch, and the same one through ONNX Runtime, of so many frames."""
    inputs = sample_inputs(refiner, frames)
    network, runtime = one_pass(refiner.network), session(file)
    tensors = tuple(map(torch.from_numpy, inputs))
    feed = dict(zip(INPUTS[refiner.form], inputs, strict=True))

    def by_torch() -> object:
        with torch.inference_mode():
            return network(*tensors)

    return by_torch, lambda: runtime.run(None, feed)


def time_in_turn(
    one: Callable[[], object], other: Callable[[], object], repeats: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Median and 95th percentile of both in milliseconds.

    Taken in turn, so that a busy machine slows both alike, and a stretch of calls each, of which the first ones
    do not count: alone in its process, neither finds the other's weights in the caches.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    while len(taken[0]) < repeats:
        for seconds, work in zip(taken, (one, other), strict=True):
            for i in range(-_WARM, _STRETCH):
                start = time.thread_time()
                work()
                if i >= 0:
                    seconds.append(time.thread_time() - start)
    (a, b), (c, d) = (np.percentile(1000 * np.array(row), [50, 95]) for row in taken)
    return (float(a), float(b)), (float(c), float(d))


if __name__ == "__main__":
    main()
