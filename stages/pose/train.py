"""Stage pose-train: train a refiner of the chosen form on simulated estimates of the training dancers."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from stages.core.stage import Observer, stage_main
from stages.pose.model.settings import TrainingParams
from stages.pose.simulation.packed import Packed


class Params(TrainingParams):
    section: ClassVar[str] = "pose.train"


def run(params: Params, packed: Path, output: Path, observe: Observer) -> dict[str, float]:
    """Write the model folder; see `model.training`."""
    from stages.pose.model.training import train

    return train(params, Packed.open(packed), output, observe, "fit")


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
