"""What takes up space, as tables for a person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from rich.table import Table

from flows.disk import Area, Holding
from flows.disk.cleaning import Plan, Wish
from flows.disk.inventory import Inventory

TITLES = {
    Area.CACHE: "DVC's cache",
    Area.CHECKPOINTS: "unfinished work",
    Area.MLFLOW: "MLflow's copies",
    Area.PREFECT: "Prefect",
    Area.OUTPUTS: "outputs in the checkout",
    Area.RECORDS: "records, kept for good",
}
_LARGEST = 8
"""Outputs that are listed one by one."""


def mb(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"


def tables(found: Inventory) -> Iterator[Table | str]:
    """A table of everything, then the largest outputs, then what could not be looked at."""
    table = Table("what", "size", "files", "for what", title="on disk")
    for area, title in TITLES.items():
        rows = list(_merged(h for h in found.holdings if h.area is area))
        total = sum(row.bytes for row in rows)
        table.add_row(f"[bold]{title}", f"[bold]{mb(total)}", "", "")
        for row in rows if area is not Area.OUTPUTS else _by_lane(rows):
            table.add_row(f"  {row.what}", mb(row.bytes), str(row.count), row.why)
    yield table
    largest = sorted((h for h in found.holdings if h.area is Area.OUTPUTS), key=lambda h: -h.bytes)
    outputs = Table("largest outputs", "size", "")
    for holding in largest[:_LARGEST]:
        outputs.add_row(holding.what, mb(holding.bytes), holding.why)
    yield outputs
    yield from found.notes


def _merged(holdings: Iterable[Holding]) -> Iterator[Holding]:
    """Holdings of one kind and reason as one, apart from their age."""
    groups: dict[tuple[str, str], list[Holding]] = defaultdict(list)
    for holding in holdings:
        groups[holding.what, holding.why].append(holding)
    for (what, why), group in groups.items():
        size, count = sum(h.bytes for h in group), sum(h.count for h in group)
        yield Holding(group[0].area, what, size, why, count=count)


def _by_lane(rows: Iterable[Holding]) -> Iterator[Holding]:
    """Outputs by the folder and lane that they lie in."""
    places = (Holding(row.area, "/".join(row.what.split("/")[:2]), row.bytes, "") for row in rows)
    yield from sorted(_merged(places), key=lambda row: row.what)


def plan_lines(plan: Plan, wish: Wish, done: bool) -> Iterator[Table | str]:
    """What a clean-up removes and keeps, and how to go on."""
    table = Table("area", "what", "size", "removed" if done else "would be removed", "why")
    for going, holdings in ((True, plan.going), (False, plan.kept)):
        for row in _merged(holdings):
            table.add_row(row.area, row.what, mb(row.bytes), "yes" if going else "", row.why)
    yield table
    yield from plan.notes
    yield f"{mb(plan.bytes)} {'freed' if done else 'would be freed'}"
    if not done and plan.going:
        names = " ".join(f"--{area}" for area in Area if area in wish.areas)
        yield f"Nothing was removed. To do it: `plumbline clean {names} --yes`, with the same other options."
