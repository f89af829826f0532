"""Stage spine-system: Refiner, Detector and Corrector become one model, joined by a rule that val chooses.

val decides when the Detector's word is acted upon and when a round is taken back, how risk becomes an expected
error, and whether the loop helps at all: only a rule that lowers the mean error on val beyond doubt is taken, so
that it does not mend a few films of val by luck and break others; where there is none, the loop is switched off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from stages.core.data.labels import LabelledFilms
from stages.core.errors import StageError
from stages.core.evaluate.statistics import Bootstrap
from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.spine.likeness import LikenessSettings
from stages.spine.schema import SCHEMA

if TYPE_CHECKING:
    from torch import Tensor

    from stages.spine.looping.loop import LoopRule
    from stages.spine.looping.propagation import Propagation


class Params(StageParams):
    section: ClassVar[str] = "spine.system"
    seed: int
    threads: int
    ensemble: bool
    propagate: bool
    hint_noise: float = Field(gt=0)
    hint_reach: float = Field(gt=0)
    rounds: int = Field(ge=0)
    updates: tuple[str, ...] = Field(min_length=1)
    thresholds: tuple[float, ...] = Field(min_length=1)
    accepts: tuple[float, ...] = Field(min_length=1)
    likeness: LikenessSettings
    bootstrap: Bootstrap


def run(
    params: Params,
    films: Path,
    audit: Path,
    split: Path,
    folds: Path,
    predictions: Path,
    refiner: Path,
    detector: Path,
    corrector: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Choose the rule and the calibration on val, and write the model folder of the whole."""
    from stages.core.evaluate.errors import film_errors, radial_errors
    from stages.core.evaluate.statistics import compare
    from stages.core.model.card import InputSize, ModelCard, load_card, load_weights, save_model
    from stages.core.train import runtime
    from stages.spine.checking import inference as checking
    from stages.spine.correcting import inference as correcting
    from stages.spine.likeness import Likeness
    from stages.spine.looping.expected import ExpectedError
    from stages.spine.looping.loop import Loop, LoopRule
    from stages.spine.looping.system import ARCHITECTURE, as_tensors, risk_scores
    from stages.spine.measures import vertebra_heights
    from stages.spine.refining import inference as refining

    runtime.prepare("cpu", params.threads, params.seed)
    data = LabelledFilms.open(films, split, audit)
    cards = {name: load_card(f) for name, f in zip(_PARTS, (refiner, detector, corrector), strict=True)}
    if torn := [name for name, card in cards.items() if card.split_sha256 != cards["refiner"].split_sha256]:
        raise StageError(
            f"{', '.join(torn)} and the Refiner were trained on different splits: run `dvc repro`"
        )
    alone = [load_weights(refiner)]
    teams = [alone, [*alone, *_fold_members(load_weights(folds))]] if params.ensemble else [alone]
    propagation = _propagation(params, data, predictions) if params.propagate else None
    trained = checking.TrainedDetector.open(detector, SCHEMA)
    proposing = correcting.TrainedCorrector.open(corrector, SCHEMA)

    val = data.trainable("val")
    images, truth = np.asarray(data.films.images[val]), data.landmarks_model[val]
    loop = Loop(
        refining.build(cards["refiner"].params, alone, SCHEMA),
        propagation,
        lambda _, seen, points: trained.probabilities(seen, points),
        lambda _, seen, points: proposing.propose(seen, points),
        LoopRule(update="hint", rounds=0, threshold=1.0, accept=0.0),
    )

    def error_of(points: np.ndarray) -> np.ndarray:
        return film_errors(radial_errors(data.films.to_raw(points, val), data.landmarks_raw[val]))

    no_hints = np.full(truth.shape, np.nan)
    tried = []
    for team in teams:
        with_team = replace(loop, refiner=refining.build(cards["refiner"].params, team, SCHEMA))
        seen = with_team.refine(images, no_hints)
        tried.append((float(error_of(seen.points).mean()), team, with_team, seen))
    _, members, loop, first = min(tried, key=lambda one: one[0])  # the first of equals: the Refiner alone
    rules = _rules(params)
    off = rules[0]
    without = error_of(first.points)
    means, proven = {off: float(without.mean())}, [off]
    for i, rule in enumerate(rules[1:], 1):
        state, _ = replace(loop, rule=rule).run(images, no_hints, first)
        found = error_of(state.points)
        means[rule] = float(found.mean())
        if compare(found, without, data.patients[val], params.bootstrap, params.seed).verdict == "better":
            proven.append(rule)
        observe(i, threshold=rule.threshold, accept=rule.accept or 0.0, replace=rule.update == "replace",
                val_error_raw_px=means[rule])  # fmt: skip
    chosen = min(proven, key=lambda rule: means[rule])
    loop = replace(loop, rule=chosen)
    last, _ = loop.run(images, no_hints, first)

    heights = vertebra_heights(data.landmarks_raw[val])
    errors = radial_errors(data.films.to_raw(last.points, val), data.landmarks_raw[val]) / heights[:, None]
    scores = risk_scores(loop, images, last, no_hints)
    expected = ExpectedError.fit(scores, errors)
    train = data.trainable()
    likeness = Likeness.fit(
        data.films.images[train], data.films.sizes_raw[train], data.patients[train], params.likeness
    )

    weights = {f"refiner.{i}.{k}": v for i, state in enumerate(members) for k, v in state.items()}
    weights |= {f"detector.{k}": v for k, v in load_weights(detector).items()}
    weights |= {f"corrector.{k}": v for k, v in load_weights(corrector).items()}
    weights |= {f"likeness.{k}": v for k, v in as_tensors(likeness.to_arrays()).items()}
    if propagation is not None:
        told = {name: np.array(value) for name, value in asdict(propagation).items()}
        weights |= {f"propagation.{k}": v for k, v in as_tensors(told).items()}
    height, width = data.films.model_size
    card = ModelCard(
        lane=SCHEMA.lane,
        dataset=data.films.info.name,
        architecture=ARCHITECTURE,
        key=observe.key,
        params={
            **{name: part.params for name, part in cards.items()},
            "rule": chosen.model_dump(mode="json"),
            "expected_error": expected.model_dump(mode="json"),
        },
        input=InputSize(height=height, width=width),
        schema=SCHEMA.names,
        n_train=cards["refiner"].n_train,
        split_sha256=cards["refiner"].split_sha256,
    )
    save_model(output, weights, card)
    return {
        "n_val": len(val),
        "members": len(members),
        **{f"val_error_raw_px_of_{len(team)}": error for error, team, _, _ in tried},
        **{f"val_error_raw_px_of_{len(team)}": error for error, team, _, _ in tried},
        "n_parameters": sum(v.numel() for k, v in weights.items() if k.partition(".")[0] in _PARTS),
        "val_error_raw_px": means[off],
        "val_error_raw_px_loop": means[chosen],
        "rules_tried": len(rules) - 1,
        "rules_proven": len(proven) - 1,
        "rule_rounds": chosen.rounds,
        "rule_threshold": chosen.threshold,
        "rule_accept": chosen.accept or 0.0,
        "rule_replaces": float(chosen.update == "replace"),
        "expected_error_by_detector": float(expected.score == "detector"),
        "val_expected_error_heights": float(np.mean(expected.of(scores[expected.score]))),
        "val_error_heights": float(np.nanmean(errors)),
    }


