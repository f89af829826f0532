"""Decisions in words, for the terminal and for MLflow's pages."""

from __future__ import annotations

from flows.registry.log import Event, Registered
from stages.core.evaluate.statistics import Comparison
from stages.core.promotion.candidate import Candidate


def compared(comparison: Comparison, unit: str) -> str:
    """A comparison in one line; negative differences are in the candidate's favour."""
    if comparison.low is None or comparison.high is None:
        interval = "no interval"
    else:
        interval = f"interval {comparison.low:+.4g} to {comparison.high:+.4g}"
    return (
        f"error differs by {comparison.mean_difference:+.4g} {unit} from the champion's ({interval}, "
        f"{comparison.n_films} films of {comparison.n_groups} patients or groups)"
    )


def outcome(entry: Event, unit: str) -> str:
    """What a promotion came to."""
    listed = "".join(f"\n  - {refusal}" for refusal in entry.refusals)
    if entry.event == "refused":
        what = f"candidate {entry.key[:12]}" if entry.version is None else f"version {entry.version}"
        stays = f"version {entry.source} stays champion" if entry.source else "there is no champion"
        return f"{what} is not promoted; {stays}:{listed}"
    was = f" (was {entry.source})" if entry.source else ", the first"
    if entry.forced:
        return f"version {entry.version} is champion{was}, forced in spite of:{listed}"
    difference = f": {compared(entry.comparison, unit)}" if entry.comparison else ""
    return f"version {entry.version} is champion{was}{difference}"


def description(candidate: Candidate, registered: Registered, version: int) -> str:
    """What MLflow shows beside a version: its figures on the gate set, and what was decided about it last."""
    mean = sum(candidate.errors.values()) / len(candidate.errors)
    floor = candidate.against_floor.floor
    beaten = "beaten" if candidate.beats_floor else "not beaten beyond doubt"
    said = (
        f"Mean gate error {mean:.4g} {candidate.unit} over {len(candidate.errors)} films; "
        f"its strongest floor, {floor}, reaches {candidate.floors[floor]:.4g} and is {beaten}."
    )
    verdict = registered.verdicts.get(version)
    if verdict is not None:
        said += f"\n\n{verdict.when:%Y-%m-%d}, {verdict.who}: {outcome(verdict, candidate.unit)}"
        said += f"\n\nReason: {verdict.why}" if verdict.why else ""
    taken = registered.withdrawn.get(candidate.key)
    if taken is not None:
        said += f"\n\n{taken.when:%Y-%m-%d}, {taken.who}: rolled back to version {taken.target}."
        said += f" Reason: {taken.why}" if taken.why else ""
    return said
