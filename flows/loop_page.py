"""The loop's page with what only a checkout knows: `plumbline dashboard LANE`.

ceph-dashboard's page follows from its inputs and is an output of DVC. Which model is champion, who deployed what
and why, and how long training took are none: they come from the registry's log and shelf and from the journal,
and the page that says them lies beside these, outside every output.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.registry.log import Event, Registered, fold, read_log
from flows.registry.shelf import shelved
from stages.core.errors import StageError
from stages.core.model.card import load_card
from stages.core.params import load_params, lookup, parse_params
from stages.core.report.wording import figure
from stages.core.tracking.journal import read_journal

if TYPE_CHECKING:
    from stages.ceph.dashboard import Checkout

LANES = ("ceph",)
"""lanes with a loop"""
PAGES = Path(".plumbline") / "pages"
TRAINED = ("base", "tuned")
"""model folders of a round, each by the stage of its name"""


def write_loop_page(root: Path, lane: str) -> Path:
    """Write the page from what the last build left; returns its place.

    Raises:
        StageError: the lane has no loop, or an input is not there.
    """
    if lane not in LANES:
        raise StageError(f"the lane {lane} does not learn from reviewers; there is {', '.join(LANES)}")

    from stages.ceph.dashboard import LoopEvidence, Params, loop_page
    from stages.core.review.events import read_events

    tree = parse_params(root / "params.yaml")
    models = root / "models" / lane
    found = LoopEvidence.read(
        root / "reports" / lane / "evaluation",
        read_events(root / str(lookup(tree, f"{lane}.events"))),
        root / "data" / lane / "labels.parquet",
        root / "data" / lane / "queue.parquet",
        root / "reports" / lane / "verdict.json",
        *(models / name for name in TRAINED),
    )
    page = loop_page(found, load_params(Params, root / "params.yaml"), what_is_known(root, lane))
    target = root / PAGES / f"{lane}-loop.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page.html(), encoding="utf-8")
    return target


def what_is_known(root: Path, lane: str) -> Checkout:
    """Registry and journal of the checkout, about the models that lie in models/<lane>."""
    from stages.ceph.dashboard import Checkout

    card = load_card(root / "models" / lane / TRAINED[-1])
    events = [event for event in read_log(root) if event.name == card.registry_name]
    registered = fold(events).get(card.registry_name) or Registered(card.registry_name)
    champion = registered.champion
    return Checkout(
        active=f"version {champion} of {card.registry_name}" if champion is not None else "none promoted yet",
        versions=tuple(_version(root, registered, number) for number in sorted(registered.versions)),
        deployments=deployments(events),
        training_s=training_seconds(root, lane),
    )


def training_seconds(root: Path, lane: str) -> dict[str, float]:
    """Stage -> seconds of the run that made the model folder; a model that another checkout made has none."""
    keys = {f"{lane}-{name}": load_card(root / "models" / lane / name).key for name in TRAINED}
    return {
        record.stage: record.seconds
        for record in read_journal(root).records
        if keys.get(record.stage) == record.key and not record.backfilled
    }


def deployments(events: Sequence[Event]) -> tuple[tuple[str, ...], ...]:
    """Promotions, refusals and rollbacks, newest first, as rows under `loop.model.DEPLOYMENTS`."""
    rows = []
    for entry in reversed(events):
        if entry.event == "registered":
            continue
        forced = " (forced)" if entry.forced else ""
        why = "; ".join([*([entry.why] if entry.why else []), *entry.refusals])
        numbers = ("" if v is None else str(v) for v in (entry.version, entry.source, entry.target))
        rows.append((f"{entry.when:%Y-%m-%d %H:%M}", entry.event + forced, *numbers, entry.who, why))
    return tuple(rows)


def _version(root: Path, registered: Registered, number: int) -> tuple[str, ...]:
    """A row under `loop.model.VERSIONS`."""
    given = registered.versions[number]
    aliases = ", ".join(alias for alias, version in registered.aliases.items() if version == number)
    shelf = shelved(root, registered.name, given.key)
    if shelf is None:
        return (str(number), f"{given.when:%Y-%m-%d %H:%M}", "–", "", "gone from the shelf", aliases)
    candidate = shelf.candidate
    mean = sum(candidate.errors.values()) / len(candidate.errors)
    objections = "; ".join(candidate.objections) or "none"
    return (
        str(number),
        f"{given.when:%Y-%m-%d %H:%M}",
        figure(mean),
        candidate.unit.replace("_", " "),
        objections,
        aliases,
    )
