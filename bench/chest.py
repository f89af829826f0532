"""The chest lane's networks against a plain loop over films.

    python -m bench.chest [--raw DIR] [--profile cpu] [--threads 2] [--repeats 3]

Prediction, from a film's file to its points by all networks of the system: plain reads a film, resizes it, and
asks one network after the other about the film and its mirror image, in the default order of memory; ours does
the same for the films of a folder at once, in batches. Training: plain is one process with `--threads` native
threads that opens, decodes and resizes each film of a batch again; ours trains `--threads` folds side by side
from the film store, as chest-coarse does. Both sides have the same weights and have to find the same points;
they run in turn, and the best time of each counts. Weights are random: they change no time.

Without --raw (a folder in the layout of the chest data set) it draws phantom films first. Exit status 1 where
points differ or ours is slower than plain.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench.timing import times_in_turn
from stages.chest import coarse, convert, fine, phantom, split
from stages.chest.alignment import Canonical
from stages.chest.locating.crossfit import development
from stages.chest.locating.frames import Aligned, WholeFilm
from stages.chest.locating.inference import TrainedLocator, crop
from stages.chest.locating.network import Locator
from stages.chest.locating.settings import LocatorSettings
from stages.chest.locating.training import train_locator
from stages.chest.raw.inventory import take_inventory
from stages.chest.raw.layout import read_raw
from stages.chest.schema import CHEST
from stages.core.data import geometry
from stages.core.data.decode import decode_film
from stages.core.data.labels import LabelledFilms
from stages.core.data.pool import map_unordered
from stages.core.model import landmark_loss as losses
from stages.core.model.inputs import as_input
from stages.core.model.prediction import LIMITS
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.core.train.augment import draw_warps, warp_points

FILMS, BATCHES, MEMBERS = 16, 30, 4
AGREE_PX = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raw", type=Path, help="films in the chest layout; default: phantoms")
    parser.add_argument("--profile", default="cpu", help="whose networks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="plumbline-") as folder:
        work = Work.prepare(arguments.raw, Path(folder), arguments.profile)
        ok = _predictions(work, arguments.repeats)
        ok &= _training(work, arguments.threads, arguments.repeats)
    sys.exit(not ok)


@dataclass(frozen=True)
class Work:
    """A film store, the films' files in its order, and untrained networks."""

    folder: Path
    data: LabelledFilms
    files: list[Path]
    coarse: coarse.Params
    fine: fine.Params

    @classmethod
    def prepare(cls, raw: Path | None, folder: Path, profile: str) -> Work:
        observe = Observer.quiet(folder / "scratch")
        if raw is None:
            raw = folder / "raw"
            phantom.run(load_params(phantom.Params), raw, observe)
        convert.run(load_params(convert.Params), raw, folder / "data" / "films", observe)
        split.run(
            load_params(split.Params), folder / "data" / "films", raw, folder / "split.parquet", observe
        )
        data = LabelledFilms.open(folder / "data" / "films", folder / "split.parquet")
        path_of = {job.id: job.path for job in take_inventory(read_raw(raw)).jobs}
        params = load_params(coarse.Params, profile=profile), load_params(fine.Params, profile=profile)
        return cls(folder, data, [path_of[i] for i in data.films.ids], *params)

    def locator(self, settings: LocatorSettings, members: int) -> TrainedLocator:
        torch.manual_seed(0)
        networks = tuple(
            Locator(settings.network, CHEST.n_points, settings.input).eval() for _ in range(members)
        )
        return TrainedLocator(networks, settings, torch.device("cpu"))


def _predictions(work: Work, repeats: int) -> bool:
    first, second = (work.locator(p.settings, MEMBERS) for p in (work.coarse, work.fine))
    stored = work.data.films.model_size
    shape = work.data.landmarks_model.mean(0, keepdims=True)
    canonical = Canonical.of(shape, second.settings.input, work.fine.margin)
    files = work.files[:FILMS]

    def ours() -> np.ndarray:
        films = np.stack([geometry.resize(decode_film(file, LIMITS).pixels, stored) for file in files])
        rows = np.arange(len(films))
        guess = first.locate(films, WholeFilm(stored, first.settings.size).fixed(rows)).points
        guess = (guess + shape) / 2  # untrained answers are no shapes
        return second.locate(films, Aligned(canonical, guess, guess, 0, 0).fixed(rows)).points

    first_plain, second_plain = (
        [_contiguous(network, locator.settings) for network in locator.members] for locator in (first, second)
    )

    def plain() -> np.ndarray:
        found = []
        for file in files:
            film = geometry.resize(decode_film(file, LIMITS).pixels, stored)
            matrix = geometry.resize_matrix(stored, first.settings.size)
            guess = (_one_film(first, first_plain, film, matrix) + shape[0]) / 2
            matrix = canonical.maps(guess[None])[0]
            found.append(_one_film(second, second_plain, film, matrix))
        return np.stack(found)

    apart = float(np.abs(plain() - ours()).max())
    seconds = times_in_turn(plain, ours, repeats)
    _say("prediction", FILMS, seconds)
    print(f"  points differ by at most {apart:.4f} px")
    return apart <= AGREE_PX and seconds[1] <= seconds[0]


