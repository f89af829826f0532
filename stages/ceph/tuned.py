"""Stage ceph-tuned: the base learns from what reviewers said, without forgetting what it knew.

Every round starts again from the base of round 0 and learns from the labels of all rounds, beside films of the
base (replay). Landmarks that nobody confirmed have no part in the loss. The epoch is kept that is best on films
which nothing learns from: those of the base's role val, and some of the reviewed ones. The expected error is
calibrated on the same. Where there is nothing to learn from, the weights are the base's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from stages.core.data import tables
from stages.core.data.films import FilmSet
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.core.train.plan import Plan

if TYPE_CHECKING:
    from stages.ceph.locating.inference import Locator
    from stages.ceph.locating.model import TrainedCeph
    from stages.ceph.tuning.films import TaughtFilms


class Params(StageParams):
    """Parameters; the network, its input, augmentation and views are the base's.

    Attributes:
        replay: share of an epoch's films that are the base's, at least half.
        watched: one in so many reviewed films is watched and not learned from; none where there are fewer.
        fit: phases with small rates.
    """

    section: ClassVar[str] = "ceph.tuned"
    seed: int
    threads: int
    device: str
    replay: float = Field(ge=0.5, lt=1)
    watched: int = Field(ge=2)
    fit: Plan


def run(
    params: Params,
    films: Path,
    split: Path,
    clinic: Path,
    clinic_split: Path,
    labels: Path,
    base: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Fine-tune the model folder `base` and write the model folder `output`.

    Phantoms teach a model of real films nothing, nor real films one of phantoms: such labels are left alone.

    Returns:
        n_reviewed and n_watched films, n_replayed films of an epoch, n_landmarks learned, epochs; mean errors in
        model px of base and tuned model on val films of the base, and on watched reviewed films where there are any.
    Raises:
        StageError: the base was trained on another split, the stores differ in size, or labels are of films that
            may not be learned from.
    """
    import torch

    from stages.ceph.locating.inference import Locator
    from stages.ceph.locating.model import TrainedCeph, calibrate, save_trained
    from stages.ceph.locating.network import build_network
    from stages.ceph.locating.training import Trained, fit
    from stages.ceph.schema import CEPH
    from stages.ceph.tuning.films import (
        balanced,
        base_films,
        hold_out,
        require_same_size,
        reviewed_films,
        with_replay,
    )

    data, store = LabelledFilms.open(films, split), FilmSet.open(clinic)
    require_same_size(data.films, store)
    started = TrainedCeph.open(base)
    _require_split(started, base, split)
    table = tables.read_table(labels)
    _require_pool(set(table["id"]), clinic_split)
    if store.info.is_phantom != data.films.info.is_phantom:
        table = table.iloc[:0]
    reviewed = reviewed_films(store, table)
    learned_rows, watched_rows = hold_out(reviewed, params.watched, params.seed)
    learned, watched = reviewed.take(learned_rows), reviewed.take(watched_rows)
    known, val = base_films(data, "train"), base_films(data, "val")
    base_rows, reviewed_rows = with_replay(len(known), len(learned), params.replay)
    epoch = known.take(base_rows).followed_by(learned.take(reviewed_rows))
    judged = balanced(val, watched)
    trained = Trained(dict(started.state), 0)
    if len(learned):
        trained = fit(
            started.settings,
            epoch.images,
            epoch.points,
            epoch.weight,
            (judged.images, judged.points, judged.weight),
            params.fit,
            started.state,
            observe,
            seed=params.seed,
            threads=params.threads,
            device_name=params.device,
            sizes_raw=epoch.sizes_raw,
            name="tuned",
        )
    network = build_network(started.settings.network, CEPH.n_points, started.settings.input.size)
    network.load_state_dict(trained.state)
    locator = Locator(network.eval(), started.settings, torch.device("cpu"))
    held = val.followed_by(watched)
    _, expected = calibrate(locator, held.images, held.points)
    save_trained(
        output,
        trained.state,
        expected,
        dataset=started.card.dataset,
        key=observe.key,
        params=_card_params(started, params),
        stored_size=started.stored_size,
        n_train=len(known) + len(learned),
        split_sha256=started.card.split_sha256,
    )
    return {
        "n_reviewed": len(learned),
        "n_watched": len(watched),
        "n_replayed": len(base_rows),
        "n_landmarks": int((learned.weight > 0).sum()),
        "epochs": trained.epochs,
        **_before_and_after("val", val, started.locator, locator),
        **_before_and_after("watched", watched, started.locator, locator),
    }


def _card_params(started: TrainedCeph, params: Params) -> dict[str, Any]:
    """The base's parameters with those of the fine-tuning in their place, and the base's key."""
    inherited = {k: v for k, v in started.card.params.items() if k not in ("stored_size", "coarse")}
    return inherited | params.model_dump(mode="json") | {"base_key": started.card.key}


def _before_and_after(name: str, films: TaughtFilms, before: Locator, after: Locator) -> dict[str, float]:
    from stages.core.evaluate.errors import film_errors, radial_errors

    if not len(films):
        return {}
    means = {
        which: float(
            np.nanmean(film_errors(radial_errors(locator.locate_once(films.images).points, films.points)))
        )
        for which, locator in (("base", before), ("tuned", after))
    }
    return {f"{name}_{which}_model_px": mean for which, mean in means.items()}


def _require_split(model: TrainedCeph, folder: Path, split: Path) -> None:
    locked = split_digest(read_split(split))
    if model.card.split_sha256 != locked:
        raise StageError(
            f"{folder} was trained on the split {model.card.split_sha256[:12]}, but {split} is {locked[:12]}: films "
            "of its val or gate may have been trained on; run `dvc repro` so that training follows the split"
        )


def _require_pool(ids: set[str], clinic_split: Path) -> None:
    """No film of another role than train is learned from, whatever the labels say."""
    roles = read_split(clinic_split)
    pool = set(roles.loc[roles["role"] == "train", "id"])
    if strange := sorted(ids - pool):
        raise StageError(
            f"labels of films that may not be learned from: {', '.join(strange)}; run `dvc repro ceph-labels`"
        )


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
