"""Stage ceph-base-candidate: what promotion will judge the base model by, which is the champion before any round."""

from __future__ import annotations

from pathlib import Path

from stages.ceph.evaluation.candidates import CandidateParams, run_candidate
from stages.ceph.evaluation.films import BASE
from stages.core.stage import Observer, stage_main


class Params(CandidateParams):
    pass


def run(
    params: Params,
    model: Path,
    evaluation: Path,
    split: Path,
    clinic_split: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write base_candidate.json; see `candidates.run_candidate`."""
    return run_candidate(params, BASE, model, evaluation, split, clinic_split, output)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