_PARTS = ("refiner", "detector", "corrector")


def _rules(params: Params) -> list[LoopRule]:
    """Off first, then every combination, the careful ones before the daring ones."""
    from stages.spine.looping.loop import LoopRule

    rules = [LoopRule(update="hint", rounds=0, threshold=1.0, accept=0.0)]
    for update in params.updates:
        for threshold in sorted(params.thresholds, reverse=True):
            for accept in sorted(params.accepts, reverse=True):
                rules.append(
                    LoopRule.model_validate(
                        {"update": update, "rounds": params.rounds, "threshold": threshold, "accept": accept}
                    )
                )
    return rules


def _fold_members(weights: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The fold Refiners of spine-folds, in the order of the folds."""
    members: dict[int, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        fold, _, own = name.partition(".")
        members.setdefault(int(fold), {})[own] = tensor
    return [members[fold] for fold in sorted(members)]


def _propagation(params: Params, data: LabelledFilms, predictions: Path) -> Propagation:
    from stages.core.data import tables
    from stages.spine.looping.propagation import Propagation

    table = tables.read_table(predictions)
    table = table[table["clicks"] == 0]
    rows = data.films.rows(table["id"])
    predicted = tables.stack_points(table["landmarks"]).astype(np.float64)
    return Propagation.fit(predicted, data.landmarks_model[rows], params.hint_noise, params.hint_reach)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
