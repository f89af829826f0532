"""Stage chest-candidate: what promotion will judge the lane's model by."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from stages.core.promotion.stage import CandidateParams, run_film_candidate
from stages.core.stage import Observer, stage_main


class Params(CandidateParams):
    section: ClassVar[str] = "chest.candidate"


def run(
    params: Params, model: Path, evaluation: Path, split: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Write candidate.json; see `promotion.stage.run_film_candidate`."""
    return run_film_candidate(params, model, evaluation, split, output)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
