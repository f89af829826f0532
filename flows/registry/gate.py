"""Whether a candidate may become champion: it faces its floor, then the champion on the same gate films."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from flows.registry.wording import compared
from stages.core.evaluate.statistics import Bootstrap, Comparison, compare
from stages.core.params import StageParams
from stages.core.promotion.candidate import Candidate


class Policy(StageParams):
    """Section `registry` of params.yaml.

    Attributes:
        require_floor: a candidate must beat its strongest floor on the gate set beyond doubt.
        against_champion: what the paired interval of the errors must say: `better`, or `not_worse`.
        tolerance: with `not_worse`, the share of the champion's mean error by which the candidate's may be
            larger. Without it a chain of champions, each a little worse within a wide interval, would drift.
        bootstrap: how the interval is made.
    """

    section: ClassVar[str] = "registry"
    seed: int
    require_floor: bool
    against_champion: Literal["better", "not_worse"]
    tolerance: float = Field(ge=0)
    bootstrap: Bootstrap


@dataclass(frozen=True)
class Judgement:
    """What speaks against a candidate.

    Attributes:
        unfit: reasons that hold whoever is champion; such a candidate is not even registered.
        outdone: reasons that come of a comparison, with the champion here or in the lane's own stages (its
            objections); such a candidate becomes challenger.
        comparison: with the champion, None where there is none or the two cannot be compared.
    """

    unfit: tuple[str, ...]
    outdone: tuple[str, ...]
    comparison: Comparison | None

    @property
    def refusals(self) -> tuple[str, ...]:
        return self.unfit + self.outdone


def judge(candidate: Candidate, champion: Candidate | None, policy: Policy) -> Judgement:
    """Judge a candidate against its floor and, where there is one, the champion."""
    unfit = _unfit(candidate, policy)
    if champion is None:
        return Judgement(unfit, candidate.objections, None)
    if incomparable := _incomparable(candidate, champion):
        return Judgement(unfit, incomparable + candidate.objections, None)
    films = sorted(champion.errors)
    comparison = compare(
        [candidate.errors[film] for film in films],
        [champion.errors[film] for film in films],
        [champion.groups[film] for film in films],
        policy.bootstrap,
        policy.seed,
    )
    mean = sum(champion.errors.values()) / len(films)
    outdone = _outdone(comparison, mean, candidate.unit, policy) + candidate.objections
    return Judgement(unfit, outdone, comparison)


def _unfit(candidate: Candidate, policy: Policy) -> tuple[str, ...]:
    reasons = []
    if candidate.key == "untracked":
        reasons.append("it was not built by DVC, so nothing says what it was made from: run `dvc repro`")
    floor = candidate.against_floor
    if policy.require_floor and not candidate.beats_floor:
        if floor.low is None or floor.high is None:
            found = f"{floor.n_groups} groups in the gate set are too few for an interval"
        else:
            found = f"error difference {floor.mean_difference:+.4g} {candidate.unit}"
            found += f", interval {floor.low:+.4g} to {floor.high:+.4g}"
        reasons.append(f"it does not beat its floor '{floor.floor}' on the gate set ({found})")
    return tuple(reasons)


def _incomparable(candidate: Candidate, champion: Candidate) -> tuple[str, ...]:
    if candidate.gate_sha256 != champion.gate_sha256:
        return (
            f"the champion was judged on another gate set ({_gate(champion)}) than the candidate "
            f"({_gate(candidate)}), so their errors cannot be compared: rebuild and promote the champion on "
            "the present gate set first, or use --force with a --reason",
        )
    if candidate.unit != champion.unit:
        return (f"its errors are in {candidate.unit}, the champion's in {champion.unit}",)
    if lacking := sorted(champion.errors.keys() - candidate.errors.keys()):
        shown = ", ".join(lacking[:10]) + (", ..." if len(lacking) > 10 else "")
        return (f"it has no error for {len(lacking)} gate films that the champion answered: {shown}",)
    return ()


def _gate(candidate: Candidate) -> str:
    return f"{candidate.gate_sha256[:12]}, {candidate.n_gate} films"


def _outdone(comparison: Comparison, champion_mean: float, unit: str, policy: Policy) -> tuple[str, ...]:
    found = compared(comparison, unit)
    if comparison.verdict == "too few groups":
        needed = policy.bootstrap.minimum_groups
        return (f"the gate set has {comparison.n_groups} groups, an interval needs {needed}: {found}",)
    if policy.against_champion == "better" and comparison.verdict != "better":
        return (f"it is not better than the champion beyond doubt: {found}",)
    if comparison.verdict == "worse":
        return (f"it is worse than the champion: {found}",)
    if comparison.mean_difference > policy.tolerance * champion_mean:
        return (f"its mean error exceeds the champion's by more than {policy.tolerance:.1%}: {found}",)
    return ()
