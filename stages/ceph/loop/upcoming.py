"""The loop page's sections on labels: what the round learned from, and what the next one would."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, get_args

import numpy as np

from stages.ceph.schema import CEPH
from stages.core.report.charts import columns
from stages.core.report.markup import Child
from stages.core.report.page import Cell, Page, grid, note, picture, stack, table
from stages.core.report.wording import count, figure
from stages.core.review.events import Provenance

if TYPE_CHECKING:
    from stages.ceph.dashboard import LoopEvidence

MEANING = {
    "accepted": "left where the model had put it",
    "corrected": "moved by a reviewer",
    "not_visible": "not on the film; nothing to learn",
    "unsure": "for a second reader; nothing to learn",
    "conflicting": "readers disagree; nothing to learn",
}


def add_learned(page: Page, found: LoopEvidence) -> None:
    """Labels by provenance, over all and by landmark, and how many samples training saw."""
    labels = found.labels
    kinds: list[str] = list(get_args(Provenance))
    rows: list[list[Child | Cell]] = []
    for kind in kinds:
        own = labels[labels["provenance"] == kind]
        weight = own.loc[own["weight"] > 0, "weight"]
        shown = f"{weight.mean():.2f}" if len(weight) else "–"
        words = kind.replace("_", " ")
        rows.append([words, f"{len(own):,}", f"{own['id'].nunique():,}", shown, MEANING[kind]])
    by_landmark = labels.groupby(["landmark", "provenance"]).size().unstack(fill_value=0)
    by_landmark = by_landmark.reindex(index=CEPH.names, columns=kinds, fill_value=0)
    drawn = columns(
        [name.replace("_", " ") for name in CEPH.names],
        [
            (k, s, by_landmark[k].to_numpy(float))
            for k, s in (("accepted", "model"), ("corrected", "prediction"))
        ],
        "landmark",
        "labels",
        "Labels of each landmark by what reviewers did",
        width=540,
        height=330,
        slanted=True,
    )
    films = labels.loc[labels["weight"] > 0, "id"].nunique()
    said = note(
        f"The base learned from {count(found.base.n_train, 'film')}; the round went on from it with "
        f"{count(int((labels['weight'] > 0).sum()), 'point')} on {count(films, 'reviewed film')}, mixed with films of "
        "the base, so that it forgets none of them. Masked points cost nothing."
    )
    shown = table(["Label", "Points", "Films", "Mean weight", ""], rows, numeric=(1, 2, 3))
    content = grid(stack(shown, said), picture(drawn, "By landmark; points without a place are left out."))
    page.add(
        "learned",
        "What the round learned from",
        content,
        lead="Events folded into labels, undone ones left out.",
    )


def add_next(page: Page, found: LoopEvidence) -> None:
    """Films of the queue that nobody has opened, and where the model expects to be wrong on them."""
    seen = set(found.reviews.sittings["film"])
    waiting = found.queue[~found.queue["id"].isin(seen)]
    lead = (
        "The rest of the queue. How much another round would gain is not said: with two points a learning curve "
        "cannot be fitted."
    )
    if waiting.empty:
        words = (
            "Every film of the queue was opened: the next round needs films, or a queue made with this model."
        )
        page.add("next", "What the next round would learn from", note(words), lead=lead)
        return
    kinds = Counter(waiting["kind"])
    reasons = Counter(str(reason).partition(":")[0].replace("_", " ") for reason in waiting["reason"])
    rows: list[list[Child | Cell]] = [
        [kind.replace("_", " "), f"{n:,}"]
        for kind, n in sorted(kinds.items(), key=lambda kv: (-kv[1], kv[0]))
    ]
    why: list[list[Child | Cell]] = [
        [reason.replace("_", " "), f"{n:,}"]
        for reason, n in sorted(reasons.items(), key=lambda kv: (-kv[1], kv[0]))[:8]
    ]
    errors = np.stack([np.asarray(e, float) for e in waiting["expected_error"]])
    drawn = columns(
        [name.replace("_", " ") for name in CEPH.names],
        [("expected error", "model", errors.mean(0))],
        "landmark",
        "expected error (raw px)",
        "Expected error of each landmark on films that wait",
        width=540,
        height=330,
        slanted=True,
    )
    worst = [CEPH.names[k].replace("_", " ") for k in np.argsort(-errors.mean(0), kind="stable")[:3]]
    said = note(
        f"{count(waiting['id'].nunique(), 'film')} wait. The model expects to be wrong most at {', '.join(worst)} "
        f"(mean over all points {figure(float(errors.mean()))} px)."
    )
    content = grid(
        stack(
            table(["Films that wait", "Rows"], rows, numeric=(1,)),
            table(["Reason", "Rows"], why, numeric=(1,)),
            said,
        ),
        picture(drawn, "Mean expected error on the films that wait."),
    )
    page.add("next", "What the next round would learn from", content, lead=lead)
