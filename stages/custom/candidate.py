"""Stage NAME-candidate: what promotion will judge the lane's model by."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from stages.core.promotion.stage import CandidateParams, run_film_candidate
from stages.core.stage import Observer
from stages.custom.command import lane_main


class Params(CandidateParams):
    section: ClassVar[str] = "lane.candidate"


def run(
    params: Params, lane: Path, model: Path, evaluation: Path, split: Path, output: Path, observe: Observer
) -> dict[str, float]:
    """Write candidate.json; see `promotion.stage.run_film_candidate`. `lane` names the section of the parameters."""
    return run_film_candidate(params, model, evaluation, split, output)


def main() -> None:
    lane_main(run)


if __name__ == "__main__":
    main()
