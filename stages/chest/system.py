"""Stage chest-system: the rule that joins the two answers, a radius for each point, and one model folder.

Everything is chosen on what networks said of films that they had not seen; the answer for a film that nobody has
seen is the mean of all folds' networks, so that the errors below are a little too large for it and the radii a
little too wide.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from stages.chest.locating.crossfit import development, read_out_of_fold
from stages.chest.radius import RadiusModel, features
from stages.chest.schema import CHEST, REPORT_FRAME, REPORT_SIZE
from stages.core.data import tables
from stages.core.data.labels import LabelledFilms
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.evaluate.errors import film_errors, scaled_errors
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main

OUT_OF_FOLD = pa.schema(
    [
        tables.column("id", pa.string()),
        tables.points_column("landmarks", CHEST.n_points, "raw px"),
        tables.column("radius_px224", pa.list_(pa.float32(), CHEST.n_points), "px at 224"),
    ]
)


class Params(StageParams):
    section: ClassVar[str] = "chest.system"
    coverage: float = Field(gt=0, lt=1)


def run(
    params: Params,
    films: Path,
    split: Path,
    coarse: Path,
    fine: Path,
    coarse_points: Path,
    fine_points: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Choose, calibrate and write the model folder with out_of_fold.parquet.

    Returns:
        oof_RULE_px224 of every rule, the chosen one's error, and `coverage_crossed`: the share of labels inside
        their disc where the discs were fitted on other films.
    """
    import torch

    from stages.chest.system_model import ARCHITECTURE, Rule
    from stages.chest.system_model import OUT_OF_FOLD as TABLE
    from stages.core.model.card import ModelCard, load_card, load_weights, save_model

    data = LabelledFilms.open(films, split)
    cards = {name: load_card(folder) for name, folder in (("coarse", coarse), ("fine", fine))}
    digest = split_digest(read_split(split))
    if other := [name for name, card in cards.items() if card.split_sha256 != digest]:
        raise StageError(f"{', '.join(other)}: trained on another split than {split}; run `dvc repro`")
    rows = development(data)
    folds, first, first_spread = read_out_of_fold(coarse_points, data)
    _, second, second_spread = read_out_of_fold(fine_points, data)

    def errors(points_model: np.ndarray) -> np.ndarray:
        raw = data.films.to_raw(points_model, rows)
        return scaled_errors(raw, data.landmarks_raw[rows], data.films.sizes_raw[rows], REPORT_FRAME)

    rules = [Rule(answer=a, project=p) for a in ("coarse", "fine", "mean") for p in (False, True)]
    found = {rule: errors(rule.join(first, second)) for rule in rules}
    means = {rule: float(film_errors(error).mean()) for rule, error in found.items()}
    rule = min(rules, key=means.__getitem__)

    to_px224 = REPORT_SIZE / data.films.model_size[0]
    apart = np.linalg.norm(first - second, axis=2)
    told = features(*(to_px224 * values for values in (first_spread, second_spread, apart)))
    radius = RadiusModel.fit(told, found[rule], params.coverage)
    crossed = crossed_radii(told, found[rule], folds, params.coverage)

    tensors = {
        f"{name}.{key}": value
        for name, folder in (("coarse", coarse), ("fine", fine))
        for key, value in load_weights(folder).items()
        if key != "canonical"
    }
    tensors["canonical"] = load_weights(fine)["canonical"]
    tensors |= {f"radius.{name}": torch.from_numpy(np.array(a)) for name, a in radius.arrays().items()}
    card = ModelCard(
        lane=CHEST.lane,
        dataset=data.films.info.name,
        architecture=ARCHITECTURE,
        key=observe.key,
        params={
            "rule": rule.model_dump(),
            "coverage": params.coverage,
            "stored_size": list(data.films.model_size),
            **{name: card.params for name, card in cards.items()},
        },
        input=cards["coarse"].input,
        schema=CHEST.names,
        n_train=len(rows),
        split_sha256=digest,
    )
    save_model(output, tensors, card)
    raw = data.films.to_raw(rule.join(first, second), rows)
    table = pd.DataFrame(
        {
            "id": data.films.ids[rows],
            "landmarks": list(raw.astype(np.float32)),
            "radius_px224": list(crossed.astype(np.float32)),
        }
    )
    tables.write_table(output / TABLE, table.sort_values("id"), OUT_OF_FOLD)
    return {
        "n_films": len(rows),
        "n_networks": len(set(folds.tolist())) * 2,
        **{f"oof_{r.answer}{'_projected' * r.project}_px224": mean for r, mean in means.items()},
        "out_of_fold_px224": means[rule],
        "uses_fine": int(rule.answer != "coarse"),
        "projects": int(rule.project),
        "coverage_crossed": float((found[rule] <= crossed).mean()),
    }


def crossed_radii(told: np.ndarray, errors: np.ndarray, folds: np.ndarray, coverage: float) -> np.ndarray:
    """Radii (n, 15) of each fold's films by a model of radii that was fitted on the other folds."""
    radii = np.empty_like(errors)
    for fold in set(folds.tolist()):
        own = folds == fold
        radii[own] = RadiusModel.fit(told[~own], errors[~own], coverage).radii(told[own])
    return radii


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
