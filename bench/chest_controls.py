"""What each step of the chest regressor's curriculum is worth: arms that differ in one thing, on one split.

    python -m bench.chest_controls --raw DIR [--device cuda] [--out reports/studies] [ARM ...]

    wing        full_wing; wing_more and wing_more_twice: as many further epochs with wing alone as symmetry and
                complete have, so that these are compared with training on and not with having stopped
    mirror      mirrored films exchange names (full_wing), do not, or there are none
    units       wing in px (full_wing), fed with shares of the film, and mean squared error
    symmetry    relative to the label (symmetry), about the shape's own axis, about a vertical line
    attention   before the average, before a spatial head, and a spatial head without it
    clipped     moved points are drawn onto the film

Films of 112 px, the published ResNet-18 from random weights (its size as the profile `cpu` has it). Every arm is judged
on the same val, gate and test films, differences are paired film by film, intervals are bootstraps over films (no
patients are known). Arms share seed, split and schedule; a shared parent is trained once. One seed only, so that
differences near the interval's edge are no proof. Writes chest_controls.csv, anew after every arm, and prints it.
DIR is a folder in the COVID-19 layout. Without ARM all are trained; with some, what they need as well.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from stages.chest import convert, phase, split, start
from stages.chest.schema import CHEST, REPORT_FRAME
from stages.core.data.labels import LabelledFilms
from stages.core.evaluate.errors import film_errors, scaled_errors
from stages.core.evaluate.statistics import Bootstrap, bootstrap_mean, compare
from stages.core.params import load_params
from stages.core.stage import Observer

if TYPE_CHECKING:
    from stages.chest.regressor.network import LandmarkRegressor

JUDGED = ("val", "gate", "test")
BOOTSTRAP = Bootstrap(resamples=2000, level=0.95, method="bca", minimum_groups=6)
FIRST, MORE = 60, 20
"""Epochs of an arm that starts from random weights, and of one that goes on from a parent."""
RATE, LATER_RATE = 0.001, 0.0003
WING = {"wing": 1.0}


@dataclass(frozen=True)
class Arm:
    """One training.

    Attributes:
        parent: the arm whose weights this one goes on from; None for random ones.
        against: arms that it is compared with.
        weights: of the losses.
        recipe: a defect of stages/chest/reference.py.
        symmetry: form of the symmetry loss.
        mirror: whether films are mirrored.
        attention, head: as in the architecture.
    """

    parent: str | None = None
    against: tuple[str, ...] = ("full_wing",)
    weights: dict[str, float] = field(default_factory=lambda: dict(WING))
    recipe: str | None = None
    symmetry: Literal["relative", "line"] = "relative"
    mirror: bool = True
    attention: bool = False
    head: Literal["average", "spatial"] = "average"


SYMMETRY = WING | {"symmetry": 0.3}
ARMS = {
    "full_wing": Arm(against=()),
    "wing_more": Arm(parent="full_wing"),
    "wing_more_twice": Arm(parent="wing_more", against=("full_wing", "wing_more")),
    "symmetry": Arm(parent="full_wing", against=("full_wing", "wing_more"), weights=SYMMETRY),
    "complete": Arm(
        parent="symmetry", against=("symmetry", "wing_more_twice"), weights=SYMMETRY | {"distance": 0.2}
    ),
    "symmetry_line": Arm(
        parent="full_wing", against=("wing_more", "symmetry"), weights=SYMMETRY, symmetry="line"
    ),
    "symmetry_vertical": Arm(
        parent="full_wing",
        against=("wing_more", "symmetry"),
        weights=SYMMETRY,
        recipe="vertical symmetry",
    ),
    "mirror_without_names": Arm(recipe="mirror without names"),
    "no_mirror": Arm(mirror=False),
    "wing_of_shares": Arm(recipe="wing of shares"),
    "mse": Arm(weights={"mse": 1.0}),
    "clipped": Arm(recipe="clipped points"),
    "attention": Arm(parent="full_wing", against=("full_wing", "wing_more"), attention=True),
    "spatial": Arm(head="spatial"),
    "spatial_more": Arm(parent="spatial", against=("spatial", "wing_more"), head="spatial"),
    "spatial_attention": Arm(
        parent="spatial", against=("spatial", "spatial_more"), head="spatial", attention=True
    ),
}


@dataclass(frozen=True)
class Work:
    """Where films lie, where arms are kept, and what all arms share."""

    folder: Path
    device: str
    first: int
    more: int
    quick: bool

    @property
    def films(self) -> Path:
        return self.folder / "films"

    @property
    def split(self) -> Path:
        return self.folder / "split.parquet"

    def prepare(self, raw: Path) -> None:
        """Convert and split as the pipeline does, with the checkout's parameters."""
        observe = Observer.quiet(self.folder / "scratch")
        convert.run(load_params(convert.Params), raw, self.films, observe)
        split.run(load_params(split.Params), self.films, raw, self.split, observe)

    def data(self) -> LabelledFilms:
        return LabelledFilms.open(self.films, self.split)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("arms", nargs="*", choices=[*ARMS, []], metavar="ARM")
    parser.add_argument("--raw", type=Path, required=True, help="films in the COVID-19 layout")
    parser.add_argument("--out", type=Path, default=Path("reports/studies"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="arms that are trained at once")
    parser.add_argument("--first", type=int, default=FIRST, help="epochs from random weights")
    parser.add_argument("--more", type=int, default=MORE, help="epochs from a parent")
    parser.add_argument("--quick", action="store_true", help="a tiny network on tiny films: does it run?")
    given = parser.parse_args(argv)
    chosen = needed(given.arms or list(ARMS))
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
        work = Work(Path(scratch), given.device, given.first, given.more, given.quick)
        work.prepare(given.raw)
        for name in train_all(work, chosen, given.workers):
            print(f"{name} is trained", flush=True)
            table = compared(work, chosen)
            table.to_csv(
                given.out / "chest_controls.csv", index=False, lineterminator="\n", float_format="%.6g"
            )
        print(f"\n{table.to_string(index=False)}", flush=True)


def needed(names: list[str]) -> list[str]:
    """The arms, their parents and what they are compared with, each parent before its children."""
    wanted, todo = set(), list(names)
    while todo:
        name = todo.pop()
        if name not in wanted:
            wanted.add(name)
            todo += [*ARMS[name].against, *([p] if (p := ARMS[name].parent) else [])]
    return [name for name in ARMS if name in wanted]


def train_all(work: Work, names: list[str], workers: int) -> Iterator[str]:
    """Train arms, each once its parent is there, and yield the name of each that is done."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=spawn) as pool:
        running: dict[Future[None], str] = {}
        done: set[str] = set()
        waiting = list(names)
        while waiting or running:
            for name in [n for n in waiting if ARMS[n].parent is None or ARMS[n].parent in done]:
                waiting.remove(name)
                running[pool.submit(train_arm, work, name)] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                future.result()
                done.add(name)
                yield name


def train_arm(work: Work, name: str) -> None:
    """Train one arm and write its weights, its error on each judged film, and the seconds that it took."""
    from stages.chest.reference import RECIPES
    from stages.chest.regressor.inference import predict_raw
    from stages.chest.regressor.training import OURS, train
    from stages.core.model.card import save_tensors
    from stages.core.train import runtime

    arm, data, params = ARMS[name], work.data(), arm_params(work, ARMS[name])
    device = runtime.prepare(params.device, params.threads, params.seed)
    started = time.monotonic()
    network = arm_network(work, arm, data)
    recipe = RECIPES[arm.recipe] if arm.recipe else OURS
    train(network, data, params, device, Observer.quiet(work.folder / "scratch"), name, recipe)
    rows = data.rows(*JUDGED)
    points = predict_raw(network, data, rows, (params.input, params.input), device)
    errors = scaled_errors(points, data.landmarks_raw[rows], data.films.sizes_raw[rows], REPORT_FRAME)
    save_tensors(work.folder / name / "weights.pt", network.state_dict())
    np.savez(work.folder / name / "errors.npz", px224=film_errors(errors), seconds=time.monotonic() - started)


def arm_params(work: Work, arm: Arm) -> phase.Params:
    """The profile `cpu` at one schedule, but for what the arm says."""
    params = load_params(phase.Params, profile="cpu", item="full_wing")
    fresh = arm.parent is None
    groups = ["backbone", "head", *(["attention"] if arm.attention else [])]
    stretch = params.fit.phases[0].model_copy(
        update={
            "epochs": work.first if fresh else work.more,
            "rates": dict.fromkeys(groups, RATE if fresh else LATER_RATE),
            "weights": arm.weights,
        }
    )
    return params.model_copy(
        update={
            "device": work.device,
            "input": 48 if work.quick else params.input,
            "symmetry": params.symmetry.model_copy(update={"form": arm.symmetry}),
            "augment": params.augment if arm.mirror else params.augment.model_copy(update={"mirror": 0.0}),
            "fit": params.fit.model_copy(update={"phases": (stretch,)}),
        }
    )


def arm_network(work: Work, arm: Arm, data: LabelledFilms) -> LandmarkRegressor:
    """A network at the mean shape of the training films, or with the weights of the arm's parent."""
    import torch

    from stages.chest.regressor.network import LandmarkRegressor
    from stages.core.model.card import load_weights

    architecture = load_params(start.Params, profile="demo" if work.quick else "cpu").architecture
    own = {"attention": arm.attention, "head": arm.head}
    network = LandmarkRegressor(architecture.model_copy(update=own), CHEST.n_points)
    if arm.parent is not None:
        network.continue_from(load_weights(work.folder / arm.parent))
        return network
    mean_shape = torch.tensor(data.landmarks_model[data.trainable()].mean(0), dtype=torch.float32)
    network.start_at(mean_shape, *data.films.model_size)
    return network


def compared(work: Work, names: list[str]) -> pd.DataFrame:
    """One row for each trained arm and each arm that it is compared with, as far as both are there."""
    data = work.data()
    patients = data.patients[data.rows(*JUDGED)]
    found = {n: np.load(file) for n in names if (file := work.folder / n / "errors.npz").is_file()}
    entries = []
    for name, result in found.items():
        arm, errors = ARMS[name], result["px224"]
        interval = bootstrap_mean(errors, patients, BOOTSTRAP, 0)
        entry = {
            "arm": name,
            "parent": arm.parent or "random",
            "epochs": work.first if arm.parent is None else work.more,
            "mean_px224": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "n_films": interval.n_films,
            "seconds": float(result["seconds"]),
        }
        others = [other for other in arm.against if other in found]
        for other in others:
            said = compare(errors, found[other]["px224"], patients, BOOTSTRAP, 0)
            entries.append(
                entry
                | {
                    "against": other,
                    "difference": said.mean_difference,
                    "difference_low": said.low,
                    "difference_high": said.high,
                    "verdict": said.verdict,
                }
            )
        if not others:
            entries.append(entry)
    return pd.DataFrame(entries, columns=COLUMNS)


COLUMNS = [
    *("arm", "parent", "epochs", "mean_px224", "low", "high", "against", "difference"),
    *("difference_low", "difference_high", "verdict", "n_films", "seconds"),
]


if __name__ == "__main__":
    main()