def _contiguous(network: Locator, settings: LocatorSettings) -> Locator:
    copy = Locator(settings.network, CHEST.n_points, settings.input).eval()
    copy.load_state_dict(network.state_dict())
    return copy.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _one_film(
    locator: TrainedLocator, networks: list[Locator], film: np.ndarray, matrix: np.ndarray
) -> np.ndarray:
    """Mean of the networks' points (15, 2) on a film and its mirror image, one after the other."""
    found = []
    for mirrored in (False, True):
        view = matrix
        if mirrored:
            view = geometry.compose(matrix, geometry.mirror_matrix(locator.settings.input))
        picture = geometry.warp(film, view, locator.settings.size)
        for network in networks:
            with torch.inference_mode():
                logits = network.head(network_maps(network, as_input(torch.from_numpy(picture[None]))))
                points = locator.codec.decode(logits)[0].double().numpy()
            found.append(geometry.apply(geometry.invert(view), points[CHEST.swap] if mirrored else points))
    return np.mean(found, 0)


def network_maps(network: Locator, films: torch.Tensor) -> list[torch.Tensor]:
    """The backbone's maps, in the order of memory that the films have."""
    maps = network.backbone(films)
    return [maps[i] for i in network._used]


def _training(work: Work, processes: int, repeats: int) -> bool:
    settings = work.coarse.settings
    batch = settings.fit.batch_size
    rows = development(work.data)
    steps = len(rows) // batch
    phase = settings.fit.phases[0].model_copy(update={"epochs": max(1, BATCHES // steps)})
    plan = settings.fit.model_copy(update={"phases": (phase,)})
    augment = settings.augment.model_copy(update={"photometric": ()})
    settings = settings.model_copy(update={"fit": plan, "augment": augment})
    films = steps * batch * phase.epochs * processes

    def ours() -> None:
        for _ in map_unordered(partial(_train, work, settings), range(processes), processes):
            pass

    def plain() -> None:
        rng = np.random.default_rng(0)
        network = Locator(settings.network, CHEST.n_points, settings.input)
        network = network.to(memory_format=torch.contiguous_format).train()  # type: ignore[call-overload]
        codec = TrainedLocator((), settings, torch.device("cpu")).codec
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
        for _ in range(films // batch):
            chosen = rng.choice(rows, batch, replace=False)
            pictures = np.stack(
                [
                    geometry.resize(decode_film(work.files[row], LIMITS).pixels, settings.size)
                    for row in chosen
                ]
            )
            sides = np.full((batch, 2), settings.input)
            warps = draw_warps(rng, settings.augment, sides, settings.size)
            to_input = geometry.resize_matrix(work.data.films.model_size, settings.size)
            labels = geometry.apply(to_input, work.data.landmarks_model[chosen])
            truth = torch.from_numpy(warp_points(labels, warps, CHEST)).float()
            inputs = as_input(torch.from_numpy(crop(pictures, warps.matrices, settings.size)))
            logits = network.head(network_maps(network, inputs))
            counted = losses.inside(truth, settings.size)
            loss = losses.cross_entropy(logits, codec.encode(truth, settings.size), counted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    seconds = times_in_turn(plain, ours, repeats)
    _say("training", films, seconds)
    print("  ours with the start of its processes, a moving average of the weights and its checkpoints")
    return seconds[1] <= seconds[0]


def _train(work: Work, settings: LocatorSettings, number: int) -> None:
    """One network, as a fold's process trains it."""
    rows = development(work.data)
    frames = WholeFilm(work.data.films.model_size, settings.size)
    observe = Observer.quiet(work.folder / "scratch")
    train_locator(work.data, rows, rows[:1], frames, settings, number, 1, "cpu", observe, f"part-{number}")


def _say(what: str, films: int, seconds: tuple[float, float]) -> None:
    plain, ours = seconds
    print(
        f"{what}: plain {films / plain:.2f} films/s, ours {films / ours:.2f} films/s, "
        f"{plain / ours:.2f} times as fast"
    )


if __name__ == "__main__":
    main()
