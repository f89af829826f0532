"""The candidate stage of a film lane: from a model folder and its evaluation to candidate.json."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from stages.core.data import tables
from stages.core.data.split import read_split, split_digest
from stages.core.errors import StageError
from stages.core.evaluate.statistics import Bootstrap
from stages.core.model.card import load_card
from stages.core.params import StageParams
from stages.core.promotion.candidate import film_gate_digest, make_candidate, write_candidate


class CandidateParams(StageParams):
    """Parameters of a film lane's candidate; the lane's stage names the section.

    Attributes:
        seed: of the bootstrap.
        method: the name that the evaluation gives the model.
        floors: the evaluation's names of the floors; the best of them on the gate films is to be beaten.
        error: the column of per_film.parquet that decides.
        bootstrap: of the comparison with the floor.
    """

    seed: int
    method: str
    floors: tuple[str, ...] = Field(min_length=1)
    error: str = Field(pattern="^error_")
    bootstrap: Bootstrap


def run_film_candidate(
    params: CandidateParams, model: Path, evaluation: Path, split: Path, output: Path
) -> dict[str, float]:
    """Write candidate.json.

    Returns:
        The mean gate errors of the model and of its best floor, their difference, and beats_floor (0 or 1).
    Raises:
        StageError: if the model was trained on another split, or the evaluation judged other gate films.
    """
    roles = read_split(split)
    trained_on, locked = load_card(model).split_sha256, split_digest(roles)
    if trained_on != locked:
        raise StageError(
            f"{model} was trained on the split {trained_on[:12]}, but {split} is {locked[:12]}: films of its "
            "gate set may have been trained on; run `dvc repro` so that training follows the split"
        )
    per_film = tables.read_table(evaluation / "per_film.parquet")
    _require_gate_of_split(
        set(per_film.loc[per_film["role"] == "gate", "id"]), set(roles.loc[roles["role"] == "gate", "id"])
    )
    candidate = make_candidate(
        model,
        per_film,
        film_gate_digest(tables.read_table(evaluation / "per_point.parquet"), params.method),
        method=params.method,
        floors=params.floors,
        error=params.error,
        bootstrap=params.bootstrap,
        seed=params.seed,
    )
    write_candidate(output, candidate)
    unit = candidate.unit
    return {
        "n_gate": candidate.n_gate,
        f"gate_mean_{unit}": candidate.metrics[f"gate_mean_{unit}"],
        f"floor_gate_mean_{unit}": candidate.floors[candidate.against_floor.floor],
        f"difference_{unit}": candidate.against_floor.mean_difference,
        "beats_floor": candidate.beats_floor,
    }


def _require_gate_of_split(judged: set[str], locked: set[str]) -> None:
    if judged != locked:
        raise StageError(
            f"the evaluation judged {len(judged)} gate films, the split has {len(locked)}: "
            f"{sorted(judged - locked)[:5]} are not in the split's gate, {sorted(locked - judged)[:5]} were "
            "not judged; evaluate again"
        )
