"""Stage pose-candidate: what promotion will judge the lane's model by, view by view, grouped by dancer."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from stages.core.data import tables
from stages.core.errors import StageError
from stages.core.evaluate.statistics import Bootstrap
from stages.core.model.card import load_card
from stages.core.params import StageParams
from stages.core.promotion.candidate import gate_digest, make_candidate, write_candidate
from stages.core.stage import Observer, stage_main
from stages.pose.simulation.packed import Packed, PackedRole


class Params(StageParams):
    """Parameters of the candidate.

    Attributes:
        method: the evaluation's name of the model.
        floors: the evaluation's names of the floors; the best of them on the gate views is to be beaten.
        error: the measure of per_sequence.parquet that decides.
    """

    section: ClassVar[str] = "pose.candidate"
    seed: int
    method: str
    floors: tuple[str, ...]
    error: str
    bootstrap: Bootstrap


def run(
    params: Params, model: Path, evaluation: Path, packed: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Write candidate.json.

    Raises:
        StageError: if the model was trained on other roles, or the evaluation judged other gate views.
    """
    data = Packed.open(packed)
    trained_on, locked = load_card(model).split_sha256, data.manifest["split_sha256"]
    if trained_on != locked:
        raise StageError(
            f"{model} was trained on the roles {trained_on[:12]}, but {packed} has {locked[:12]}: its gate "
            "may have been trained on; run `dvc repro` so that training follows the roles"
        )
    gate = data.role("gate")
    per_view = tables.read_table(evaluation / "per_sequence.parquet")
    judged, expected = set(per_view.loc[per_view["role"] == "gate", "id"]), set(gate.views["id"])
    if judged != expected:
        raise StageError(
            f"the evaluation judged {len(judged)} gate views, {packed} has {len(expected)}: evaluate again"
        )
    error = f"error_{params.error}"
    candidate = make_candidate(
        model,
        per_view.rename(columns={"group": "patient", params.error: error}),
        gate_digest(*_gate_labels(gate)),
        method=params.method,
        floors=params.floors,
        error=error,
        bootstrap=params.bootstrap,
        seed=params.seed,
    )
    write_candidate(output, candidate)
    against = candidate.against_floor
    return {
        "n_gate": candidate.n_gate,
        "n_gate_groups": against.n_groups,
        f"gate_{params.error}": candidate.metrics[f"gate_mean_{candidate.unit}"],
        f"floor_gate_{params.error}": candidate.floors[against.floor],
        f"difference_{params.error}": against.mean_difference,
        "beats_floor": candidate.beats_floor,
    }


def _gate_labels(gate: PackedRole) -> tuple[list[str], list[np.ndarray]]:
    """Ids of the gate's views and the labels (n, 17, 3) of each."""
    views = gate.views.to_dict("records")
    labels = [gate["gt_pose"][view["first_row"] : view["first_row"] + view["n_rows"]] for view in views]
    return [view["id"] for view in views], labels


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
