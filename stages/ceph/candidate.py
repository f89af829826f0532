"""Stage ceph-candidate: what promotion will judge the tuned model by, and what its comparison holds against it."""

from __future__ import annotations

from pathlib import Path

from stages.ceph.evaluation.candidates import CandidateParams, run_candidate
from stages.ceph.evaluation.films import TUNED
from stages.ceph.evaluation.verdict import read_verdict
from stages.core.stage import Observer, stage_main


class Params(CandidateParams):
    pass


def run(
    params: Params,
    model: Path,
    evaluation: Path,
    split: Path,
    clinic_split: Path,
    verdict: Path,
    output: Path,
    observe: Observer,
) -> dict[str, float]:
    """Write candidate.json; see `candidates.run_candidate`. `verdict` is that of ceph-compare."""
    _, objections = read_verdict(verdict)
    return run_candidate(params, TUNED, model, evaluation, split, clinic_split, output, objections)


def main() -> None:
    stage_main(run)


if __name__ == "__main__":
    main()
