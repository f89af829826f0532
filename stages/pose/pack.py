"""Stage pose-pack: the sequence store -> one array a column and role, with simulated estimates."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from stages.core.params import StageParams
from stages.core.stage import Observer, stage_main
from stages.pose.capture.store import SequenceStore
from stages.pose.simulation.estimator import Estimator
from stages.pose.simulation.packing import pack
from stages.pose.simulation.roles import Settings, give_roles
from stages.pose.simulation.virtual import Virtual


class Params(StageParams):
    """Parameters of packing; see `simulation.packing.pack`. `seed` decides the roles."""

    section: ClassVar[str] = "pose.pack"
    seed: int
    roles: Settings
    estimator: Estimator
    train_draws: int = Field(ge=1)
    virtual: Virtual
    measured_rows: int = Field(ge=1)


def run(params: Params, sequences: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write the packed set. Metric `sim_accepted`: whether the simulated errors are like real ones."""
    store = SequenceStore.open(sequences)
    roles = give_roles(store.sequences, params.roles, params.seed)
    return pack(
        store,
        roles,
        params.estimator,
        params.train_draws,
        params.measured_rows,
        output,
        observe.progress,
        params.virtual,
    )


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
